/* The kernels of one instruction set: included once by each tile_*.c, after its lanes. */
#include <stddef.h>
#include <string.h>


/* A tile in registers: loops over it are unrolled, so that no vector of it has to lie in memory. */
#define EACH(i) _Pragma("GCC unroll 8") for (uint32_t i = 0; i < ZOB_TILE; i++)

/* A tile's positions. Those past the last one repeat it: computed alike, stored where nobody reads. */
typedef struct {
    const zob_pass *pass;
    uint8_t *arena;
    const uint8_t *parameters;
    uint32_t first, valid;
    uint32_t image[ZOB_TILE], pixel[ZOB_TILE];
    const uint8_t *start[ZOB_MAX_WINDOWS][ZOB_TILE]; /* where each window begins, for each window of the pass */
    uint32_t inside[ZOB_MAX_WINDOWS];                /* all of them wholly inside */
    mask masks[ZOB_MAX_MASKS][ZOB_TILE];
} tile;

static void place_windows(tile *t) {
    for (uint32_t k = 0; k < t->pass->window_count; k++) {
        const zob_window *w = &t->pass->windows[k];
        uint32_t classes = 0;
        for (uint32_t i = 0; i < ZOB_TILE; i++) {
            t->start[k][i] = t->arena + w->source + (size_t)t->image[i] * w->image_bytes + w->starts[t->pixel[i]];
            classes |= w->classes[t->pixel[i]];
        }
        t->inside[k] = classes == 0u;
    }
}

static inline uint8_t *vector_at(const tile *t, const zob_tile_step *s, uint32_t channel, uint32_t i) {
    return t->arena + s->arena + (size_t)t->first * s->a_position + (size_t)channel * s->a_channel + i * s->a_vector;
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
    for (uint32_t left = w->terms; left > 0u;) {
        words count[ZOB_TILE];
        const uint32_t run = left < SETTLE_EVERY ? left : SETTLE_EVERY;
        left -= run;
        EACH(i) count[i] = no_words();
        for (uint32_t k = 0; k < run; k++, weights += NEXT_WEIGHTS) {
            const words filter = load_words(weights);
            const ptrdiff_t at = *offsets++ + group;
            EACH(i) count[i] = count_differing(count[i], all_words(start[i] + at), filter);
        }
        EACH(i) sum[i] = settle(sum[i], count[i]);
    }
}

static void count_scattered(words *sum, const uint8_t *const *start, const zob_window *w, const uint8_t *weights,
                            const int32_t *groups) {
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
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

/* The integers that sums of a convolution begin with: one row for each way a window lies over the border. */
static inline words base_at(const tile *t, const zob_tile_step *s, const zob_window *w, uint32_t channel, uint32_t i) {
    const uint32_t padded = (t->pass->channels + ZOB_BLOCK - 1u) / ZOB_BLOCK * ZOB_BLOCK;
    return load_words(t->parameters + s->bias + 4u * ((size_t)w->classes[t->pixel[i]] * padded + channel));
}

/* acc + x * w, term after term, of windows wholly inside. */
static inline void sum_reals(reals *sum, const uint8_t *const *start, const zob_window *w, const uint8_t *weights,
                             const int32_t *groups, uint32_t channel) {
    if (w->read == ZOB_READ_SHARED) {
        for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
            const reals filter = load(weights);
            const ptrdiff_t at = w->offsets[k] + groups[0];
            EACH(i) {
                float x;
                memcpy(&x, start[i] + at, 4);
                sum[i] = add(sum[i], multiply(all(x), filter));
            }
        }
        return;
    }
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const reals filter = load(weights);
        EACH(i) sum[i] = add(sum[i], multiply(real_at(w, start[i] + w->offsets[k], groups, channel), filter));
    }
}

/* The same of one window that reaches over the border. */
static reals sum_partly(const uint8_t *start, const zob_window *w, zob_cover cover, const uint8_t *weights,
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

static void conv_partly(reals *sum, const tile *t, const zob_tile_step *s, const zob_window *w, uint32_t channel) {
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        const zob_cover cover = w->covers[w->classes[t->pixel[i]]];
        sum[i] = sum_partly(t->start[s->window][i], w, cover, weights_at(t, s, w, channel), w->groups + channel, channel);
    }
}

/* The greatest element of a window, or the mean. */
static reals pooled(const tile *t, const zob_tile_step *s, const zob_window *w, uint32_t channel, uint32_t i) {
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
    return s->kind == ZOB_STEP_MAX_POOL ? best : divide(sum, all((float)taps));
}

static inline uint8_t *cell_at(const tile *t, const zob_tile_step *s, uint32_t channel, uint32_t i) {
    return t->arena + s->arena + (size_t)t->image[i] * s->image_bytes + s->cells[t->pixel[i]] + channel / 8u;
}

