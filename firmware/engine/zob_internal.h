/* Shared by the engine's own files; no part of its interface. */
#ifndef ZOB_INTERNAL_H
#define ZOB_INTERNAL_H

#include "zob.h"
#include "zob_core.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "plans and images are little-endian and used in place"
#endif

/* Functions whose frames need not be on the stack together, or that need all registers; and those without a frame. */
#if defined(__GNUC__)
#define ZOB_NOINLINE __attribute__((noinline))
#define ZOB_INLINE inline __attribute__((always_inline))
#else
#define ZOB_NOINLINE
#define ZOB_INLINE inline
#endif

typedef struct zob_tensor zob_tensor;
typedef struct zob_parameter zob_parameter;
typedef struct zob_op zob_op;

/* What happens to one element after the head of a group has computed it. */
typedef struct {
    uint32_t opcode;
    const float *table;  /* affine: scales or null; prelu: slopes; threshold: thresholds; add, mul: the other tensor */
    const float *bias;   /* affine: biases or null */
    float low, high;     /* clip: bounds; low_bit: low; affine without scales: low is the gain */
    uint32_t by_element; /* prelu, mul: one value an element instead of one a channel */
} zob_step;

/* The whole numbers n with (uint32_t)n - first < width; it may wrap around: the sums of a channel that give +1. */
typedef struct {
    uint32_t first, width;
} zob_interval;

/* Where the elements of a group go. */
typedef struct {
    zob_step steps[ZOB_MAX_STEPS];
    uint32_t count;
    uint32_t channels, words; /* elements and words a pixel */
    float *real;              /* one of the two is null */
    uint32_t *binary;         /* zeroed before the first element; then the last step is one to bits */
    const zob_interval *intervals; /* one a channel, instead of steps; or null */
#ifdef ZOB_SOFT
    uint32_t done; /* steps that zob_emit_block takes in its own way: 1 for an affine by values of codes, else 0 */
#endif
} zob_sink;

/* One operation with its tensors resolved. */
typedef struct {
    const zob_model *model;
    const zob_op *op;
    const zob_tensor *in, *out;
    const uint8_t *image;
    uint8_t *arena;
} zob_context;

/* To the nearest integer, ties to even; for |x| below 2^22. */
static inline float zob_round(float x) { return (x + 12582912.0f) - 12582912.0f; }

