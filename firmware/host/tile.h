/* What the host's kernels run: passes over tiles (docs/design.md, "The engine on the host").
 *
 * A tensor of a block of images is a sequence of positions (image, row, column). A tile is ZOB_TILE positions side by
 * side; a pass carries every tile, one vector of channels after the other, through its steps in registers. Real tensors
 * have their channels padded to a multiple of ZOB_BLOCK floats, so that all loads and stores are of whole vectors; bits
 * lie as in docs/spec.md, within a border of zero pixels as wide as those who read them need. Two planes of bits that
 * are written and read together lie as twins: half words of 16 channels, those of the first plane above the second's.
 *
 * Bits are counted in *chains* (carry-save addition, whose sums cost nothing): of words that differ from their weights in
 * x0, x1, x2 ... the exclusive-or of the first three has its ones counted once, and what three bits carry, twice. That
 * exclusive-or is one of words and weights, each made of three beforehand. So a chain's links 2, 4, 6 ... hold all words up
 * to theirs in one, and two words take five operations instead of six:
 *
 *     s2 = words[2] ^ weights[2];  x1 = words[1] ^ weights[1];  twice += ones((s0 ^ s2) ? s0 : x1)
 *
 * and so on from s2; of the last s the ones count once. Windows of nine taps are counted so, where a tap has enough words
 * for that to make up for the exclusive-or of words.
 *
 * Offsets are in bytes: `arena` of the thread's working memory, `table` and `bias` of the prepared parameters.
 */
#ifndef ZOB_TILE_H
#define ZOB_TILE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ZOB_TILE 8u
#define ZOB_BLOCK 16u
#define ZOB_MAX_WINDOWS 4u
#define ZOB_MAX_MASKS 16u
#define ZOB_NO_MASK 0xFFFFFFFFu
#define ZOB_MAX_PACKED 31u /* terms: what bytes can count */
#define ZOB_LINKS 9u       /* of a chain; odd */
#define ZOB_MAX_CHAINS 16u

typedef enum {
    /* Heads: compute the tile anew from what a window covers. */
    ZOB_STEP_CONV_BITS,    /* table: words; bias less twice the bits that differ, a row each border class */
    ZOB_STEP_GATED_CONV,   /* the same of two planes, this window and the next; threshold: floats */
    ZOB_STEP_GATED_TWINS,  /* the same of two planes in one tensor of twins; table: every half word twice; bias: what the
                              counts of both halves begin with; threshold: whole numbers, as `gated` takes them */
    ZOB_STEP_CONV_LEVELS,  /* table: bytes, for each term a row of what every level adds to the bits that differ */
    ZOB_STEP_CONV_BYTES,   /* table: int8, four terms a word; bias, int32, plus products; times `low` */
    ZOB_STEP_CONV_REAL,    /* table: floats */
    ZOB_STEP_MAX_POOL,
    ZOB_STEP_AVERAGE_POOL,
    ZOB_STEP_LOAD,         /* the tile of a tensor, or one kept before */
    ZOB_STEP_SELECT,       /* low where the mask is set, else high */
    /* Steps on the tile. */
    ZOB_STEP_STORE,
    ZOB_STEP_AFFINE,       /* times table, plus bias; a value a channel each */
    ZOB_STEP_AFFINE_PRELU, /* the same, then a slope a channel, at `threshold` */
    ZOB_STEP_ADD_AFFINE,   /* add as below, then affine */
    ZOB_STEP_SCALE,
    ZOB_STEP_BIAS,
    ZOB_STEP_PRELU,        /* a slope a channel */
    ZOB_STEP_PRELU_ELEMENT, /* a slope an element: ... pixels, channels */
    ZOB_STEP_CLIP,
    ZOB_STEP_ADD,          /* the tile of a tensor, or one kept before */
    ZOB_STEP_ADD_CONV_REAL, /* the sums of the same window with other weights */
    ZOB_STEP_MUL,
    ZOB_STEP_MUL_CHANNEL,  /* by a tensor of one pixel an image */
    ZOB_STEP_ADD_SELECT,   /* low where the mask is set, else high */
    ZOB_STEP_MUL_SELECT,
    /* Masks: a set bit is -1. Those that are given `cells` are stored as well. Of convolutions whose sums nobody else reads,
     * in whole numbers: where the bits that differ, on top of the row that they begin with (bias), are more than
     * `threshold`; where sums of products of bytes are less. */
    ZOB_STEP_SIGN_BITS,
    ZOB_STEP_SIGN_BYTES,
    ZOB_STEP_SIGN,
    ZOB_STEP_THRESHOLD,
    ZOB_STEP_LOW_BIT,
    ZOB_STEP_TWO_BITS,     /* sign and low bit, stored as twins */
    ZOB_STEP_LOAD_BITS
} zob_step_kind;

