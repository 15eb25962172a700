/* Parameters that cost a few instructions more to read, so that flipped bits do less: codes with redundant bits, scales
 * that lie in memory themselves, and floats that are narrower or limited as they are read (docs/spec.md, "Protection"). */
#include <string.h>

#include "zob_internal.h"

/* What became of a cell as it was read. */
typedef enum { SOUND, CORRECTED, LOST } fate;

/* Reading a parameter's codes one after the other; of SECDED words the last one read is kept. */
typedef struct {
    const zob_parameter *p;
    const uint32_t *words; /* the first code's bits */
    uint32_t kept;         /* index of the word of 64 bits kept, */
    uint64_t word;         /* and its bits, corrected */
} reader;

static uint32_t voted(uint32_t a, uint32_t b, uint32_t c) { return (a & b) | (c & (a | b)); }

/* `count` bits, 1 to 32, from bit `bit` on. Regions begin at words, so that no word beyond the last bit's is read. */
static ZOB_INLINE uint32_t bits_at(const uint32_t *words, uint32_t bit, uint32_t count) {
    const uint32_t shift = bit % 32u;
    uint32_t value = words[bit / 32u] >> shift;
    if (shift > 0u && shift + count > 32u) value |= words[bit / 32u + 1u] << (32u - shift);
    return count == 32u ? value : value & (((uint32_t)1 << count) - 1u);
}

static uint32_t scales_words(const zob_parameter *p) {
    return p->scales == ZOB_SCALES_TMR ? 6u : p->scales == ZOB_SCALES_RAM ? 2u : 0u;
}

static uint32_t cell_bits(const zob_parameter *p) {
    return p->protection == ZOB_PROTECTION_HAMMING ? 12u : p->bits + 2u * p->voted;
}

static uint32_t secded_words(const zob_parameter *p) {
    return (uint32_t)(((uint64_t)p->count * p->bits + 63u) / 64u);
}

uint64_t zob_stored_bits(const zob_parameter *p) {
    if (p->row) return p->count / p->row * 32u * (uint64_t)zob_words(p->row);
    if (!ZOB_HAS_KERNEL(ZOB_KERNEL_PROTECTED)) return (uint64_t)p->count * p->bits;
    if (p->protection == ZOB_PROTECTION_SECDED) return 72u * (uint64_t)secded_words(p) + 32u * scales_words(p);
    return (uint64_t)p->count * cell_bits(p) + 32u * scales_words(p);
}

/* Hamming's numbering: data bits have the positions that are no powers of two. 32 at a check bit's. */
static uint32_t data_bit(uint32_t position) {
    uint32_t length = 0;
    if ((position & (position - 1u)) == 0u) return 32u;
    for (uint32_t rest = position; rest > 0u; rest >>= 1) length++;
    return position - length - 1u;
}

/* The four check bits of each lower and each upper half of a byte. */
static const uint8_t low_checks[16] = {0, 3, 5, 6, 6, 5, 3, 0, 7, 4, 2, 1, 1, 2, 4, 7};
static const uint8_t high_checks[16] = {0, 9, 10, 3, 11, 2, 1, 8, 12, 5, 6, 15, 7, 14, 13, 4};

static uint32_t repaired(uint32_t code, uint32_t syndrome, fate *f) {
    const uint32_t bit = data_bit(syndrome);
    *f = syndrome > 12u ? LOST : CORRECTED;
    return syndrome > 12u || bit == 32u ? code : code ^ (uint32_t)1 << bit;
}

static ZOB_INLINE uint32_t hamming_code(const reader *r, uint32_t index, fate *f) {
    const uint32_t cell = bits_at(r->words, 12u * index, 12u), code = cell & 0xFFu;
    const uint32_t syndrome = (uint32_t)(low_checks[cell & 15u] ^ high_checks[code >> 4]) ^ cell >> 8;
    *f = SOUND;
    return syndrome == 0u ? code : repaired(code, syndrome, f);
}

