/* Convolutions over int8 with weights of one bit: sums of four taps for all 16 signs of them, made once a block of
 * pixels, are looked up by four bits of a filter and added.
 *
 * The four pixels' numbers a, b, c, d share 64 bits, as a + 2^16 b + 2^32 c + 2^48 d (modulo 2^64): it adds up as they
 * do, and gives them back as long as each fits 16 bits. */
#include "zob_bytes.h"

/* `high` plus the four sums of two numbers. */
static inline void add_signs(uint64_t *table, uint64_t high, uint64_t plus, uint64_t minus) {
    table[0] = high + plus;
    table[1] = high - minus;
    table[2] = high + minus;
    table[3] = high - plus;
}

/* The 16 sums of +-taps[0] to +-taps[3]; bit i of an index is the sign of tap i. */
static inline void tabulate(const uint64_t *taps, uint64_t *table) {
    const uint64_t plus = taps[0] + taps[1], minus = taps[0] - taps[1];
    const uint64_t high_plus = taps[2] + taps[3], high_minus = taps[2] - taps[3];
    add_signs(table, high_plus, plus, minus);
    add_signs(table + 4, 0u - high_minus, plus, minus);
    add_signs(table + 8, high_minus, plus, minus);
    add_signs(table + 12, 0u - high_plus, plus, minus);
}

/* Gather a block's taps and tabulate the sums of every quad. Missing pixels repeat the last one. */
static void prepare(const zob_byte_conv *b, const zob_four *block, uint32_t group, uint64_t *taps, uint64_t *table) {
    const uint32_t bytes = 4u * b->quads;
    const uint64_t zeros = 0x0001000100010001u * (uint64_t)(int64_t)b->c->in->zero_point;
    int8_t *patch = (int8_t *)table;
    zob_place place = block->place;
    for (uint32_t i = 0; i < 4u; i++, patch += bytes) {
        memset(patch + bytes - 4u, b->c->in->zero_point, 4u);
        zob_gather_bytes(b, &place, group * b->channels, patch);
        if (i + 1u < block->count) zob_advance(b, &place);
    }
    patch = (int8_t *)table;
    for (uint32_t t = 0; t < bytes; t++, patch++) {
        const int32_t front = patch[0] + patch[bytes] * 65536, back = patch[2u * bytes] + patch[3u * bytes] * 65536;
        taps[t] = (uint64_t)(int64_t)front + ((uint64_t)(uint32_t)back << 32) - zeros;
    }
    for (uint32_t quad = 0; quad < b->quads; quad++) tabulate(taps + 4u * quad, table + 16u * quad);
}

/* The sum that four bits look up in the table of a quad. */
static inline uint64_t found(const uint64_t *table, uint32_t bits, uint32_t quad) {
    table += bits >> 4u * quad & 15u;
#if defined(__thumb2__)
    __asm__("" : "+r"(table)); /* GCC would add the quad's place to the index, not to the address where it costs nothing. */
#endif
    return table[16u * quad];
}

/* Sums of up to eight quads of a filter. */
static inline uint64_t look_up(const uint64_t *table, uint32_t bits, uint32_t quads) {
    uint64_t sums = 0;
    switch (quads) {
    default:
        sums += found(table, bits, 7u); /* fall through */
    case 7:
        sums += found(table, bits, 6u); /* fall through */
    case 6:
        sums += found(table, bits, 5u); /* fall through */
    case 5:
        sums += found(table, bits, 4u); /* fall through */
    case 4:
        sums += found(table, bits, 3u); /* fall through */
    case 3:
        sums += found(table, bits, 2u); /* fall through */
    case 2:
        sums += found(table, bits, 1u); /* fall through */
    case 1:
        sums += found(table, bits, 0u);
    }
    return sums;
}

/* Add a + 2^16 b to two sums. */
static inline void separate(uint32_t word, int32_t *sums) {
    const int32_t first = (int16_t)word;
    sums[0] += first;
    sums[1] += (int32_t)(word - (uint32_t)first) >> 16;
}

/* The sums of one filter. 32 taps at a time fit 16 bits. */
static inline zob_sums sums_of(const zob_byte_conv *b, const uint64_t *table, uint32_t filter) {
    zob_sums sums = {{0, 0, 0, 0}};
    uint32_t bit = filter * b->taps, quads = b->quads;
    for (;;) {
        const uint64_t all = look_up(table, zob_weight_bits(b, bit), quads);
        const uint32_t low = (uint32_t)all;
        separate(low, &sums.of[0]);
        separate((uint32_t)(all >> 32) + (low >> 31), &sums.of[2]);
        if (quads <= 8u) return sums;
        quads -= 8u;
        bit += 32u;
        table += 8u * 16u;
    }
}

void zob_block_of_signs(const zob_byte_conv *b, const zob_four *block, uint32_t group) {
    uint64_t *taps = (uint64_t *)(void *)b->scratch, *table = taps + 4u * b->quads;
    const zob_interval *const intervals = b->sink->intervals;
    const int decided = zob_decided_by_integers(b);
    const uint32_t first = group * b->filters;
    prepare(b, block, group, taps, table);
    for (uint32_t o = first + b->filters; o > first;) {
        const uint32_t begin = zob_word_begin(first, o);
        zob_bits bits = {{0, 0, 0, 0}};
        while (o > begin) {
            const zob_sums sums = sums_of(b, table, --o);
            if (decided) {
                zob_decide(intervals[o], &sums, &bits);
            } else {
                zob_emit_sums(b, block, o, sums);
            }
        }
        if (decided) zob_put_pixel_bits(b, block, begin, bits);
    }
}
