/* The kernels of one instruction set: included once by each tile_*.c, after its lanes. */
#include <stddef.h>
#include <string.h>

/* A tile in registers: loops over it are unrolled, so that no vector of it has to lie in memory. */
#define EACH(i) _Pragma("GCC unroll 8") for (uint32_t i = 0; i < ZOB_TILE; i++)

#define OUTLINED static __attribute__((noinline))

/* A tile's positions. Those past the last one repeat it: computed alike, stored where nobody reads. */
typedef struct {
    const zob_pass *pass;
    uint8_t *arena;
    const uint8_t *parameters;
    uint32_t first, valid;
    uint32_t straight; /* all positions lie side by side in one row of one image */
    uint32_t image[ZOB_TILE], pixel[ZOB_TILE];
    const uint8_t *start[ZOB_MAX_WINDOWS][ZOB_TILE]; /* where each window begins, for each window of the pass; straight:
                                                        the first of each */
    uint32_t inside[ZOB_MAX_WINDOWS];                /* all of them wholly inside */
    uint32_t packed[ZOB_MAX_WINDOWS][ZOB_MAX_PACKED][ZOB_TILE];
    mask masks[ZOB_MAX_MASKS][ZOB_TILE];
} tile;

typedef uint32_t word_tile __attribute__((vector_size(4u * ZOB_TILE)));

/* The positions from `image`, `pixel` on, in column `x`. */
static void place_positions(tile *t, uint32_t image, uint32_t pixel, uint32_t x) {
    t->straight = t->valid == ZOB_TILE && x + ZOB_TILE <= t->pass->width;
    if (t->straight) {
        EACH(i) {
            t->image[i] = image;
            t->pixel[i] = pixel + i;
        }
        return;
    }
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        t->image[i] = image;
        t->pixel[i] = pixel;
        if (i + 1u < t->valid && ++pixel == t->pass->pixels) {
            pixel = 0;
            image++;
        }
    }
}

static void place_window(tile *t, const zob_window *w, uint32_t k) {
    const uint8_t *source = t->arena + w->source;
    uint32_t classes = 0;
    if (t->straight) {
        const uint16_t *own = w->classes + t->pixel[0];
        uint64_t eight[2];
        memcpy(eight, own, sizeof eight);
        t->inside[k] = (eight[0] | eight[1]) == 0u;
        t->start[k][0] = source + (size_t)t->image[0] * w->image_bytes + w->starts[t->pixel[0]];
        return;
    }
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        t->start[k][i] = source + (size_t)t->image[i] * w->image_bytes + w->starts[t->pixel[i]];
        classes |= w->classes[t->pixel[i]];
    }
    t->inside[k] = classes == 0u;
}

#define INLINED static inline __attribute__((always_inline))

/* One tap of all positions, from cells of one word. */
INLINED word_tile tap_of(const tile *t, const zob_window *w, uint32_t k, int32_t at, int side_by_side) {
    word_tile x;
    if (side_by_side) {
        memcpy(&x, t->start[k][0] + at, sizeof x);
        return x;
    }
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        uint32_t word;
        memcpy(&word, (t->straight ? t->start[k][0] + (size_t)i * w->step : t->start[k][i]) + at, 4);
        x[i] = word;
    }
    return x;
}

INLINED void pack_taps(tile *t, const zob_window *w, uint32_t k, int side_by_side) {
    const int32_t *tap = w->offsets, *end = tap + w->taps;
    for (uint32_t term = 0; term < w->terms; term++) {
        word_tile packed = tap_of(t, w, k, *tap++, side_by_side);
        for (uint32_t at = w->slot; at < 32u && tap < end; at += w->slot) {
            packed |= tap_of(t, w, k, *tap++, side_by_side) << at;
        }
        memcpy(t->packed[k][term], &packed, sizeof packed);
    }
}

/* Read a window's taps into words that each hold several. */
static void pack_window(tile *t, const zob_window *w, uint32_t k) {
    if (t->straight && w->step == 4u) {
        pack_taps(t, w, k, 1);
    } else {
        pack_taps(t, w, k, 0);
    }
}

/* Where a tile's windows begin, for loops over their terms. Those of a straight tile lie a step apart: x86 addresses reach
 * all of them from one pointer with these multiples, if the compiler is kept from working out others. */
