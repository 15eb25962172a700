/* Convolutions over int8 with weights of codes of 2 to 16 bits.
 *
 * A sum is that of x * (code - zero_point), x = q - the input's zero point. Four pixels' taps are widened to 16 bits,
 * quad by quad and pixel by pixel, each quad in the order 0 2 1 3, in which bytes widen two at a time; codes are used as
 * they are stored, and the weights' zero point times the sum of x is subtracted at the start. What is added up on the
 * way may leave 32 bits, and counts modulo 2^32; sums do not. */
#include <string.h>

#include "zob_bytes.h"

#if defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#define DUAL_MAC(x, w, acc) __smlad((int16x2_t)(x), (int16x2_t)(w), acc)
#else
#define LOW(x) ((int32_t)(int16_t)(x))
#define HIGH(x) ((int32_t)(int16_t)((x) >> 16))
#define DUAL_MAC(x, w, acc) ((int32_t)((uint32_t)(acc) + (uint32_t)(LOW(x) * LOW(w)) + (uint32_t)(HIGH(x) * HIGH(w))))
#endif

#if defined(__ARM_FEATURE_DSP)

/* One pixel's taps, widened, to every fourth pair of words; returns their sum. At least one quad. */
static int32_t widen(const int8_t *patch, uint32_t quads, int32_t zero_point, uint32_t *x) {
    const uint32_t zeros = ((uint32_t)zero_point & 0xFFFFu) | (uint32_t)zero_point << 16, ones = 0x00010001u;
    uint32_t bytes = 0, even = 0, odd = 0;
    int32_t sum = 0;
    __asm__ __inline__("1:\n\t"
            "ldr %[bytes], [%[patch]], #4\n\t"
            "sxtb16 %[even], %[bytes]\n\t"
            "sxtb16 %[odd], %[bytes], ror #8\n\t"
            "ssub16 %[even], %[even], %[zeros]\n\t"
            "ssub16 %[odd], %[odd], %[zeros]\n\t"
            "strd %[even], %[odd], [%[x]], #32\n\t"
            "smlad %[sum], %[even], %[ones], %[sum]\n\t"
            "smlad %[sum], %[odd], %[ones], %[sum]\n\t"
            "subs %[n], %[n], #1\n\t"
            "bne 1b"
            : [patch] "+r"(patch), [x] "+r"(x), [n] "+r"(quads), [sum] "+r"(sum), [bytes] "=&r"(bytes),
              [even] "=&r"(even), [odd] "=&r"(odd)
            : [zeros] "r"(zeros), [ones] "r"(ones)
            : "cc", "memory");
    return sum;
}

/* One quad of codes at four pixels: of bytes, or widened. GCC would load the taps word by word. */
#define BYTES                                                                                                          \
    "ldr %[even], [%[w]], #4\n\t"                                                                                      \
    "uxtb16 %[odd], %[even], ror #8\n\t"                                                                               \
    "uxtb16 %[even], %[even]\n\t"
#define HALVES "ldrd %[even], %[odd], [%[w]], #8\n\t"
#define QUAD(load)                                                                                                     \
    load "ldmia %[x]!, {r4, r5, r6, r8}\n\t"                                                                           \
    "smlad %[s0], r4, %[even], %[s0]\n\t"                                                                              \
    "smlad %[s1], r6, %[even], %[s1]\n\t"                                                                              \
    "smlad %[s0], r5, %[odd], %[s0]\n\t"                                                                               \
    "smlad %[s1], r8, %[odd], %[s1]\n\t"                                                                               \
    "ldmia %[x]!, {r4, r5, r6, r8}\n\t"                                                                                \
    "smlad %[s2], r4, %[even], %[s2]\n\t"                                                                              \
    "smlad %[s3], r6, %[even], %[s3]\n\t"                                                                              \
    "smlad %[s2], r5, %[odd], %[s2]\n\t"                                                                               \
    "smlad %[s3], r8, %[odd], %[s3]\n\t"

