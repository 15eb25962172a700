/* Binary convolution by tables: what becomes of the sums of a block, pixel after pixel. */
#include <string.h>

#include "zob_binary.h"
#include "zob_rows.h"

/* Bits that fill a word, or half of one. */
static void put_whole(const zob_block *b, uint32_t pixel, uint32_t pixels, const uint32_t *sums) {
    const size_t line = 4u * (size_t)b->sink->words;
    uint8_t *to = (uint8_t *)b->sink->binary + pixel * line + b->first / 8u;
    for (; pixels > 0u; pixels--, to += line, sums += ZOB_SUM_WORDS) {
        const uint32_t bits = zob_signs(sums) ^ b->inverted;
        memcpy(to, &bits, ZOB_BLOCK / 8u);
    }
}

static void put_bits(const zob_block *b, uint32_t pixel, uint32_t pixels, const uint32_t *sums) {
    for (; pixels > 0u; pixels--, pixel++, sums += ZOB_SUM_WORDS) {
        zob_put_bits(b->sink, pixel, b->first, b->filters, zob_signs(sums) ^ b->inverted);
    }
}

/* 8 or 16 words. */
static void copy_sums(uint32_t *to, const uint32_t *from, uint32_t words) {
    memcpy(to, from, 32u);
    if (words > 8u) memcpy(to + 8, from + 8, 32u);
}

/* Keep the sums of the high plane as they are; or let them decide which of the low plane's count. */
static ZOB_NOINLINE void put_gated(const zob_block *b, uint32_t pixel, uint32_t pixels, int32_t most, const uint32_t *sums) {
    const uint32_t words = ZOB_BLOCK <= 16u || b->filters <= 16u ? 8u : 16u;
    uint32_t *high = (uint32_t *)(void *)b->high + pixel * words;
    for (; pixels > 0u; pixels--, pixel++, sums += ZOB_SUM_WORDS, high += words) {
        int32_t results[ZOB_MAX_BLOCK];
        if (b->gate == ZOB_HIGH_PLANE) {
            copy_sums(high, sums, words);
        } else {
            zob_unpack_gated(results, high, sums, most, b->limits, words);
            zob_emit_block(b->sink, pixel, b->first, b->filters, results);
        }
    }
}

void zob_put_counts(const zob_block *b, uint32_t pixel, uint32_t pixels, uint32_t missing, const uint32_t *sums) {
    const int32_t most = (int32_t)(b->taps * b->channels - missing) + 2 * (int32_t)ZOB_BIAS;
    if (zob_decides_bits(b) && b->filters == ZOB_BLOCK && b->first % ZOB_BLOCK == 0u) {
        put_whole(b, pixel, pixels, sums);
    } else if (zob_decides_bits(b)) {
        put_bits(b, pixel, pixels, sums);
    } else if (ZOB_HAS(ZOB_OP_GATED_CONV) && b->gate != ZOB_NO_GATE) {
        put_gated(b, pixel, pixels, most, sums);
    } else {
        for (; pixels > 0u; pixels--, pixel++, sums += ZOB_SUM_WORDS) {
            int32_t results[ZOB_BLOCK];
            zob_unpack(results, sums, most);
            zob_emit_block(b->sink, pixel, b->first, b->filters, results);
        }
    }
}