typedef struct {
    const uint8_t *const *start;
    size_t step, step3, step5, step7;
} view;

static inline view view_of(const tile *t, const zob_window *w, uint32_t window) {
    const size_t step = w->step;
    view v = {t->start[window], step, 3u * step, 5u * step, 7u * step};
    __asm__("" : "+r"(v.step), "+r"(v.step3), "+r"(v.step5), "+r"(v.step7));
    return v;
}

/* Position i's window, `at` bytes on. */
INLINED const uint8_t *spot(const view *v, int straight, uint32_t i, ptrdiff_t at) {
    const uint8_t *p = v->start[straight ? 0u : i] + at;
    if (!straight) return p;
    switch (i) {
    case 3:
        return p + v->step3;
    case 5:
        return p + v->step5;
    case 6:
        return p + 2u * v->step3;
    case 7:
        return p + v->step7;
    default:
        return p + i * v->step;
    }
}

/* A loop compiled for both kinds of tiles. */
#define FOR_TILE(t, call, ...) ((t)->straight ? call(__VA_ARGS__, 1) : call(__VA_ARGS__, 0))

static const uint8_t *start_of(const tile *t, const zob_window *w, uint32_t window, uint32_t i) {
    return t->straight ? t->start[window][0] + (size_t)i * w->step : t->start[window][i];
}

/* The first vector of a tile of a real tensor, or of one kept; the next lies a_vector further. */
static inline uint8_t *vector_at(const tile *t, const zob_tile_step *s, uint32_t channel) {
    return t->arena + s->arena + (size_t)t->first * s->a_position + (size_t)channel * s->a_channel;
}

static inline uint8_t *cell_at(const tile *t, const zob_tile_step *s, uint32_t channel, uint32_t i) {
    return t->arena + s->arena + (size_t)t->image[i] * s->image_bytes + s->cells[t->pixel[i]] + channel / 8u;
}

/* The weights of one vector of filters: a block's vectors lie term after term. */
static inline const uint8_t *weights_at(const tile *t, const zob_tile_step *s, const zob_window *w, uint32_t channel) {
    const size_t block = channel / ZOB_BLOCK, lane = channel % ZOB_BLOCK;
    return t->parameters + s->table + 4u * (block * w->terms * ZOB_BLOCK + lane);
}

#define NEXT_WEIGHTS (4u * ZOB_BLOCK)

/* What each lane's filter reads at a term, where the filters of a vector belong to several groups. */
static words scattered(const uint8_t *x, const int32_t *groups) {
    uint32_t lane[LANES];
    for (uint32_t i = 0; i < LANES; i++) memcpy(&lane[i], x + groups[i], 4);
    return load_words(lane);
}

static inline reals real_at(const zob_window *w, const uint8_t *x, const int32_t *groups, uint32_t channel) {
    float lane[LANES], one;
    switch (w->read) {
    case ZOB_READ_SHARED:
        memcpy(&one, x + groups[0], 4);
        return all(one);
    case ZOB_READ_OWN:
        return load(x + 4u * (size_t)channel);
    default:
        for (uint32_t i = 0; i < LANES; i++) memcpy(&lane[i], x + groups[i], 4);
        return load(lane);
    }
}

/* Differing bits of a tile's windows and one vector of filters, of terms up to `end`; of `twins` those of both planes, each
 * in its half. */
INLINED void count_terms(words *count, const view *x, const int32_t *offsets, const int32_t *end, const uint8_t *weights,
                         int32_t group, int twins, int straight) {
    EACH(i) count[i] = no_words();
    for (; offsets < end; offsets++, weights += NEXT_WEIGHTS) {
        const words filter = load_words(weights);
        const ptrdiff_t at = *offsets + group;
        if (twins) {
            EACH(i) count[i] = count_twins(count[i], all_words(spot(x, straight, i, at)), filter);
        } else {
            EACH(i) count[i] = count_differing(count[i], all_words(spot(x, straight, i, at)), filter);
        }
    }
}