#define DOT(name, type, load)                                                                                            \
    static ZOB_NOINLINE void name(const type *w, const uint32_t *x, uint32_t quads, zob_sums *sums) {                    \
        uint32_t even = 0, odd = 0;                                                                                      \
        int32_t s0 = sums->of[0], s1 = sums->of[1], s2 = sums->of[2], s3 = sums->of[3];                                  \
        __asm__ __inline__("lsrs %[n], %[n], #1\n\t"                                                                     \
                           "bcc 0f\n\t" QUAD(load) "0:\n\t"                                                              \
                           "beq 2f\n"                                                                                    \
                           "1:\n\t" QUAD(load) QUAD(load) "subs %[n], %[n], #1\n\t"                                      \
                           "bne 1b\n"                                                                                    \
                           "2:"                                                                                          \
                           : [w] "+r"(w), [x] "+r"(x), [n] "+r"(quads), [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2),      \
                             [s3] "+r"(s3), [even] "=&r"(even), [odd] "=&r"(odd)                                         \
                           :                                                                                             \
                           : "r4", "r5", "r6", "r8", "cc", "memory");                                                    \
        sums->of[0] = s0;                                                                                                \
        sums->of[1] = s1;                                                                                                \
        sums->of[2] = s2;                                                                                                \
        sums->of[3] = s3;                                                                                                \
    }
DOT(dot_bytes, uint8_t, BYTES)  /* of codes that are bytes, as they are stored */
DOT(dot_codes, uint32_t, HALVES) /* of widened ones */

#else

static uint32_t even_bytes(uint32_t x, int32_t zero_point) {
    const uint32_t low = (uint32_t)((int8_t)x - zero_point), high = (uint32_t)((int8_t)(x >> 16) - zero_point);
    return (low & 0xFFFFu) | high << 16;
}

/* One pixel's taps, widened, to every fourth pair of words; returns their sum. */
static int32_t widen(const int8_t *patch, uint32_t quads, int32_t zero_point, uint32_t *x) {
    int32_t sum = 0;
    for (; quads > 0u; quads--, patch += 4, x += 8u) {
        uint32_t bytes;
        memcpy(&bytes, patch, 4u);
        x[0] = even_bytes(bytes, zero_point);
        x[1] = even_bytes(bytes >> 8, zero_point);
        sum = DUAL_MAC(x[1], 0x00010001u, DUAL_MAC(x[0], 0x00010001u, sum));
    }
    return sum;
}

/* Of codes that are bytes, as they are stored; of widened ones. */
static void dot_bytes(const uint8_t *w, const uint32_t *x, uint32_t quads, zob_sums *sums) {
    for (; quads > 0u; quads--, w += 4, x += 8) {
        const uint32_t even = w[0] | (uint32_t)w[2] << 16, odd = w[1] | (uint32_t)w[3] << 16;
        for (uint32_t i = 0; i < 4u; i++) sums->of[i] = DUAL_MAC(x[2u * i + 1u], odd, DUAL_MAC(x[2u * i], even, sums->of[i]));
    }
}

static void dot_codes(const uint32_t *w, const uint32_t *x, uint32_t quads, zob_sums *sums) {
    int32_t s0 = sums->of[0], s1 = sums->of[1], s2 = sums->of[2], s3 = sums->of[3];
    for (; quads > 0u; quads--, w += 2, x += 8u) {
        s0 = DUAL_MAC(x[1], w[1], DUAL_MAC(x[0], w[0], s0));
        s1 = DUAL_MAC(x[3], w[1], DUAL_MAC(x[2], w[0], s1));
        s2 = DUAL_MAC(x[5], w[1], DUAL_MAC(x[4], w[0], s2));
        s3 = DUAL_MAC(x[7], w[1], DUAL_MAC(x[6], w[0], s3));
    }
    sums->of[0] = s0;
    sums->of[1] = s1;
    sums->of[2] = s2;
    sums->of[3] = s3;
}

void zob_decide_bytes(zob_byte_run *run) {
    for (;; run->intervals--) {
        zob_sums sums = run->start;
        dot_bytes(run->bytes, run->x, run->quads, &sums);
        zob_decide(*run->intervals, &sums, &run->bits);
        if (run->intervals == run->first) return;
        run->bytes += 4u * run->quads;
        run->bytes -= run->back;
    }
}

#endif

/* The quads of a filter that hold the kernel's rows inside the input, at any pixel of a block. */
typedef struct {
    uint32_t begin, end;
} quad_range;

/* What every code is taken less, so that it fits 16 bits with a sign. */
static int32_t middle(const zob_parameter *p) { return p->bits == 16u ? 32768 : 0; }

/* Two codes, `apart` bits apart, as halves of a word. */
static ZOB_INLINE uint32_t two_codes(uint32_t window, uint32_t mask, uint32_t apart) {
    return (window & mask) | (window >> apart & mask) << 16;
}

