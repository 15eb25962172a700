/* Rows of counts: what zob_table.c needs of a core. Filters in blocks of ZOB_BLOCK; for every four bits of input there
 * is a *group* of 16 rows, row i holding, in four bits for each filter, in how many bits i and its weights differ. */
#ifndef ZOB_ROWS_H
#define ZOB_ROWS_H

#include "zob_core.h"

/* What follows a stretch, if not the next one at once. */
#define ZOB_WIDEN 1
#define ZOB_END 2

#ifndef __ASSEMBLER__
#include <stdint.h>

#ifdef ZOB_MVE
#define ZOB_BLOCK 32u
#else
#define ZOB_BLOCK 16u
#endif
#define ZOB_ROW_WORDS (ZOB_BLOCK / 8u)
#define ZOB_GROUP_WORDS (16u * ZOB_ROW_WORDS)
#define ZOB_SUM_WORDS (ZOB_BLOCK / 2u) /* the sums of a block at one pixel: sixteen bits a filter */
#define ZOB_BIAS 0x8000u /* where sums begin, less the limit: then their highest bits are the results */

/* Counts are of eight bits at first, and widened to sixteen after at most so many words of 32 (or 16) bits. */
#define ZOB_WIDEN_WORDS 6u
#define ZOB_WIDEN_HALVES 15u

/* The filter of a block whose counts are in a word of the rows, four bits from bit 4 * nibble on; and the half-word of
 * the sums where they go. */
#ifdef ZOB_MVE
static inline uint32_t zob_filter_of(uint32_t word, uint32_t nibble) {
    return 4u * word + (nibble >> 1) + 16u * (nibble & 1u);
}
static inline uint32_t zob_sum_of(uint32_t filter) {
    return 16u * (filter >> 4) + 8u * (filter & 1u) + ((filter & 15u) >> 1);
}
#define ZOB_PAIR 2u /* from the filter in the lower half of a word of sums to that in the upper half */
static inline uint32_t zob_filter_of_sum(uint32_t word) {
    return 16u * (word >> 3) + 4u * (word & 3u) + ((word >> 2) & 1u);
}
#else
static inline uint32_t zob_filter_of(uint32_t word, uint32_t nibble) {
    return 4u * word + 2u * (nibble & 1u) + ((nibble >> 1) & 1u) + 8u * (nibble >> 2);
}
static inline uint32_t zob_sum_of(uint32_t filter) { return 2u * (filter & 7u) + (filter >> 3); }
#define ZOB_PAIR 8u
static inline uint32_t zob_filter_of_sum(uint32_t word) { return word; }
#endif

/* Consecutive words of the input, and the groups of their taps. */
typedef struct {
    uint32_t offset; /* bytes from the pixel's place in the input */
    uint32_t words;  /* at least 1 */
    uint32_t table;  /* bytes from `tables` to the groups of the first word, from its bit 0 on; the next word's follow */
    uint32_t then;   /* what follows: 0 the next stretch, ZOB_WIDEN and then the next, ZOB_END (and widen) */
} zob_stretch;

/* Pixels that read the same taps, at equal distances. (The assembly knows the order of these members, and of those
 * above.) */
typedef struct {
    const zob_stretch *stretches; /* at least one, the last with ZOB_END */
    const zob_stretch *end;
    const uint32_t *tables;
    const uint8_t *input; /* the first pixel's place */
    uint32_t step;        /* bytes to the next one's */
    const uint32_t *from; /* ZOB_SUM_WORDS words of sums that the first pixel's counts are added to */
    uint32_t from_step;   /* bytes to those of the next pixel; 0: the same ones */
    uint32_t pixels;      /* at least 1 */
    uint32_t *sums;       /* results, ZOB_SUM_WORDS words a pixel; may be `from` */
} zob_pixel_run;

/* Build the tables of `words` consecutive words of a block's filters: `groups` groups a word, 8 or (of the lower
 * sixteen bits) 4. Filter f's words begin at weights + f * filter_words; what filters from `filters` on count has no meaning. */
void zob_build_rows(uint32_t *table, const uint32_t *weights, uint32_t filter_words, uint32_t filters, uint32_t words,
                    uint32_t groups);

/* Write the 16 rows of each of a word's groups. Word 8 * j + g of `weights` has the four weight bits of group g of the
 * eight filters whose counts are in word j of a row, in the same order. */
void zob_expand(uint32_t *table, const uint32_t *weights, uint32_t groups);

/* Look up and add the rows of every pixel of a run, of words of 8 groups or of 4. No sum may exceed sixteen bits. */
void zob_add_words(const zob_pixel_run *run);
void zob_add_halves(const zob_pixel_run *run);

/* `most` minus twice the sum of every filter. */
static inline void zob_unpack(int32_t *results, const uint32_t *sums, int32_t most) {
    for (uint32_t i = 0; i < ZOB_SUM_WORDS; i++) {
        int32_t *const pair = results + zob_filter_of_sum(i);
        pair[0] = most - 2 * (int32_t)(sums[i] & 0xFFFFu);
        pair[ZOB_PAIR] = most - 2 * (int32_t)(sums[i] >> 16);
    }
}

/* The results of a gated convolution: h is `most` minus twice the sum of the high plane, l of the low one; 2 h where h is
 * below the filter's least, else 2 h + l. */
static inline void zob_unpack_gated(int32_t *results, const uint32_t *high, const uint32_t *low, int32_t most,
                                    const int32_t *least, uint32_t words) {
    for (uint32_t i = 0; i < words; i++) {
        const uint32_t filter = zob_filter_of_sum(i);
        const int32_t h = most - 2 * (int32_t)(high[i] & 0xFFFFu), above = most - 2 * (int32_t)(high[i] >> 16);
        results[filter] = 2 * h + (h < least[filter] ? 0 : most - 2 * (int32_t)(low[i] & 0xFFFFu));
        results[filter + ZOB_PAIR] =
            2 * above + (above < least[filter + ZOB_PAIR] ? 0 : most - 2 * (int32_t)(low[i] >> 16));
    }
}

/* Bit f of the result is the highest bit of the sum of filter f. */
uint32_t zob_signs(const uint32_t *sums);

#endif

#endif