INLINED void count_any(words *sum, view x, const zob_window *w, const uint8_t *weights, int32_t group, int twins,
                       int straight) {
    const int32_t *offsets = w->offsets, *const end = offsets + w->terms;
#if SETTLE_EVERY == 0
    count_terms(sum, &x, offsets, end, weights, group, twins, straight);
#else
    EACH(i) sum[i] = no_words();
    for (; offsets < end; offsets += SETTLE_EVERY, weights += SETTLE_EVERY * NEXT_WEIGHTS) {
        words count[ZOB_TILE];
        const int32_t *some = end - offsets < SETTLE_EVERY ? end : offsets + SETTLE_EVERY;
        count_terms(count, &x, offsets, some, weights, group, twins, straight);
        if (twins) {
            EACH(i) sum[i] = settle_twins(sum[i], count[i]);
        } else {
            EACH(i) sum[i] = settle(sum[i], count[i]);
        }
    }
#endif
}

INLINED void count_tile(words *sum, view x, const zob_window *w, const uint8_t *weights, int32_t group, int straight) {
    count_any(sum, x, w, weights, group, 0, straight);
}

INLINED void count_pairs(words *sum, view x, const zob_window *w, const uint8_t *weights, int straight) {
    count_any(sum, x, w, weights, 0, 1, straight);
}

/* The same of packed taps; they are few. */
INLINED void count_packed(words *sum, const uint32_t (*packed)[ZOB_TILE], const zob_window *w, const uint8_t *weights) {
    words count[ZOB_TILE];
    EACH(i) count[i] = no_words();
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const words filter = load_words(weights);
        EACH(i) count[i] = count_differing(count[i], all_words((const uint8_t *)&packed[k][i]), filter);
    }
    EACH(i) sum[i] = settle(no_words(), count[i]);
}

OUTLINED void count_scattered(words *sum, const tile *t, uint32_t window, const uint8_t *weights, uint32_t channel) {
    const zob_window *w = &t->pass->windows[window];
    const int32_t *groups = w->groups + channel;
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        const uint8_t *start = start_of(t, w, window, i);
        sum[i] = no_words();
        for (uint32_t k = 0; k < w->terms; k++) {
            const words filter = load_words(weights + (size_t)k * NEXT_WEIGHTS);
            sum[i] = settle(sum[i], count_differing(no_words(), scattered(start + w->offsets[k], groups), filter));
        }
    }
}

/* What sums begin with, of position i of a tile that is not wholly inside. */
INLINED reals base_at(const tile *t, const zob_window *w, const uint8_t *base, uint32_t i) {
    const size_t row = (t->pass->channels + ZOB_BLOCK - 1u) / ZOB_BLOCK * ZOB_BLOCK * 4u;
    return load(base + w->classes[t->pixel[i]] * row);
}

/* Thermometer codes: a level says all about the bits of a term, so what differs is looked up. Levels of a tile mostly lie
 * side by side: two bytes apart. */
INLINED void add_levels(halves *count, view x, const zob_window *w, const uint8_t *rows, uint32_t a_term, int straight,
                        int side_by_side) {
    EACH(i) count[i] = no_halves();
    for (uint32_t k = 0; k < w->terms; k++, rows += a_term) {
        const ptrdiff_t at = w->offsets[k];
        EACH(i) {
            uint16_t level;
            memcpy(&level, side_by_side ? x.start[0] + at + 2u * i : spot(&x, straight, i, at), 2);
            count[i] = add_halves(count[i], rows + level);
        }
    }
}

INLINED void sum_levels(reals *sum, const tile *t, const zob_tile_step *s, uint32_t channel) {
    const zob_window *w = &t->pass->windows[s->window];
    const uint8_t *base = t->parameters + s->bias + 4u * (size_t)channel;
    const size_t block = channel / ZOB_BLOCK, lane = channel % ZOB_BLOCK;
    const uint8_t *rows = t->parameters + s->table + block * w->terms * s->a_vector + 2u * lane;
    const view x = view_of(t, w, s->window);
    halves count[ZOB_TILE];
    if (!t->straight) {
        add_levels(count, x, w, rows, s->a_vector, 0, 0);
    } else if (w->step != 2u) {
        add_levels(count, x, w, rows, s->a_vector, 1, 0);
    } else {
        add_levels(count, x, w, rows, s->a_vector, 1, 1);
    }
    if (t->inside[s->window]) {
        const reals one = load(base);
        EACH(i) sum[i] = less_twice(one, widened(count[i]));
    } else {
        EACH(i) sum[i] = less_twice(base_at(t, w, base, i), widened(count[i]));
    }
}