/* One vector of channels of a tile through all steps. */
static void run_vector(tile *t, uint32_t channel) {
    const zob_pass *pass = t->pass;
    const uint32_t left = pass->channels - channel;
    const uint32_t lanes_used = left < LANES ? ((uint32_t)1 << left) - 1u : 0xFFFFu;
    reals v[ZOB_TILE];
    EACH(i) v[i] = all(0.0f);
    for (const zob_tile_step *s = pass->steps, *end = s + pass->count; s < end; s++) {
        const uint8_t *table = t->parameters + s->table + 4u * (size_t)channel;
        const uint8_t *bias = t->parameters + s->bias + 4u * (size_t)channel;
        const zob_window *w = &pass->windows[s->window];
        mask *m = t->masks[s->mask];
        switch (s->kind) {
        case ZOB_STEP_CONV_BITS: {
            words sum[ZOB_TILE];
            EACH(i) sum[i] = no_words();
            if (w->read == ZOB_READ_SHARED) {
                count_tile(sum, t->start[s->window], w, weights_at(t, s, w, channel), w->groups[channel]);
            } else {
                words spread[ZOB_TILE];
                EACH(i) spread[i] = no_words();
                count_scattered(spread, t->start[s->window], w, weights_at(t, s, w, channel), w->groups + channel);
                EACH(i) sum[i] = spread[i];
            }
            EACH(i) v[i] = real_of(base_at(t, s, w, channel, i), minus_twice(sum[i]));
            break;
        }
        case ZOB_STEP_CONV_BYTES: {
            const reals step = all(s->low);
            words sum[ZOB_TILE];
            EACH(i) sum[i] = no_words();
            sum_bytes(sum, t->start[s->window], w, weights_at(t, s, w, channel));
            EACH(i) v[i] = multiply(real_of(base_at(t, s, w, channel, i), sum[i]), step);
            break;
        }
        case ZOB_STEP_CONV_REAL:
            if (t->inside[s->window]) {
                EACH(i) v[i] = all(0.0f);
                sum_reals(v, t->start[s->window], w, weights_at(t, s, w, channel), w->groups + channel, channel);
            } else {
                reals sum[ZOB_TILE];
                conv_partly(sum, t, s, w, channel);
                EACH(i) v[i] = sum[i];
            }
            break;
        case ZOB_STEP_MAX_POOL:
        case ZOB_STEP_AVERAGE_POOL:
            EACH(i) v[i] = pooled(t, s, w, channel, i);
            break;
        case ZOB_STEP_LOAD:
            EACH(i) v[i] = load(vector_at(t, s, channel, i));
            break;
        case ZOB_STEP_SELECT:
            EACH(i) v[i] = choose(m[i], all(s->low), all(s->high));
            break;
        case ZOB_STEP_STORE:
            EACH(i) store(vector_at(t, s, channel, i), v[i]);
            break;
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
        case ZOB_STEP_ADD:
            EACH(i) v[i] = add(v[i], load(vector_at(t, s, channel, i)));
            break;
        case ZOB_STEP_MUL:
            EACH(i) v[i] = multiply(v[i], load(vector_at(t, s, channel, i)));
            break;
        case ZOB_STEP_MUL_CHANNEL:
            EACH(i) {
                const uint8_t *factor = t->arena + s->arena + (size_t)t->image[i] * s->image_bytes;
                v[i] = multiply(v[i], load(factor + 4u * (size_t)channel));
            }
            break;
        case ZOB_STEP_ADD_SELECT:
            EACH(i) v[i] = add(v[i], choose(m[i], all(s->low), all(s->high)));
            break;
        case ZOB_STEP_MUL_SELECT:
            EACH(i) v[i] = multiply(v[i], choose(m[i], all(s->low), all(s->high)));
            break;
        case ZOB_STEP_SIGN:
            EACH(i) m[i] = less(v[i], all(0.0f));
            break;
        case ZOB_STEP_THRESHOLD: {
            const reals least = load(table);
            EACH(i) m[i] = less(v[i], least);
            break;
        }
        case ZOB_STEP_LOAD_BITS:
            EACH(i) m[i] = load_bits(cell_at(t, s, channel, i));
            break;
        case ZOB_STEP_STORE_BITS:
            for (uint32_t i = 0; i < t->valid; i++) store_bits(cell_at(t, s, channel, i), m[i], lanes_used);
            break;
        }
    }
}

static void run_pass(const zob_pass *pass, uint8_t *arena, const uint8_t *parameters, uint32_t images) {
    const uint32_t positions = images * pass->pixels;
    uint32_t image = 0, pixel = 0;
    tile t;
    t.pass = pass;
    t.arena = arena;
    t.parameters = parameters;
    for (t.first = 0; t.first < positions; t.first += ZOB_TILE) {
        t.valid = positions - t.first < ZOB_TILE ? positions - t.first : ZOB_TILE;
        for (uint32_t i = 0; i < ZOB_TILE; i++) {
            t.image[i] = image;
            t.pixel[i] = pixel;
            if (i + 1u < t.valid || t.valid == ZOB_TILE) {
                if (++pixel == pass->pixels) pixel = 0, image++;
            }
        }
        place_windows(&t);
        for (uint32_t channel = 0; channel < pass->channels; channel += LANES) run_vector(&t, channel);
    }
}
