/* Binary convolution by counting: population counts that are merged late. */
#include <string.h>

#include "zob_binary.h"
#include "zob_core.h"

#if !defined(ZOB_THUMB2) && !defined(ZOB_MVE)

#define ONES 0x55555555u
#define PAIRS 0x33333333u
#define BYTES 0x0F0F0F0Fu

/* The compiler may not see through the masks: as constants they would be spelled out at every use, without the shift
 * that Thumb-2 applies to a register operand for nothing. */
#if defined(__GNUC__) && defined(__arm__)
#define IN_REGISTER(mask) __asm__("" : "+r"(mask))
#else
#define IN_REGISTER(mask) (void)0
#endif

/* The sum of four counts of eight bits. */
static uint32_t sum_of_bytes(uint32_t x) {
    x = (x & 0x00FF00FFu) + ((x >> 8) & 0x00FF00FFu);
    return (x + (x >> 16)) & 0xFFFFu;
}

static uint32_t count_word(uint32_t x) {
    x = x - ((x >> 1) & ONES);
    x = (x & PAIRS) + ((x >> 2) & PAIRS);
    return sum_of_bytes((x & BYTES) + ((x >> 4) & BYTES));
}

/* Three words make eight counts q of four bits, at most 12 each. Sums of q, and of its upper counts alone, are kept as
 * whole words for six such triples; the sums of bytes are then q - 15 * upper, exact modulo 2^32 (at most 144 each). */
uint32_t zob_count_differing(const uint32_t *x, const uint32_t *w, uint32_t words) {
    uint32_t ones = ONES, pairs = PAIRS, bytes = BYTES, n = 0;
    IN_REGISTER(ones);
    IN_REGISTER(pairs);
    IN_REGISTER(bytes);
    while (words >= 3u) {
        const uint32_t triples = words < 18u ? words / 3u : 6u;
        const uint32_t *const end = x + 3u * triples;
        uint32_t sum = 0, upper = 0;
        words -= 3u * triples;
        for (; x < end; x += 3, w += 3) {
            uint32_t a = x[0] ^ w[0], b = x[1] ^ w[1], c = x[2] ^ w[2], carry, q;
            a = a - ((a >> 1) & ones) + (b & ones);        /* sixteen counts of two bits */
            c = c - ((c >> 1) & ones) + ((b >> 1) & ones); /* and sixteen more */
            carry = ((a >> 2) & pairs) + ((c >> 2) & pairs);
            q = a + c - 3u * carry;
            sum += q;
            upper += (q >> 4) & bytes;
        }
        n += sum_of_bytes(sum - 15u * upper);
    }
    for (; words > 0u; words--) n += count_word(*x++ ^ *w++);
    return n;
}

#endif

/* Copy what a block reads at one pixel: the words of every tap inside the input, tap after tap, and zeros for taps
 * outside, if they are read. */
static void gather(const zob_block *b, zob_span v, zob_span h, uint32_t *patch) {
    const zob_op *op = b->c->op;
    const uint32_t pixel = zob_words(b->in->channels), line = op->kernel[1] * b->words;
    const uint32_t *at = zob_block_input(b, v, h);
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_ONES_OUTSIDE) && op->pad_value) {
        if ((v.end - v.begin) * (h.end - h.begin) < b->taps) memset(patch, 0, 4u * (size_t)b->taps * b->words);
        patch += v.begin * line + h.begin * b->words;
    }
    for (uint32_t ky = v.begin; ky < v.end; ky++, at += op->dilation[0] * b->in->width * pixel) {
        const uint32_t *tap = at;
        uint32_t *to = patch;
        for (uint32_t kx = h.begin; kx < h.end; kx++, tap += op->dilation[1] * pixel) {
            for (uint32_t i = 0; i < b->words; i++) *to++ = tap[i];
        }
        patch = ZOB_HAS_KERNEL(ZOB_KERNEL_ONES_OUTSIDE) && op->pad_value ? patch + line : to;
    }
}

/* Add to each filter's count the bits in which `words` words of it, the first at w, and of x differ. */
static void add_counts(const zob_block *b, const uint32_t *x, const uint32_t *w, uint32_t words, int32_t *counts) {
    const uint32_t filter = b->taps * b->words;
    for (int32_t *const end = counts + b->filters; counts < end; counts++, w += filter) {
        *counts += (int32_t)zob_count_differing(x, w, words);
    }
}

/* The bits that the counts decide: those where limit - (2 * count + missing) is negative. */
static uint32_t decide(const zob_block *b, const int32_t *counts, uint32_t missing) {
    uint32_t bits = 0;
    for (uint32_t f = 0; f < b->filters; f++) {
        bits |= (((uint32_t)b->limits[f] - 2u * (uint32_t)counts[f] - missing) >> 31) << f;
    }
    return bits ^ b->inverted;
}

static void count_pixel(const zob_block *b, uint32_t pixel, zob_span v, zob_span h, uint32_t *patch) {
    const uint32_t missing = ZOB_SOME_MISSING ? zob_missing(b, v, h) : 0u, line = b->c->op->kernel[1] * b->words;
    const uint32_t part = (h.end - h.begin) * b->words, *w = b->weights + v.begin * line + h.begin * b->words;
    int32_t counts[ZOB_MAX_BLOCK] = {0};
    gather(b, v, h, patch);
    if (missing == 0u) {
        add_counts(b, patch, b->weights, b->taps * b->words, counts);
    } else {
        for (uint32_t ky = v.begin; ky < v.end; ky++, patch += part, w += line) add_counts(b, patch, w, part, counts);
    }
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_LIMITS) && b->decided) {
        zob_put_bits(b->sink, pixel, b->first, b->filters, decide(b, counts, missing));
    } else {
        const int32_t products = (int32_t)(b->taps * b->channels - missing);
        for (uint32_t f = 0; f < b->filters; f++) counts[f] = products - 2 * counts[f];
        zob_put_sums(b, pixel, counts);
    }
}

/* The taps along an axis that an output position reads. */
static ZOB_INLINE zob_span taps_of(const zob_op *op, uint32_t axis, uint32_t out, uint32_t size) {
    zob_span all;
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_ONES_OUTSIDE | ZOB_KERNEL_NONE_OUTSIDE)) return zob_inside(op, axis, out, size);
    all.begin = 0u;
    all.end = op->kernel[axis];
    all.at = out * op->stride[axis];
    return all;
}

void zob_block_count(const zob_block *b) {
    const zob_context *c = b->c;
    uint32_t *patch = (uint32_t *)(void *)b->memory, pixel = 0;
    for (uint32_t oy = 0; oy < c->out->height; oy++) {
        const zob_span v = taps_of(c->op, 0, oy, b->in->height);
        for (uint32_t ox = 0; ox < c->out->width; ox++, pixel++) {
            count_pixel(b, pixel, v, taps_of(c->op, 1, ox, b->in->width), patch);
        }
    }
}