INLINED void sum_bytes(words *sum, view x, const zob_window *w, const uint8_t *weights, int straight) {
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const words filter = load_words(weights);
        const ptrdiff_t at = w->offsets[k];
        EACH(i) sum[i] = add_byte_products(sum[i], all_words(spot(&x, straight, i, at)), filter);
    }
}

/* acc + x * w, term after term, of windows wholly inside. */
INLINED void sum_reals(reals *sum, view x, const zob_window *w, const uint8_t *weights, int32_t group, int straight) {
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const reals filter = load(weights);
        const ptrdiff_t at = w->offsets[k] + group;
        EACH(i) {
            float one;
            memcpy(&one, spot(&x, straight, i, at), 4);
            sum[i] = add(sum[i], multiply(all(one), filter));
        }
    }
}

/* The same where every filter has a channel of its own. */
INLINED void sum_own(reals *sum, view x, const zob_window *w, const uint8_t *weights, uint32_t channel, int straight) {
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const reals filter = load(weights);
        const ptrdiff_t at = w->offsets[k] + 4 * (ptrdiff_t)channel;
        EACH(i) sum[i] = add(sum[i], multiply(load(spot(&x, straight, i, at)), filter));
    }
}

/* Any window: over the border, of any groups. */
static reals sum_any(const uint8_t *start, const zob_window *w, zob_cover cover, const uint8_t *weights,
                     const int32_t *groups, uint32_t channel) {
    const int32_t *offsets = w->offsets;
    reals sum = all(0.0f);
    for (uint32_t ky = 0; ky < w->kernel[0]; ky++) {
        for (uint32_t kx = 0; kx < w->kernel[1]; kx++, offsets += w->terms_a_tap) {
            const int inside = ky >= cover.top && ky < cover.bottom && kx >= cover.left && kx < cover.right;
            for (uint32_t j = 0; j < w->terms_a_tap; j++, weights += NEXT_WEIGHTS) {
                if (inside) {
                    sum = add(sum, multiply(real_at(w, start + offsets[j], groups, channel), load(weights)));
                } else if (w->pad_value) {
                    sum = add(sum, load(weights));
                }
            }
        }
    }
    return sum;
}

OUTLINED void conv_any(reals *sum, const tile *t, const zob_tile_step *s, const zob_window *w, uint32_t channel) {
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        const zob_cover cover = w->covers[w->classes[t->pixel[i]]];
        const uint8_t *start = start_of(t, w, s->window, i);
        sum[i] = sum_any(start, w, cover, weights_at(t, s, w, channel), w->groups + channel, channel);
    }
}

/* The greatest elements of windows that reach over the border, or the means. */
OUTLINED void pool_any(reals *result, const tile *t, const zob_tile_step *s, const zob_window *w, uint32_t channel) {
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        const zob_cover cover = w->covers[w->classes[t->pixel[i]]];
        const uint8_t *start = start_of(t, w, s->window, i) + 4u * (size_t)channel;
        const uint32_t taps = (cover.bottom - cover.top) * (cover.right - cover.left);
        reals best = load(start + w->offsets[cover.top * w->kernel[1] + cover.left]), sum = all(0.0f);
        for (uint32_t ky = cover.top; ky < cover.bottom; ky++) {
            for (uint32_t kx = cover.left; kx < cover.right; kx++) {
                const reals value = load(start + w->offsets[ky * w->kernel[1] + kx]);
                best = greater_or(value, best);
                sum = add(sum, value);
            }
        }
        result[i] = s->kind == ZOB_STEP_MAX_POOL ? best : divide(sum, all((float)taps));
    }
}

INLINED void find_greatest(reals *best, view x, const zob_window *w, uint32_t channel, int straight) {
    const ptrdiff_t first = w->offsets[0] + 4 * (ptrdiff_t)channel;
    EACH(i) best[i] = load(spot(&x, straight, i, first));
    for (uint32_t k = 1; k < w->terms; k++) {
        const ptrdiff_t at = w->offsets[k] + 4 * (ptrdiff_t)channel;
        EACH(i) best[i] = greater_or(load(spot(&x, straight, i, at)), best[i]);
    }
}

