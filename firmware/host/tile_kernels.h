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
    const uint8_t *start[ZOB_MAX_WINDOWS][ZOB_TILE]; /* where each window begins, for each window of the pass */
    uint32_t inside[ZOB_MAX_WINDOWS];                /* all of them wholly inside */
    mask masks[ZOB_MAX_MASKS][ZOB_TILE];
} tile;

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
        source += (size_t)t->image[0] * w->image_bytes + w->starts[t->pixel[0]];
        EACH(i) t->start[k][i] = source + (size_t)i * w->step;
        return;
    }
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        t->start[k][i] = source + (size_t)t->image[i] * w->image_bytes + w->starts[t->pixel[i]];
        classes |= w->classes[t->pixel[i]];
    }
    t->inside[k] = classes == 0u;
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

/* Differing bits of a tile's windows and one vector of filters. */
static inline void count_tile(words *sum, const uint8_t *const *start, const zob_window *w, const uint8_t *weights,
                              int32_t group) {
    const int32_t *offsets = w->offsets;
    uint32_t left = w->terms;
    EACH(i) sum[i] = no_words();
    do {
        words count[ZOB_TILE];
        const int32_t *end = offsets + (left < SETTLE_EVERY ? left : SETTLE_EVERY);
        left -= (uint32_t)(end - offsets);
        EACH(i) count[i] = no_words();
        for (; offsets < end; offsets++, weights += NEXT_WEIGHTS) {
            const words filter = load_words(weights);
            const ptrdiff_t at = *offsets + group;
            EACH(i) count[i] = count_differing(count[i], all_words(start[i] + at), filter);
        }
        EACH(i) sum[i] = settle(sum[i], count[i]);
    } while (left > 0u);
}

OUTLINED void count_scattered(words *sum, const uint8_t *const *start, const zob_window *w, const uint8_t *weights,
                              const int32_t *groups) {
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        sum[i] = no_words();
        for (uint32_t k = 0; k < w->terms; k++) {
            const words filter = load_words(weights + (size_t)k * NEXT_WEIGHTS);
            sum[i] = settle(sum[i], count_differing(no_words(), scattered(start[i] + w->offsets[k], groups), filter));
        }
    }
}

static inline void sum_bytes(words *sum, const uint8_t *const *start, const zob_window *w, const uint8_t *weights) {
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const words filter = load_words(weights);
        const ptrdiff_t at = w->offsets[k];
        EACH(i) sum[i] = add_byte_products(sum[i], all_words(start[i] + at), filter);
    }
}

/* acc + x * w, term after term, of windows wholly inside. */
static inline void sum_reals(reals *sum, const uint8_t *const *start, const zob_window *w, const uint8_t *weights,
                             int32_t group) {
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const reals filter = load(weights);
        const ptrdiff_t at = w->offsets[k] + group;
        EACH(i) {
            float x;
            memcpy(&x, start[i] + at, 4);
            sum[i] = add(sum[i], multiply(all(x), filter));
        }
    }
}

/* The same where every filter has a channel of its own. */
static inline void sum_own(reals *sum, const uint8_t *const *start, const zob_window *w, const uint8_t *weights,
                           uint32_t channel) {
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const reals filter = load(weights);
        const ptrdiff_t at = w->offsets[k] + 4 * (ptrdiff_t)channel;
        EACH(i) sum[i] = add(sum[i], multiply(load(start[i] + at), filter));
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
        sum[i] = sum_any(t->start[s->window][i], w, cover, weights_at(t, s, w, channel), w->groups + channel, channel);
    }
}