static ZOB_INLINE uint32_t voted_code(const reader *r, uint32_t index, fate *f) {
    const uint32_t bits = r->p->bits, top = r->p->voted, cell = bits + 2u * top, low = bits - top;
    uint32_t code, a, b, c;
    if (cell <= 32u) {
        const uint32_t all = bits_at(r->words, index * cell, cell), mask = ((uint32_t)1 << top) - 1u;
        code = all & (((uint32_t)1 << low) - 1u);
        a = all >> low & mask, b = all >> bits & mask, c = all >> (bits + top);
    } else {
        const uint32_t at = index * cell;
        code = low ? bits_at(r->words, at, low) : 0u;
        a = bits_at(r->words, at + low, top), b = bits_at(r->words, at + bits, top);
        c = bits_at(r->words, at + bits + top, top);
    }
    *f = a == b && a == c ? SOUND : CORRECTED;
    return low == 32u ? code : code | voted(a, b, c) << low;
}

static uint32_t parity(uint64_t x) {
    uint32_t y = (uint32_t)(x ^ x >> 32);
    y ^= y >> 16;
    y ^= y >> 8;
    y ^= y >> 4;
    return (uint32_t)0x6996u >> (y & 15u) & 1u;
}

/* Word `index` of 64 bits, put right where one of its 72 bits is wrong. */
static ZOB_NOINLINE uint64_t secded_word(const reader *r, uint32_t index, fate *f) {
    /* Bit j of the syndrome covers the data bits whose position has bit j. */
    static const uint64_t covered[7] = {0xAB55555556AAAD5Bu, 0xCD9999999B33366Du, 0xF1E1E1E1E3C3C78Eu, 0x01FE01FE03FC07F0u,
                                        0x01FFFE0003FFF800u, 0x01FFFFFFFC000000u, 0xFE00000000000000u};
    const uint8_t check = ((const uint8_t *)(r->words + 2u * secded_words(r->p)))[index];
    uint64_t word = (uint64_t)r->words[2u * index + 1u] << 32 | r->words[2u * index];
    uint32_t syndrome = check & 127u, bit;
    for (uint32_t j = 0; j < 7u; j++) syndrome ^= parity(word & covered[j]) << j;
    if (parity(word ^ check) == 0u) {
        *f = syndrome ? LOST : SOUND;
        return word;
    }
    *f = syndrome > 71u ? LOST : CORRECTED;
    if (syndrome > 71u || (syndrome & (syndrome - 1u)) == 0u) return word;
    bit = data_bit(syndrome);
    word ^= (uint64_t)1 << bit;
    return word;
}

/* The data of a word, kept for the next code. */
static uint64_t kept_word(reader *r, uint32_t at) {
    if (at != r->kept) {
        fate unused;
        r->word = secded_word(r, at, &unused);
        r->kept = at;
    }
    return r->word;
}

static ZOB_INLINE uint32_t secded_code(reader *r, uint32_t index) {
    const uint32_t bits = r->p->bits, shift = index * bits % 64u, at = index * bits / 64u;
    uint64_t value = kept_word(r, at) >> shift;
    if (shift > 0u && shift + bits > 64u) value |= kept_word(r, at + 1u) << (64u - shift);
    return bits == 32u ? (uint32_t)value : (uint32_t)value & (((uint32_t)1 << bits) - 1u);
}

static reader reader_of(const zob_parameter *p, const uint8_t *image) {
    reader r = {p, (const uint32_t *)(const void *)(image + p->offset) + scales_words(p), ZOB_NONE, 0};
    return r;
}

static ZOB_INLINE uint32_t plain_code(const reader *r, uint32_t index) {
    return bits_at(r->words, index * r->p->bits, r->p->bits);
}

static uint32_t any_code(reader *r, uint32_t index) {
    fate unused;
    switch (r->p->protection) {
    case ZOB_PROTECTION_HAMMING:
        return hamming_code(r, index, &unused);
    case ZOB_PROTECTION_VOTED:
        return voted_code(r, index, &unused);
    case ZOB_PROTECTION_SECDED:
        return secded_code(r, index);
    default:
        return plain_code(r, index);
    }
}

static float as_float(uint32_t word) {
    float x;
    memcpy(&x, &word, 4u);
    return x;
}

static float of_half(uint32_t h) {
    const uint32_t exponent = h >> 10 & 31u, fraction = h & 1023u, sign = h >> 15 << 31;
    if (exponent == 0u) {
        const float small = (float)fraction * 5.9604644775390625e-8f;
        return sign ? -small : small;
    }
    return as_float(sign | (exponent == 31u ? 255u : exponent + 112u) << 23 | fraction << 13);
}