static uint32_t word_at(const uint8_t *bytes) {
    uint32_t word;
    memcpy(&word, bytes, 4u);
    return word;
}

/* Four codes, at bits 0, 12, 24 and 36 of `front` and, two bytes further, `back`. */
static ZOB_INLINE void widen_quad(uint32_t front, uint32_t back, uint32_t *w) {
    w[0] = (front & 0xFFFu) | (back >> 8 & 0xFFFu) << 16;
    w[1] = (front >> 12 & 0xFFFu) | back >> 20 << 16;
}

/* Codes of 12 bits, from bit 0 or bit 4 of a byte on, widened. */
static ZOB_NOINLINE void widen_12(const uint8_t *codes, uint32_t shift, uint32_t quads, uint32_t *w) {
    if (shift) {
        for (; quads > 0u; quads--, codes += 6, w += 2) widen_quad(word_at(codes) >> 4, word_at(codes + 3) << 4, w);
    } else {
        for (; quads > 0u; quads--, codes += 6, w += 2) widen_quad(word_at(codes), word_at(codes + 2), w);
    }
}

/* Of 16 bits, each `less` so many. */
static ZOB_NOINLINE void widen_16(const uint8_t *codes, uint32_t less, uint32_t quads, uint32_t *w) {
    for (less *= 0x00010001u; quads > 0u; quads--, codes += 8, w += 2) {
        const uint32_t front = word_at(codes), back = word_at(codes + 4);
        w[0] = ((front & 0xFFFFu) | back << 16) ^ less;
        w[1] = (front >> 16 | (back & 0xFFFF0000u)) ^ less;
    }
}

/* Of at most 6 bits, four of which lie in a word from the byte on in which they begin; the first one from bit `at` on. */
static ZOB_NOINLINE void widen_few(const uint8_t *codes, uint32_t at, uint32_t bits, uint32_t quads, uint32_t *w) {
    const uint32_t mask = ((uint32_t)1 << bits) - 1u;
    for (; quads > 0u; quads--, at += 4u * bits, w += 2) {
        const uint32_t window = word_at(codes + at / 8u) >> at % 8u;
        w[0] = two_codes(window, mask, 2u * bits);
        w[1] = two_codes(window >> bits, mask, 2u * bits);
    }
}

/* The same of any, bit by bit. */
static ZOB_NOINLINE void widen_any(const zob_byte_conv *b, uint32_t at, uint32_t quads, uint32_t *w) {
    const uint32_t bits = b->weight->bits, mask = ((uint32_t)1 << bits) - 1u;
    const uint32_t less = 0x00010001u * (uint32_t)middle(b->weight);
    for (; quads > 0u; quads--, w += 2, at += 4u * bits) {
        const uint32_t front = two_codes(zob_weight_bits(b, at), mask, bits);
        const uint32_t back = two_codes(zob_weight_bits(b, at + 2u * bits), mask, bits);
        w[0] = ((front & 0xFFFFu) | back << 16) ^ less;
        w[1] = (front >> 16 | (back & 0xFFFF0000u)) ^ less;
    }
}

/* A filter's codes from its bit `first` on, widened, in the order of the taps. Where it ends within a quad, whatever
 * follows it is taken in. */
static void decode_filter(const zob_byte_conv *b, uint32_t filter, quad_range q, uint32_t *w) {
    const uint32_t bits = b->weight->bits, at = (filter * b->taps + 4u * q.begin) * bits, quads = q.end - q.begin;
    const int inside = at / 8u + quads * bits / 2u + 4u <= b->rest;
    const uint8_t *const codes = b->codes + at / 8u;
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_12) && bits == 12u && inside) {
        widen_12(codes, at % 8u, quads, w);
    } else if (ZOB_HAS_KERNEL(ZOB_KERNEL_CODES_16) && bits == 16u && inside) {
        widen_16(codes, (uint32_t)middle(b->weight), quads, w);
    } else if (!ZOB_SMALL && bits <= 6u && inside) {
        widen_few(codes, at % 8u, bits, quads, w);
    } else {
        widen_any(b, at, quads, w);
    }
}

/* Whether filters up to `end` can be read as words: codes are bytes, and the image holds the last word. */
static int are_words(const zob_byte_conv *b, uint32_t end) {
    return b->weight->bits == 8u && b->rest - (end - 1u) * b->taps >= 4u * b->quads;
}