/* How the input channels that the filters of one vector read lie. */
typedef enum {
    ZOB_READ_SHARED,   /* all filters the same ones */
    ZOB_READ_OWN,      /* each filter the channel of its own number */
    ZOB_READ_SCATTERED /* each filter those that begin at its group's offset */
} zob_read;

/* The kernel rows and columns that fall inside the input. */
typedef struct {
    uint32_t top, bottom, left, right;
} zob_cover;

/* What one output position reads. A term is what one weight vector meets: a word of bits, four bytes, a float;
   of levels, a half word: where the level's row begins, in bytes. */
typedef struct {
    uint32_t source, image_bytes;  /* the tensor read: in the arena; from image to image */
    uint32_t step;                 /* from output pixel to output pixel of a row */
    uint32_t slot, taps;           /* bits: taps that fill `slot` bits of their word are packed, several to a term; or 0 */
    uint32_t chains;               /* bits: a tap's words, each with those of the other taps a chain; or 0 */
    const int32_t *link_offsets;   /* each link, from the window's first cell; then from the first of gathered ones */
    uint32_t loose;                /* bytes: the last terms, of bytes that do not lie side by side */
    const int32_t *loose_offsets;  /* each of their bytes */
    const int32_t *starts;         /* each output pixel: its window's first cell, from the image's first; may be outside */
    const uint16_t *classes;       /* each output pixel: its place in `covers` */
    const zob_cover *covers;       /* class 0 is a window wholly inside */
    const uint32_t *borders;       /* each output pixel: its class's row of what sums begin with, in bytes from the first */
    const int32_t *offsets;        /* each term, from the window's first cell; pools, packed taps: each tap */
    uint32_t terms, terms_a_tap;
    uint32_t kernel[2];
    uint32_t pad_value;            /* real: what is read outside */
    zob_read read;
    const int32_t *groups;         /* each output channel: offset of its group's first input channel */
} zob_window;

typedef struct {
    zob_step_kind kind;
    uint32_t mask;                            /* index of the mask read or written; or ZOB_NO_MASK */
    uint32_t table, bias, threshold;
    uint32_t arena;                           /* of the first vector of a real tensor; of the tensor of bits */
    uint32_t a_position, a_channel, a_vector; /* bytes from position to position of the pass, channel, vector of a tile;
                                                 bits: a_vector from pixel to pixel of a row;
                                                 levels: a_vector from term to term */
    uint32_t terms;                           /* levels: how many of them bytes add up */
    float low, high;
    uint32_t window;                          /* heads: index among the pass's windows */
    const uint32_t *cells;                    /* bits: each pixel, from the image's first byte */
    uint32_t image_bytes;                     /* bits, mul_channel: from image to image */
} zob_tile_step;

typedef struct {
    const zob_tile_step *steps;
    uint32_t count;
    const zob_window *windows;
    uint32_t window_count;
    uint32_t width, pixels, channels;
} zob_pass;

/* The kernels of one instruction set. */
typedef struct {
    /* Compute channels [first, end) of a pass, whole blocks of them or all that are left, of `images` images. `arena` and
     * `parameters` are aligned to 64 bytes. */
    void (*run_pass)(const zob_pass *pass, uint8_t *arena, const uint8_t *parameters, uint32_t images, uint32_t first,
                     uint32_t end);
    /* Each of n bytes replaced by its entry in a table of 256. */
    void (*map_bytes)(const uint8_t *table, const uint8_t *from, uint8_t *to, uint32_t n);
} zob_kernels;

/* Those that were compiled in; null for those of other machines. */
extern const zob_kernels *const zob_kernels_avx512, *const zob_kernels_avx2, *const zob_kernels_neon;

#ifdef __cplusplus
}
#endif
#endif