/* The greatest elements of windows, or the means. */
OUTLINED void pool(reals *result, const tile *t, const zob_tile_step *s, const zob_window *w, uint32_t channel) {
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        const zob_cover cover = w->covers[w->classes[t->pixel[i]]];
        const uint8_t *start = t->start[s->window][i] + 4u * (size_t)channel;
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

/* What the sums of a convolution of integers begin with: one row for each way a window lies over the border. */
static inline void load_bases(reals *base, const tile *t, const zob_tile_step *s, const zob_window *w, uint32_t channel) {
    const uint8_t *row = t->parameters + s->bias + 4u * (size_t)channel;
    if (t->inside[s->window]) {
        const reals one = load(row);
        EACH(i) base[i] = one;
    } else {
        const size_t row_bytes = (t->pass->channels + ZOB_BLOCK - 1u) / ZOB_BLOCK * ZOB_BLOCK * 4u;
        EACH(i) base[i] = load(row + w->classes[t->pixel[i]] * row_bytes);
    }
}

/* Masks as bits of a tensor, where the step says so. */
static inline void store_masks(const tile *t, const zob_tile_step *s, uint32_t channel, const mask *m) {
    const uint32_t left = t->pass->channels - channel;
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

/* One vector of channels of a tile through all steps. */
static void run_vector(tile *t, uint32_t channel) {
    const zob_pass *pass = t->pass;
    reals v[ZOB_TILE];
    EACH(i) v[i] = all(0.0f);
    for (const zob_tile_step *s = pass->steps, *end = s + pass->count; s < end; s++) {
        const uint8_t *table = t->parameters + s->table + 4u * (size_t)channel;
        const uint8_t *bias = t->parameters + s->bias + 4u * (size_t)channel;
        mask *m = t->masks[s->mask];
        switch (s->kind) {
        case ZOB_STEP_CONV_BITS: {
            const zob_window *w = &pass->windows[s->window];
            words sum[ZOB_TILE];
            reals base[ZOB_TILE];
            EACH(i) sum[i] = no_words();
            if (w->read == ZOB_READ_SHARED) {
                count_tile(sum, t->start[s->window], w, weights_at(t, s, w, channel), w->groups[channel]);
            } else {
                words each[ZOB_TILE];
                count_scattered(each, t->start[s->window], w, weights_at(t, s, w, channel), w->groups + channel);
                EACH(i) sum[i] = each[i];
            }
            load_bases(base, t, s, w, channel);
            EACH(i) v[i] = less_twice(base[i], sum[i]);
            break;
        }
        case ZOB_STEP_CONV_BYTES: {
            const zob_window *w = &pass->windows[s->window];
            const reals step = all(s->low), base = load(bias);
            words sum[ZOB_TILE];
            EACH(i) sum[i] = no_words();
            sum_bytes(sum, t->start[s->window], w, weights_at(t, s, w, channel));
            EACH(i) v[i] = multiply(plus_whole(base, sum[i]), step);
            break;
        }
        case ZOB_STEP_CONV_REAL: {
            const zob_window *w = &pass->windows[s->window];
            EACH(i) v[i] = all(0.0f);
            if (t->inside[s->window] && w->read == ZOB_READ_SHARED) {
                sum_reals(v, t->start[s->window], w, weights_at(t, s, w, channel), w->groups[channel]);
            } else if (t->inside[s->window] && w->read == ZOB_READ_OWN) {
                sum_own(v, t->start[s->window], w, weights_at(t, s, w, channel), channel);
            } else {
                reals sum[ZOB_TILE];
                conv_any(sum, t, s, w, channel);
                EACH(i) v[i] = sum[i];
            }
            break;
        }
        case ZOB_STEP_MAX_POOL:
        case ZOB_STEP_AVERAGE_POOL: {
            reals pooled[ZOB_TILE];
            pool(pooled, t, s, &pass->windows[s->window], channel);
            EACH(i) v[i] = pooled[i];
            break;
        }
        case ZOB_STEP_LOAD: {
            const uint8_t *p = vector_at(t, s, channel);
            EACH(i) v[i] = load(p + (size_t)i * s->a_vector);
            break;
        }
        case ZOB_STEP_SELECT:
            EACH(i) v[i] = choose(m[i], all(s->low), all(s->high));
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
            EACH(i) v[i] = add(v[i], choose(m[i], all(s->low), all(s->high)));
            break;
        case ZOB_STEP_MUL_SELECT:
            EACH(i) v[i] = multiply(v[i], choose(m[i], all(s->low), all(s->high)));
            break;
        case ZOB_STEP_ADD_TO: {
            const uint8_t *p = vector_at(t, s, channel);
            EACH(i) v[i] = add_where_clear(m[i], v[i], load(p + (size_t)i * s->a_vector));
            break;
        }
        case ZOB_STEP_SIGN:
            EACH(i) m[i] = less(v[i], all(0.0f));
            store_masks(t, s, channel, m);
            break;
        case ZOB_STEP_THRESHOLD: {
            const reals least = load(table);
            EACH(i) m[i] = less(v[i], least);
            store_masks(t, s, channel, m);
            break;
        }
        case ZOB_STEP_THRESHOLD_SELECT: {
            const mask *which = t->masks[s->window];
            EACH(i) m[i] = less(v[i], choose(which[i], all(s->low), all(s->high)));
            store_masks(t, s, channel, m);
            break;
        }
        case ZOB_STEP_LOAD_BITS:
            EACH(i) m[i] = load_bits(cell_at(t, s, channel, i));
            break;
        }
    }
}

static void run_pass(const zob_pass *pass, uint8_t *arena, const uint8_t *parameters, uint32_t images) {
    const uint32_t positions = images * pass->pixels;
    uint32_t image = 0, pixel = 0, x = 0;
    tile t;
    t.pass = pass;
    t.arena = arena;
    t.parameters = parameters;
    for (t.first = 0; t.first < positions; t.first += ZOB_TILE) {
        t.valid = positions - t.first < ZOB_TILE ? positions - t.first : ZOB_TILE;
        place_positions(&t, image, pixel, x);
        for (uint32_t k = 0; k < pass->window_count; k++) place_window(&t, &pass->windows[k], k);
        for (uint32_t channel = 0; channel < pass->channels; channel += LANES) run_vector(&t, channel);
        for (pixel += ZOB_TILE; pixel >= pass->pixels; pixel -= pass->pixels) image++;
        for (x += ZOB_TILE; x >= pass->width; x -= pass->width) {}
    }
}

static void pack(const zob_packing *p, uint32_t *to, const uint8_t *source, uint32_t images) {
    for (uint32_t first = 0; first < p->taps; first += p->taps_a_word, to += p->plane) {
        const int32_t *taps = p->offsets + first;
        const uint32_t count = p->taps - first < p->taps_a_word ? p->taps - first : p->taps_a_word;
        uint32_t *row = to;
        for (uint32_t image = 0; image < images; image++) {
            const uint8_t *from = source + (size_t)image * p->image_bytes;
            for (uint32_t y = 0; y < p->height; y++, from += p->down, row += p->width) {
                for (uint32_t i = 0; i < p->width; i += LANES) {
                    words packed = load_words(from + taps[0] + 4u * (size_t)i);
                    for (uint32_t j = 1; j < count; j++) {
                        const words next = load_words(from + taps[j] + 4u * (size_t)i);
                        packed = either(packed, shifted(next, j * p->slot));
                    }
                    store_words(row + i, packed);
                }
            }
        }
    }
}
