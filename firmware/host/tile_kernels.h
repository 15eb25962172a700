/* The kernels of one instruction set: included once by each tile_*.c, after its lanes. */
#include "tile_sums.h"

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
        const size_t apart = s->a_vector;
        EACH(i) store_bits(p + i * apart, m[i], 0xFFFFu);
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
        const size_t apart = s->a_vector;
        EACH(i) store_twins(p + i * apart, first[i], second[i], 0xFFFFu);
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
            const size_t apart = s->a_vector; /* read once: stores may alias it */
            EACH(i) store(p + i * apart, v[i]);
            break;
        }
        case ZOB_STEP_AFFINE_PRELU: {
            const reals scale = load(table), shift = load(bias);
            const reals slope = load(t->parameters + s->threshold + 4u * (size_t)channel);
            EACH(i) v[i] = sloped(add(multiply(v[i], scale), shift), slope);
            break;
        }
        case ZOB_STEP_ADD_AFFINE: {
            const uint8_t *p = vector_at(t, s, channel);
            const reals scale = load(table), shift = load(bias);
            EACH(i) v[i] = add(multiply(add(v[i], load(p + (size_t)i * s->a_vector)), scale), shift);
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