static quad_range quads_inside(const zob_byte_conv *b, const zob_four *block) {
    const uint32_t row = b->c->op->kernel[1] * b->channels;
    zob_place last = block->place;
    quad_range q = {0u, b->quads};
    for (uint32_t i = 1; i < block->count; i++) zob_advance(b, &last);
    if (last.y != block->place.y || last.rows.begin == last.rows.end) return q;
    q.begin = last.rows.begin * row / 4u;
    q.end = (last.rows.end * row + 3u) / 4u;
    return q;
}

/* Gather a block's taps and widen those of `q`; returns what sums begin with. Missing pixels repeat the last one. */
static zob_sums prepare(const zob_byte_conv *b, const zob_four *block, uint32_t group, quad_range q, uint32_t *x) {
    const int32_t zero_point = b->weight->zero_point - middle(b->weight);
    int8_t *patch = (int8_t *)(x + 8u * b->quads);
    zob_place place = block->place;
    zob_sums start;
    memset(patch + 4u * (b->quads - 1u), b->c->in->zero_point, 4u);
    x += 8u * q.begin;
    for (uint32_t i = 0; i < 4u; i++, x += 2) {
        zob_gather_bytes(b, &place, group * b->channels, patch);
        start.of[i] = -zero_point * widen(patch + 4u * q.begin, q.end - q.begin, b->c->in->zero_point, x);
        if (i + 1u < block->count) zob_advance(b, &place);
    }
    return start;
}

/* The bits of filters [begin, end) of byte codes. */
static zob_bits decide_bytes(const zob_byte_conv *b, uint32_t begin, uint32_t end, quad_range q, const uint32_t *x,
                             zob_sums start) {
    const zob_interval *intervals = b->sink->intervals;
    zob_byte_run run;
    run.bytes = b->codes + (end - 1u) * b->taps + 4u * q.begin;
    run.x = x + 8u * q.begin;
    run.quads = q.end - q.begin;
    run.entry = 0u;
    run.start = start;
    run.intervals = intervals + end - 1u;
    run.back = 4u * run.quads + b->taps;
    run.first = intervals + begin;
    memset(&run.bits, 0, sizeof run.bits);
    zob_decide_bytes(&run);
    return run.bits;
}

/* The same of any codes, one by one; bits, or sums where integers do not decide. `words`: codes are bytes, as above. */
static ZOB_NOINLINE zob_bits sum_codes(const zob_byte_conv *b, const zob_four *block, uint32_t begin, uint32_t end,
                                       quad_range q, int words, const uint32_t *x, zob_sums start) {
    const zob_interval *const intervals = b->sink->intervals;
    const int decided = zob_decided_by_integers(b);
    uint32_t *w = (uint32_t *)(void *)b->scratch + 8u * b->quads;
    zob_bits bits = {{0, 0, 0, 0}};
    x += 8u * q.begin;
    for (uint32_t o = end; o > begin;) {
        zob_sums sums = start;
        o--;
        if (!ZOB_HAS_KERNEL(ZOB_KERNEL_CODE_FIELDS) || words) {
            dot_bytes(b->codes + o * b->taps + 4u * q.begin, x, q.end - q.begin, &sums);
        } else {
            decode_filter(b, o, q, w);
            dot_codes(w, x, q.end - q.begin, &sums);
        }
        if (decided) {
            zob_decide(intervals[o], &sums, &bits);
        } else {
            zob_emit_sums(b, block, o, sums);
        }
    }
    return bits;
}

void zob_block_of_codes(const zob_byte_conv *b, const zob_four *block, uint32_t group) {
    uint32_t *x = (uint32_t *)(void *)b->scratch;
    const uint32_t first = group * b->filters, end = first + b->filters;
    const quad_range q = quads_inside(b, block);
    const int decided = zob_decided_by_integers(b);
    const int words = !ZOB_HAS_KERNEL(ZOB_KERNEL_CODE_FIELDS) || are_words(b, end);
    const zob_sums start = prepare(b, block, group, q, x);
    for (uint32_t o = end, begin; o > first; o = begin) {
        zob_bits bits;
        begin = zob_word_begin(first, o);
        if (decided && words) {
            bits = decide_bytes(b, begin, o, q, x, start);
        } else {
            bits = sum_codes(b, block, begin, o, q, words, x, start);
        }
        if (decided) zob_put_pixel_bits(b, block, begin, bits);
    }
}