INLINED void find_means(reals *mean, view x, const zob_window *w, uint32_t channel, int straight) {
    const reals terms = all((float)w->terms);
    EACH(i) mean[i] = all(0.0f);
    for (uint32_t k = 0; k < w->terms; k++) {
        const ptrdiff_t at = w->offsets[k] + 4 * (ptrdiff_t)channel;
        EACH(i) mean[i] = add(mean[i], load(spot(&x, straight, i, at)));
    }
    EACH(i) mean[i] = divide(mean[i], terms);
}

/* Sums of products of bits: what they begin with, a row for each way a window lies over the border, less twice the bits
 * that differ. */
INLINED void sum_bits(reals *sum, const tile *t, const zob_tile_step *s, uint32_t window, uint32_t channel) {
    const zob_window *w = &t->pass->windows[window];
    const uint8_t *weights = weights_at(t, s, w, channel), *base = t->parameters + s->bias + 4u * (size_t)channel;
    const view x = view_of(t, w, window);
    words count[ZOB_TILE];
    if (w->slot) {
        count_packed(count, (const uint32_t(*)[ZOB_TILE])t->packed[window], w, weights);
    } else if (w->read == ZOB_READ_SHARED) {
        FOR_TILE(t, count_tile, count, x, w, weights, w->groups[channel]);
    } else {
        words each[ZOB_TILE];
        count_scattered(each, t, window, weights, channel);
        EACH(i) count[i] = each[i];
    }
    if (t->inside[window]) {
        const reals one = load(base);
        EACH(i) sum[i] = less_twice(one, count[i]);
    } else {
        EACH(i) sum[i] = less_twice(base_at(t, w, base, i), count[i]);
    }
}

/* Twice the first plane's sum, and where that does not reach the threshold the second one's. */
INLINED reals gated(reals base, words count, reals least) {
    const reals high = less_twice(base, lower_half(count)), low = less_twice(base, upper_half(count));
    return add_where_clear(less(high, least), low, add(high, high));
}

INLINED void sum_twins(reals *sum, const tile *t, const zob_tile_step *s, uint32_t channel) {
    const zob_window *w = &t->pass->windows[s->window];
    const uint8_t *base = t->parameters + s->bias + 4u * (size_t)channel;
    const reals least = load(t->parameters + s->threshold + 4u * (size_t)channel);
    const view x = view_of(t, w, s->window);
    words count[ZOB_TILE];
    FOR_TILE(t, count_pairs, count, x, w, weights_at(t, s, w, channel));
    if (t->inside[s->window]) {
        const reals one = load(base);
        EACH(i) sum[i] = gated(one, count[i], least);
    } else {
        EACH(i) sum[i] = gated(base_at(t, w, base, i), count[i], least);
    }
}

/* Masks for later steps, and as bits of a tensor, where the step says so. */
INLINED void put_masks(tile *t, const zob_tile_step *s, uint32_t channel, const mask *m) {
    const uint32_t left = t->pass->channels - channel;
    if (s->mask != ZOB_NO_MASK) {
        EACH(i) t->masks[s->mask][i] = m[i];
    }
    if (!s->cells) return;
    if (t->straight && left >= LANES) {
        uint8_t *p = cell_at(t, s, channel, 0);
        EACH(i) store_bits(p + (size_t)i * s->a_vector, m[i], 0xFFFFu);
        return;
    }
    for (uint32_t i = 0; i < t->valid; i++) {
        store_bits(cell_at(t, s, channel, i), m[i], left < LANES ? ((uint32_t)1 << left) - 1u : 0xFFFFu);
    }
}

/* Two masks as the twins of a tensor. */
INLINED void put_twins(const tile *t, const zob_tile_step *s, uint32_t channel, const mask *first, const mask *second) {
    const uint32_t left = t->pass->channels - channel, block = channel / ZOB_BLOCK, lane = channel % ZOB_BLOCK;
    const size_t at = s->arena + 4u * (size_t)block + lane / 8u;
    if (t->straight && left >= LANES) {
        uint8_t *p = t->arena + at + (size_t)t->image[0] * s->image_bytes + s->cells[t->pixel[0]];
        EACH(i) store_twins(p + (size_t)i * s->a_vector, first[i], second[i], 0xFFFFu);
        return;
    }
    for (uint32_t i = 0; i < t->valid; i++) {
        uint8_t *p = t->arena + at + (size_t)t->image[i] * s->image_bytes + s->cells[t->pixel[i]];
        store_twins(p, first[i], second[i], left < LANES ? ((uint32_t)1 << left) - 1u : 0xFFFFu);
    }
}

