/* Philox4x32-10, Bernoulli flips by comparing binary digits, random orders, CRC-32. */
#include "zob_fault.h"

#include <stddef.h>

void zob_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (uint32_t round = 0; round < 10u; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The flips of the 32 bits of one word: bit i flips where a uniform number U_i < rate. The binary digits of the U_i are
 * drawn from the most significant on, 32 at a time, until every comparison is decided; about seven draws a word. */
static uint32_t word_flips(uint32_t word, uint64_t rate_q64, uint64_t seed) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t undecided = 0xFFFFFFFFu, flips = 0, counter[4] = {word, 0u, 0u, 0u};
    for (; counter[1] < 16u && undecided; counter[1]++) {
        uint32_t random[4];
        zob_philox(counter, key, random);
        for (uint32_t i = 0; i < 4u; i++, rate_q64 <<= 1) {
            const uint32_t above = rate_q64 >> 63 ? random[i] : ~random[i]; /* ones where U is not decided by this digit */
            if (rate_q64 >> 63) flips |= undecided & ~above;                /* digit 0 < 1: U is below the rate */
            undecided &= above;                                             /* digit 1 > 0: U is above it */
        }
    }
    return flips;
}

static uint32_t count_ones(uint32_t x) {
    uint32_t n = 0;
    for (; x; x &= x - 1u) n++;
    return n;
}

uint32_t zob_inject(uint8_t *image, uint32_t first_bit, uint32_t bits, uint64_t rate_q64, uint64_t seed) {
    const uint32_t last_bit = first_bit + bits - 1u;
    uint32_t count = 0;
    if (bits == 0u || rate_q64 == 0u) return 0u;
    for (uint32_t word = first_bit / 32u; word <= last_bit / 32u; word++) {
        uint8_t *byte = image + 4u * (size_t)word;
        uint32_t flips = word_flips(word, rate_q64, seed);
        if (word == first_bit / 32u) flips &= 0xFFFFFFFFu << first_bit % 32u;
        if (word == last_bit / 32u) flips &= 0xFFFFFFFFu >> (31u - last_bit % 32u);
        count += count_ones(flips);
        for (; flips; flips >>= 8, byte++) *byte ^= (uint8_t)flips;
    }
    return count;
}

/* The smallest number whose square is at least x, of an x above 0. */
static uint32_t root_above(uint32_t x) {
    uint32_t root = 0;
    for (uint32_t bit = 0x8000u; bit; bit >>= 1) {
        if ((uint64_t)(root + bit) * (root + bit) < x) root += bit;
    }
    return root + 1u;
}

/* (high * 2^32 + low) % size, of a size of at most 2^16: by digits of 16 bits, so that 32 bits are enough. */
static uint32_t remainder_of(uint32_t high, uint32_t low, uint32_t size) {
    const uint32_t upper = (high % size << 16 | low >> 16) % size;
    return (upper << 16 | (low & 0xFFFFu)) % size;
}

uint32_t zob_permute(uint32_t index, uint32_t count, uint64_t seed) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t size[2] = {root_above(count), (count - 1u) / root_above(count) + 1u};
    do {
        uint32_t half[2] = {index % size[0], index / size[0]};
        for (uint32_t round = 0; round < 8u; round++) {
            const uint32_t counter[4] = {half[(round + 1u) % 2u], round, count, 1u};
            uint32_t random[4];
            uint32_t *const changed = &half[round % 2u];
            zob_philox(counter, key, random);
            const uint64_t sum = *changed + (((uint64_t)random[1] << 32 | random[0]) >> 1);
            *changed = remainder_of((uint32_t)(sum >> 32), (uint32_t)sum, size[round % 2u]);
        }
        index = half[0] + size[0] * half[1];
    } while (index >= count);
    return index;
}

uint32_t zob_crc32(uint32_t crc, const void *data, uint32_t bytes) {
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    const uint8_t *p = (const uint8_t *)data;
    crc = ~crc;
    for (uint32_t i = 0; i < bytes; i++) {
        crc ^= p[i];
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return ~crc;
}