/* To the nearest integer, ties away from 0; limited to +-1024, NaN counts as the least. */
static inline int32_t zob_nearest(float x) {
    int32_t whole;
    float rest;
    if (!(x > -1024.0f)) x = -1024.0f;
    if (x > 1024.0f) x = 1024.0f;
    whole = (int32_t)x;
    rest = x - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

static inline uint32_t zob_words(uint32_t channels) { return (channels + 31u) / 32u; }

#define ZOB_MAX_BLOCK 32u /* filters that are computed together, at most */

static inline uint32_t zob_pixels(const zob_tensor *t) { return t->height * t->width; }

/* Bytes of the sums of the high plane that a gated convolution keeps, in the first part of its scratch: of a block of
 * filters, sixteen bits each, sixteen or thirty-two at every pixel. */
static inline uint64_t zob_kept_bytes(const zob_tensor *out) {
    return (out->channels <= 16u ? 32u : 64u) * (uint64_t)zob_pixels(out);
}

/* The kernel positions [begin, end) of one axis that fall inside the input, and the input position of the first. */
typedef struct {
    uint32_t begin, end, at;
} zob_span;

/* n / step, rounded up. Most steps are 1, and not every core divides. */
static inline uint32_t zob_steps(uint32_t n, uint32_t step) { return step == 1u ? n : (n + step - 1u) / step; }

/* For an output position along an axis, of an input of `size`. */
zob_span zob_inside(const zob_op *op, uint32_t axis, uint32_t out, uint32_t size);

/* Whether a convolution reads outside its input anywhere. */
int zob_reads_outside(const zob_op *op, const zob_tensor *in, const zob_tensor *out);

/* The number of an int8 tensor that stands for x, to the nearest step. */
static inline int8_t zob_quantized(const zob_tensor *t, float x) {
    const int32_t q = zob_nearest(x / t->scale) + t->zero_point;
    return (int8_t)(q < INT8_MIN ? INT8_MIN : q > INT8_MAX ? INT8_MAX : q);
}

/* A bound on sums of products of an int8 tensor and whole weights, whatever both hold. */
static inline uint64_t zob_largest_sum(const zob_tensor *in, const zob_parameter *w) {
    const int32_t least = in->zero_point - INT8_MIN, most = INT8_MAX - in->zero_point;
    int32_t weight = 1;
    if (w->encoding == ZOB_ENCODING_UNIFORM) {
        const int32_t low = w->zero_point, high = (int32_t)(((uint32_t)1 << w->bits) - 1u) - w->zero_point;
        weight = low < 0 ? high : high < 0 ? low : low > high ? low : high;
    }
    return (uint64_t)(w->count / w->dims[0]) * (uint32_t)(least > most ? least : most) * (uint32_t)weight;
}

/* Take `count` consecutive channels of a pixel, from `channel` on, through the steps and store them; at most
 * ZOB_MAX_BLOCK. Changes x, unless the only step is one to bits. */
void zob_emit_row(const zob_sink *sink, uint32_t pixel, uint32_t channel, uint32_t count, float *x);

/* The same of whole numbers; and of any number of floats, which stay as they are. */
void zob_emit_block(const zob_sink *sink, uint32_t pixel, uint32_t channel, uint32_t count, const int32_t *sums);
void zob_emit_reals(const zob_sink *sink, uint32_t pixel, uint32_t channel, uint32_t count, const float *x);

/* One step that leaves reals, of channel `channel` of a pixel, the tensor's `element`th; and one to bits: 1 for -1. What
 * zob_emit_row does to rows, for those who have no row. */
float zob_take_one(const zob_step *s, uint32_t element, uint32_t channel, float x);

static inline uint32_t zob_bit_of_one(const zob_step *s, uint32_t channel, float x) {
    if (ZOB_HAS(ZOB_OP_THRESHOLD) && s->opcode == ZOB_OP_THRESHOLD) return x < s->table[channel];
    if (ZOB_HAS(ZOB_OP_LOW_BIT) && s->opcode == ZOB_OP_LOW_BIT) return x < (x < 0.0f ? -s->low : s->low);
    return x < 0.0f;
}

/* Store `count` bits, at most 32: bit i for channel `channel` + i, set for -1. */
void zob_put_bits(const zob_sink *sink, uint32_t pixel, uint32_t channel, uint32_t count, uint32_t bits);

static inline void zob_emit(const zob_sink *sink, uint32_t pixel, uint32_t channel, float x) {
    zob_emit_row(sink, pixel, channel, 1u, &x);
}

/* Decode `count` elements, at least one, of a parameter without rows, beginning with element `first`, to float32. */
void zob_decode(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, float *out);

/* The same of signs, or whole numbers of 32 bits, which lie from `bytes` on. */
void zob_decode_others(const zob_parameter *p, const uint8_t *bytes, uint32_t first, uint32_t count, float *out);

/* Of `count` plain uniform codes, what their scale is multiplied with: each less the zero point. */
void zob_decode_whole(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, int32_t *n);

/* Find the records of a plan. */
void zob_open(zob_model *model, const void *plan);

/* What is not plain, that is with redundant bits, scales in memory, or floats other than float32 (zob_protect.c): whether
 * a parameter is plain; the same as zob_decode; and of protected codes the corrected ones, packed as if they were plain,
 * into zob_corrected_bytes bytes. */
void zob_decode_protected(const zob_parameter *p, const uint8_t *image, uint32_t first, uint32_t count, float *out);
void zob_correct_codes(const zob_parameter *p, const uint8_t *image, uint8_t *out);

static inline int zob_is_plain(const zob_parameter *p) {
    return p->protection == ZOB_PROTECTION_NONE && p->scales == ZOB_SCALES_FLASH && p->encoding <= ZOB_ENCODING_INT32;
}

static inline uint64_t zob_corrected_bytes(const zob_parameter *p) {
    return p->protection == ZOB_PROTECTION_NONE ? 0u : 4u * (((uint64_t)p->count * p->bits + 31u) / 32u + 1u);
}

/* Heads of groups. */
void zob_conv_binary(const zob_context *c, const zob_sink *sink);
void zob_conv_gated(const zob_context *c, const zob_sink *sink);
void zob_conv_real(const zob_context *c, const zob_sink *sink);
void zob_dense(const zob_context *c, const zob_sink *sink); /* what zob_conv_real does, where zob_is_dense */
void zob_conv_bytes(const zob_context *c, const zob_sink *sink); /* int8 with whole weights, of one bit or more */
void zob_pool_real(const zob_context *c, const zob_sink *sink);
void zob_pool_binary(const zob_context *c);
void zob_copy(const zob_context *c, const zob_sink *sink);
void zob_concat(const zob_context *c, const zob_sink *sink);
void zob_pad(const zob_context *c, const zob_sink *sink);
void zob_thermometer(const zob_context *c);
void zob_dynamic_range(const zob_context *c, const zob_sink *sink);
void zob_softmax(const zob_context *c);

/* Whether the group [op, end) is a convolution of bits whose sums are compared with limits of their own: a threshold is
 * then not decoded for the sink. */
int zob_compares(const zob_model *m, const zob_op *op, const zob_op *end);

/* Whether the steps of the group [op, end), a convolution, end in bits that split the numbers of either sign once at
 * most; and whether these are the sums of integers that an int8 convolution compares with a channel's interval. */
int zob_splits(const zob_model *m, const zob_op *op, const zob_op *end);
int zob_decides(const zob_model *m, const zob_op *op, const zob_op *end);

/* Whether a convolution has one output pixel, for which every filter reads all of the input. */
static inline int zob_is_dense(const zob_model *m, const zob_op *op) {
    const zob_tensor *in = &m->tensors[op->input];
    return op->kernel[0] == in->height && op->kernel[1] == in->width && op->pad[0] + op->pad[1] == 0u && op->groups == 1u &&
           op->dilation[0] == 1u && op->dilation[1] == 1u && zob_pixels(&m->tensors[op->output]) == 1u;
}

/* The intervals of a group that `zob_decides`, made in the scratch of its head. */
const zob_interval *zob_find_intervals(const zob_context *c, const zob_op *op, const zob_op *end);

/* A channel's bit is set where its sum is less than `below`; or `otherwise`. */
typedef struct {
    int32_t below;
    int otherwise;
} zob_limit;

/* Find the limit of a channel whose steps `zob_splits`, for sums from -reach to reach. Returns 0 where there is none,
 * because they split the numbers twice. */
int zob_find_limit(const zob_sink *sink, uint32_t channel, int32_t reach, zob_limit *limit);

/* Any operation whose result is int8 (zob_int8.c; docs/spec.md, "Integers"). */
void zob_int8(const zob_context *c);
void zob_pool_int8(const zob_context *c);

#endif