/* One vector of channels of a tile through all steps. */
static void run_vector(tile *t, uint32_t channel) {
    const zob_pass *pass = t->pass;
    reals v[ZOB_TILE];
    EACH(i) v[i] = all(0.0f);
    for (const zob_tile_step *s = pass->steps, *end = s + pass->count; s < end; s++) {
        const uint8_t *table = t->parameters + s->table + 4u * (size_t)channel;
        const uint8_t *bias = t->parameters + s->bias + 4u * (size_t)channel;
        switch (s->kind) {
        case ZOB_STEP_CONV_BITS:
            sum_bits(v, t, s, s->window, channel);
            break;
        case ZOB_STEP_GATED_CONV: {
            const reals least = load(t->parameters + s->threshold + 4u * (size_t)channel);
            reals low[ZOB_TILE];
            sum_bits(v, t, s, s->window, channel);
            sum_bits(low, t, s, s->window + 1u, channel);
            EACH(i) v[i] = add_where_clear(less(v[i], least), low[i], add(v[i], v[i]));
            break;
        }
        case ZOB_STEP_GATED_TWINS:
            sum_twins(v, t, s, channel);
            break;
        case ZOB_STEP_CONV_LEVELS:
            sum_levels(v, t, s, channel);
            break;
        case ZOB_STEP_CONV_BYTES: {
            const zob_window *w = &pass->windows[s->window];
            const reals step = all(s->low);
            const view x = view_of(t, w, s->window);
            words sum[ZOB_TILE];
            EACH(i) sum[i] = load_words(bias);
            FOR_TILE(t, sum_bytes, sum, x, w, weights_at(t, s, w, channel));
            EACH(i) v[i] = whole(sum[i]);
            if (s->low != 1.0f) {
                EACH(i) v[i] = multiply(v[i], step);
            }
            break;
        }
        case ZOB_STEP_CONV_REAL: {
            const zob_window *w = &pass->windows[s->window];
            const view x = view_of(t, w, s->window);
            EACH(i) v[i] = all(0.0f);
            if (t->inside[s->window] && w->read == ZOB_READ_SHARED) {
                FOR_TILE(t, sum_reals, v, x, w, weights_at(t, s, w, channel), w->groups[channel]);
            } else if (t->inside[s->window] && w->read == ZOB_READ_OWN) {
                FOR_TILE(t, sum_own, v, x, w, weights_at(t, s, w, channel), channel);
            } else {
                reals sum[ZOB_TILE];
                conv_any(sum, t, s, w, channel);
                EACH(i) v[i] = sum[i];
            }
            break;
        }
        case ZOB_STEP_MAX_POOL:
        case ZOB_STEP_AVERAGE_POOL: {
            const zob_window *w = &pass->windows[s->window];
            const view x = view_of(t, w, s->window);
            if (!t->inside[s->window]) {
                reals pooled[ZOB_TILE];
                pool_any(pooled, t, s, w, channel);
                EACH(i) v[i] = pooled[i];
            } else if (s->kind == ZOB_STEP_MAX_POOL) {
                FOR_TILE(t, find_greatest, v, x, w, channel);
            } else {
                FOR_TILE(t, find_means, v, x, w, channel);
            }
            break;
        }
        case ZOB_STEP_LOAD: {
            const uint8_t *p = vector_at(t, s, channel);
            EACH(i) v[i] = load(p + (size_t)i * s->a_vector);
            break;
        }
        case ZOB_STEP_SELECT:
            EACH(i) v[i] = choose(t->masks[s->mask][i], all(s->low), all(s->high));
            break;
        case ZOB_STEP_STORE: {
            uint8_t *p = vector_at(t, s, channel);
            EACH(i) store(p + (size_t)i * s->a_vector, v[i]);
            break;
        }
        case ZOB_STEP_AFFINE: {
            const reals scale = load(table), shift = load(bias);
            EACH(i) v[i] = add(multiply(v[i], scale), shift);
            break;
        }
        case ZOB_STEP_SCALE: {
            const reals scale = load(table);
            EACH(i) v[i] = multiply(v[i], scale);
            break;
        }
        case ZOB_STEP_BIAS: {
            const reals shift = load(bias);
            EACH(i) v[i] = add(v[i], shift);
            break;
        }
        case ZOB_STEP_PRELU: {
            const reals slope = load(table);
            EACH(i) v[i] = sloped(v[i], slope);
            break;
        }
        case ZOB_STEP_PRELU_ELEMENT:
            EACH(i) v[i] = sloped(v[i], load(table + (size_t)t->pixel[i] * s->a_position));
            break;
        case ZOB_STEP_CLIP: {
            const reals low = all(s->low), high = all(s->high);
            EACH(i) v[i] = less_or(high, greater_or(low, v[i]));
            break;
        }
        case ZOB_STEP_ADD: {
            const uint8_t *p = vector_at(t, s, channel);
            EACH(i) v[i] = add(v[i], load(p + (size_t)i * s->a_vector));
            break;
        }
        case ZOB_STEP_MUL: {
            const uint8_t *p = vector_at(t, s, channel);
            EACH(i) v[i] = multiply(v[i], load(p + (size_t)i * s->a_vector));
            break;
        }
        case ZOB_STEP_MUL_CHANNEL: {
            const uint8_t *p = t->arena + s->arena + 4u * (size_t)channel;
            EACH(i) v[i] = multiply(v[i], load(p + (size_t)t->image[i] * s->image_bytes));
            break;
        }
        case ZOB_STEP_ADD_SELECT:
            EACH(i) v[i] = add(v[i], choose(t->masks[s->mask][i], all(s->low), all(s->high)));
            break;
        case ZOB_STEP_MUL_SELECT:
            EACH(i) v[i] = multiply(v[i], choose(t->masks[s->mask][i], all(s->low), all(s->high)));
            break;
        case ZOB_STEP_SIGN: {
            mask m[ZOB_TILE];
            EACH(i) m[i] = less(v[i], all(0.0f));
            put_masks(t, s, channel, m);
            break;
        }
        case ZOB_STEP_THRESHOLD: {
            const reals least = load(table);
            mask m[ZOB_TILE];
            EACH(i) m[i] = less(v[i], least);
            put_masks(t, s, channel, m);
            break;
        }
        case ZOB_STEP_LOW_BIT: {
            const reals below = all(-s->low), above = all(s->low);
            mask m[ZOB_TILE];
            EACH(i) m[i] = less(v[i], choose(less(v[i], all(0.0f)), below, above));
            put_masks(t, s, channel, m);
            break;
        }
        case ZOB_STEP_TWO_BITS: {
            const reals below = all(-s->low), above = all(s->low);
            mask sign[ZOB_TILE], low[ZOB_TILE];
            EACH(i) sign[i] = less(v[i], all(0.0f));
            EACH(i) low[i] = less(v[i], choose(sign[i], below, above));
            put_twins(t, s, channel, sign, low);
            break;
        }
        case ZOB_STEP_LOAD_BITS:
            EACH(i) t->masks[s->mask][i] = load_bits(cell_at(t, s, channel, i));
            break;
        }
    }
}

static void run_pass(const zob_pass *pass, uint8_t *arena, const uint8_t *parameters, uint32_t images, uint32_t first,
                     uint32_t end) {
    const uint32_t positions = images * pass->pixels, end_channel = end < pass->channels ? end : pass->channels;
    uint32_t image = 0, pixel = 0, x = 0;
    tile t;
    t.pass = pass;
    t.arena = arena;
    t.parameters = parameters;
    for (t.first = 0; t.first < positions; t.first += ZOB_TILE) {
        t.valid = positions - t.first < ZOB_TILE ? positions - t.first : ZOB_TILE;
        place_positions(&t, image, pixel, x);
        for (uint32_t k = 0; k < pass->window_count; k++) {
            place_window(&t, &pass->windows[k], k);
            if (pass->windows[k].slot) pack_window(&t, &pass->windows[k], k);
        }
        for (uint32_t channel = first; channel < end_channel; channel += LANES) run_vector(&t, channel);
        for (pixel += ZOB_TILE; pixel >= pass->pixels; pixel -= pass->pixels) image++;
        for (x += ZOB_TILE; x >= pass->width; x -= pass->width) {}
    }
}