static float of_word(const zob_parameter *p, uint32_t word) {
    float x;
    if (p->encoding == ZOB_ENCODING_FLOAT16) return of_half(word);
    if (p->encoding == ZOB_ENCODING_GUARDED && (word >> 23 & 255u) > (uint32_t)p->zero_point) {
        word = (word & 0x807FFFFFu) | (uint32_t)p->zero_point << 23;
    }
    x = as_float(word);
    if (p->encoding == ZOB_ENCODING_CLAMPED) {
        if (x != x) x = 0.0f;
        if (x < p->low) x = p->low;
        if (x > p->high) x = p->high;
    }
    return x;
}

/* A scale and zero point that flipped may be anything: the difference wraps around. */
static ZOB_INLINE float of_code(float scale, uint32_t zero_point, uint32_t code) {
    return scale * (float)(int32_t)(code - zero_point);
}

void zob_decode_protected(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, float *out) {
    const uint32_t *s = (const uint32_t *)(const void *)(image + p->offset), end = first + count;
    reader r = reader_of(p, image);
    float scale = p->scale;
    uint32_t zero_point = (uint32_t)p->zero_point;
    fate unused;
    if (p->scales != ZOB_SCALES_FLASH) {
        const int three = p->scales == ZOB_SCALES_TMR;
        scale = as_float(three ? voted(s[0], s[2], s[4]) : s[0]);
        zero_point = three ? voted(s[1], s[3], s[5]) : s[1];
    }
    if (p->encoding != ZOB_ENCODING_UNIFORM) {
        for (uint32_t i = first; i < end; i++) *out++ = of_word(p, any_code(&r, i));
    } else if (p->protection == ZOB_PROTECTION_HAMMING) {
        for (uint32_t i = first; i < end; i++) *out++ = of_code(scale, zero_point, hamming_code(&r, i, &unused));
    } else if (p->protection == ZOB_PROTECTION_VOTED) {
        for (uint32_t i = first; i < end; i++) *out++ = of_code(scale, zero_point, voted_code(&r, i, &unused));
    } else {
        for (uint32_t i = first; i < end; i++) *out++ = of_code(scale, zero_point, any_code(&r, i));
    }
}

void zob_correct_codes(const zob_parameter *p, const uint8_t *image, uint8_t *out) {
    reader r = reader_of(p, image);
    uint32_t window = 0, held = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        window |= any_code(&r, i) << held;
        for (held += p->bits; held >= 8u; held -= 8u, window >>= 8) *out++ = (uint8_t)window;
    }
    *out = (uint8_t)window;
}

static void note(fate f, zob_health *health) {
    health->corrected += f == CORRECTED;
    health->lost += f == LOST;
}

static void check_parameter(const zob_parameter *p, const uint8_t *image, zob_health *health) {
    const uint32_t *s = (const uint32_t *)(const void *)(image + p->offset);
    const uint32_t cells = p->protection == ZOB_PROTECTION_SECDED ? secded_words(p) : p->count;
    reader r = reader_of(p, image);
    if (p->scales == ZOB_SCALES_TMR) {
        note(s[0] == s[2] && s[0] == s[4] && s[1] == s[3] && s[1] == s[5] ? SOUND : CORRECTED, health);
    }
    if (p->protection == ZOB_PROTECTION_NONE) return;
    for (uint32_t i = 0; i < cells; i++) {
        fate f = SOUND;
        if (p->protection == ZOB_PROTECTION_HAMMING) {
            hamming_code(&r, i, &f);
        } else if (p->protection == ZOB_PROTECTION_VOTED) {
            voted_code(&r, i, &f);
        } else {
            secded_word(&r, i, &f);
        }
        note(f, health);
    }
}

zob_status zob_check(const zob_model *model, const void *image, uint32_t image_bytes, zob_health *health) {
    if (!model || !image || !health || (uintptr_t)image % 4u) return ZOB_E_ARGUMENT;
    if (image_bytes != model->header->image_bytes) return ZOB_E_IMAGE;
    health->corrected = health->lost = 0u;
    for (uint32_t i = 0; ZOB_HAS_KERNEL(ZOB_KERNEL_PROTECTED) && i < model->header->parameters; i++) {
        check_parameter(&model->parameters[i], (const uint8_t *)image, health);
    }
    return ZOB_OK;
}
