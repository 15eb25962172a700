/* Binary convolution: what its driver and its algorithms share; no part of the engine's interface.
 *
 * The result of a filter is the number of bits in which its weights differ from what it reads. It is found by
 *   counting  XOR and a merged population count, filter by filter, over what was gathered from the input (zob_count.c);
 *   tables    for every four bits of input a row of counts, one for each filter of a block, looked up and added
 *             (zob_table.c). They are built from the packed weights at every run, so that a flipped weight keeps its
 *             true effect. */
#ifndef ZOB_BINARY_H
#define ZOB_BINARY_H

#include "zob_internal.h"

/* Whether there are pixels of which taps outside the input are left out of what is looked up. */
#define ZOB_SOME_MISSING ZOB_HAS_KERNEL(ZOB_KERNEL_NONE_OUTSIDE | ZOB_KERNEL_ONES_COUNTED)

typedef enum { ZOB_NO_GATE, ZOB_HIGH_PLANE, ZOB_LOW_PLANE } zob_gate;

/* Filters that are computed together, consecutive ones of one group, and what becomes of their counts. */
typedef struct {
    const zob_context *c;
    const zob_sink *sink;
    const zob_tensor *in;                   /* what they read */
    uint8_t *memory;                        /* to work in, */
    uint32_t memory_bytes;                  /* of so many bytes */
    const uint32_t *weights;                /* of the first filter, tap after tap */
    uint32_t first, filters;                /* index of the first filter; how many, at most ZOB_MAX_BLOCK */
    uint32_t input;                         /* the first word of a pixel that they read */
    uint32_t channels, words, taps;         /* channels and words of a tap; taps of the kernel */
    int searched;                           /* bits are wanted, and limits are worth searching */
    int decided;                            /* bits are wanted, and the limits decide them: */
    uint32_t inverted;                      /* those of these filters the other way round */
    zob_gate gate;                          /* gated convolutions: which plane is read, */
    int16_t *high;                          /* and the sums of the high plane, pixel after pixel */
    int32_t limits[ZOB_MAX_BLOCK];          /* decided: a filter's bit is set where 2 * count + zob_missing is more;
                                             * gated: its gate is open where the sum is at least that */
} zob_block;

/* Whether limits decide what tables count. */
static inline int zob_decides_bits(const zob_block *b) {
    return ZOB_HAS_KERNEL(ZOB_KERNEL_LIMITS) && (!ZOB_HAS_KERNEL(ZOB_KERNEL_TABLE_SUMS) || b->decided);
}

/* Compute a block by counting, or by tables. Tables need room: returns 0, with nothing done, where the scratch of the
 * operation has too little, or where bits are set in weights that a table leaves out. For the low plane, the tables of
 * the high one, which was computed just before, serve again. */
void zob_block_count(const zob_block *b);
int zob_block_table(const zob_block *b);

/* What becomes of sums of tables at `pixels` pixels, from output pixel `pixel` on, where `missing` products are missing. */
void zob_put_counts(const zob_block *b, uint32_t pixel, uint32_t pixels, uint32_t missing, const uint32_t *sums);

/* How many bits of x and w, `words` words each, differ. */
uint32_t zob_count_differing(const uint32_t *x, const uint32_t *w, uint32_t words);

/* The products that are missing at a pixel whose taps inside the input are v x h, because taps outside are not read. */
uint32_t zob_missing(const zob_block *b, zob_span v, zob_span h);

/* The first word that the block reads of the input at kernel position (v.begin, h.begin). */
const uint32_t *zob_block_input(const zob_block *b, zob_span v, zob_span h);

/* Take the sums of a block at a pixel further: to the sink, or to those of the other plane. Changes `sums`. */
void zob_put_sums(const zob_block *b, uint32_t pixel, int32_t *sums);

#endif
