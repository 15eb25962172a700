/* Building tables of counts, and the portable kernel that adds their rows up. */
#include "zob_internal.h"
#include "zob_rows.h"

#define NIBBLES 0x11111111u
#define BYTES 0x0F0F0F0Fu
#define HALVES 0x00FF00FFu

/* Exchange the fields of `a` that `mask` << shift covers with those of `b` that `mask` covers. */
static ZOB_INLINE void exchange(uint32_t *a, uint32_t *b, uint32_t shift, uint32_t mask) {
    const uint32_t differing = ((*a >> shift) ^ *b) & mask;
    *b ^= differing;
    *a ^= differing << shift;
}

/* Word k of eight filters, by four-bit fields: word g of the square gets field g of them all. Rows and columns are
 * exchanged by halves of words, bytes, fields; spelled out, so that all stays in registers. */
static inline void make_square(uint32_t *square, const uint32_t *const *filters, uint32_t k) {
    uint32_t a = filters[0][k], b = filters[1][k], c = filters[2][k], d = filters[3][k];
    uint32_t e = filters[4][k], f = filters[5][k], g = filters[6][k], h = filters[7][k];
    exchange(&a, &e, 16u, 0xFFFFu);
    exchange(&b, &f, 16u, 0xFFFFu);
    exchange(&c, &g, 16u, 0xFFFFu);
    exchange(&d, &h, 16u, 0xFFFFu);
    exchange(&a, &c, 8u, HALVES);
    exchange(&b, &d, 8u, HALVES);
    exchange(&e, &g, 8u, HALVES);
    exchange(&f, &h, 8u, HALVES);
    exchange(&a, &b, 4u, BYTES);
    exchange(&c, &d, 4u, BYTES);
    exchange(&e, &f, 4u, BYTES);
    exchange(&g, &h, 4u, BYTES);
    square[0] = a, square[1] = b, square[2] = c, square[3] = d;
    square[4] = e, square[5] = f, square[6] = g, square[7] = h;
}

void zob_build_rows(uint32_t *table, const uint32_t *weights, uint32_t filter_words, uint32_t filters, uint32_t words,
                    uint32_t groups) {
    const uint32_t *in_order[ZOB_BLOCK];
    for (uint32_t i = 0; i < ZOB_BLOCK; i++) {
        const uint32_t f = zob_filter_of(i / 8u, i % 8u);
        in_order[i] = weights + (f < filters ? f : 0u) * filter_words;
    }
    for (uint32_t k = 0; k < words; k++, table += groups * ZOB_GROUP_WORDS) {
        uint32_t squares[ZOB_BLOCK];
        for (uint32_t i = 0; i < ZOB_BLOCK; i += 8u) make_square(squares + i, in_order + i, k);
        zob_expand(table, squares, groups);
    }
}

#if !defined(ZOB_THUMB2) && !defined(ZOB_MVE)

uint32_t zob_signs(const uint32_t *sums) {
    uint32_t signs = 0;
    for (uint32_t i = 0; i < ZOB_SUM_WORDS; i++) signs = (signs >> 1) | (sums[i] & 0x80008000u);
    return (signs >> 8 & 0xFFu) | (signs >> 16 & 0xFF00u);
}

#endif

#if !defined(ZOB_THUMB1) && !defined(ZOB_THUMB2) && !defined(ZOB_MVE)

/* Row i counts the bits in which i differs from the weights: setting one of i's bits adds 1 where the weight is 0, and
 * takes 1 where it is 1. */
void zob_expand(uint32_t *table, const uint32_t *weights, uint32_t groups) {
    for (uint32_t g = 0; g < groups; g++, table += ZOB_GROUP_WORDS) {
        for (uint32_t j = 0; j < ZOB_ROW_WORDS; j++) {
            uint32_t w = weights[8u * j + g], *rows = table + j, *to = rows + ZOB_ROW_WORDS;
            rows[0] = (w & NIBBLES) + ((w >> 1) & NIBBLES) + ((w >> 2) & NIBBLES) + ((w >> 3) & NIBBLES);
            for (uint32_t bit = 1u; bit < 16u; bit *= 2u, w >>= 1) {
                const uint32_t change = NIBBLES - 2u * (w & NIBBLES), *const end = to;
                for (const uint32_t *from = rows; from < end; from += ZOB_ROW_WORDS, to += ZOB_ROW_WORDS) {
                    *to = *from + change;
                }
            }
        }
    }
}

/* Counts of eight bits: of a row word's even fields, and the sum of the word shifted by one field (the odd fields plus
 * 16 times the even fields of the next byte, which are taken off when the counts are widened). */
typedef struct {
    uint32_t even[2], shifted[2];
} counts;

/* In group `group` of a word's groups, the row of the four bits of x there. */
static inline const uint32_t *row(const uint32_t *groups, uint32_t group, uint32_t x) {
    return groups + ((x >> (4u * group)) & 15u) * ZOB_ROW_WORDS + group * ZOB_GROUP_WORDS;
}

static inline void keep(counts *n, uint32_t q0, uint32_t q1) {
    n->even[0] += q0 & BYTES;
    n->even[1] += q1 & BYTES;
    n->shifted[0] += q0 >> 4;
    n->shifted[1] += q1 >> 4;
}

/* Add the rows of three groups of x, or two, from `group` on: no field gets more than 12. */
static inline void add_three(counts *n, const uint32_t *groups, uint32_t group, uint32_t x, int third) {
    const uint32_t *r = row(groups, group, x);
    uint32_t q0 = r[0], q1 = r[1];
    r = row(groups, group + 1u, x);
    q0 += r[0];
    q1 += r[1];
    if (third) {
        r = row(groups, group + 2u, x);
        q0 += r[0];
        q1 += r[1];
    }
    keep(n, q0, q1);
}

static inline void add_half(counts *n, const uint32_t *groups, uint32_t x) {
    const uint32_t *last = row(groups, 3u, x);
    add_three(n, groups, 0u, x, 1);
    keep(n, last[0], last[1]);
}

static inline void add_word(counts *n, const uint32_t *groups, uint32_t x) {
    add_three(n, groups, 0u, x, 1);
    add_three(n, groups, 3u, x, 1);
    add_three(n, groups, 6u, x, 0);
}

/* Add the counts to the sums, and begin anew. */
static inline void widen(counts *n, uint32_t *sums) {
    for (uint32_t j = 0; j < 2u; j++, sums += 4) {
        const uint32_t even = n->even[j], odd = n->shifted[j] - ((even >> 8) << 4);
        sums[0] += even & HALVES;
        sums[1] += (even >> 8) & HALVES;
        sums[2] += odd & HALVES;
        sums[3] += (odd >> 8) & HALVES;
        n->even[j] = n->shifted[j] = 0u;
    }
}

static inline void add_rows(const zob_pixel_run *run, uint32_t groups) {
    const uint8_t *input = run->input, *from = (const uint8_t *)run->from;
    uint32_t *sums = run->sums;
    for (uint32_t p = 0; p < run->pixels; p++, input += run->step, from += run->from_step, sums += ZOB_SUM_WORDS) {
        const uint32_t *start = (const uint32_t *)(const void *)from;
        counts n = {{0u, 0u}, {0u, 0u}};
        for (uint32_t i = 0; i < ZOB_SUM_WORDS; i++) sums[i] = start[i];
        for (const zob_stretch *s = run->stretches; s < run->end; s++) {
            const uint32_t *x = (const uint32_t *)(const void *)(input + s->offset), *table = run->tables + s->table / 4u;
            for (uint32_t k = 0; k < s->words; k++, table += groups * ZOB_GROUP_WORDS) {
                if (groups == 8u) {
                    add_word(&n, table, x[k]);
                } else {
                    add_half(&n, table, x[k]);
                }
            }
            if (s->then) widen(&n, sums);
        }
    }
}

void zob_add_words(const zob_pixel_run *run) { add_rows(run, 8u); }

void zob_add_halves(const zob_pixel_run *run) { add_rows(run, 4u); }

#endif
