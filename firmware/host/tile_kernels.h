/* The kernels of one instruction set: included once by each tile_*.c, after its lanes. */
#include "tile_sums.h"

/* To each count the bits of a window that differ. */
INLINED void count_bits(words *count, const tile *t, const zob_tile_step *s, uint32_t window, uint32_t channel) {
    const zob_window *w = &t->pass->windows[window];
    const uint8_t *weights = weights_at(t, s, w, channel);
    if (w->slot) {
        count_packed(count, (const uint32_t(*)[ZOB_TILE])t->packed[window], w, weights);
    } else if (w->chains) {
        FOR_BITS(t, window, count_chains, count, t->chains[window], t->links[window], w, weights);
    } else if (w->read == ZOB_READ_SHARED) {
        FOR_BITS(t, window, count_tile, count, w, weights, w->groups[channel]);
    } else {
        words each[ZOB_TILE];
        EACH(i) each[i] = count[i];
        count_scattered(each, t, window, weights, channel);
        EACH(i) count[i] = each[i];
    }
}

/* Sums of products of bits: what they begin with, a row for each way a window lies over the border, less twice the bits
 * that differ. */
INLINED void sum_bits(reals *sum, const tile *t, const zob_tile_step *s, uint32_t window, uint32_t channel) {
    const uint8_t *base = t->parameters + s->bias + 4u * (size_t)channel;
    words count[ZOB_TILE];
    EACH(i) count[i] = no_words();
    count_bits(count, t, s, window, channel);
    if (t->inside[window]) {
        const reals one = load(base);
        EACH(i) sum[i] = less_twice(one, count[i]);
    } else {
        EACH(i) sum[i] = less_twice(load(base + t->border[window][i]), count[i]);
    }
}

/* Sums of products of bytes, of `vectors` vectors of filters from `channel` on. */
INLINED void sum_products(words (*sum)[ZOB_TILE], const tile *t, const zob_tile_step *s, uint32_t channel,
                          uint32_t vectors) {
    const zob_window *w = &t->pass->windows[s->window];
    const uint8_t *weights = weights_at(t, s, w, channel);
    const size_t next = (size_t)(weights_at(t, s, w, channel + LANES) - weights);
    EACH_VECTOR(v, vectors) {
        const words base = load_words(t->parameters + s->bias + 4u * (size_t)(channel + v * LANES));
        EACH(i) sum[v][i] = base;
    }
    FOR_STEP(t, s->window, 3, sum_bytes, sum, w, weights, next, vectors);
    if (w->loose) sum_loose(sum, (const uint32_t(*)[ZOB_TILE])t->packed[s->window], w, weights, next, vectors);
}

/* What counts begin with: a row for each way a window lies over the border. */
INLINED void begin_counts(words *count, const tile *t, const zob_tile_step *s, uint32_t channel) {
    const uint8_t *base = t->parameters + s->bias + 4u * (size_t)channel;
    if (t->inside[s->window]) {
        const words one = load_words(base);
        EACH(i) count[i] = one;
    } else {
        EACH(i) count[i] = load_words(base + t->border[s->window][i]);
    }
}

INLINED void sum_twins(reals *sum, const tile *t, const zob_tile_step *s, uint32_t channel) {
    const zob_window *w = &t->pass->windows[s->window];
    const words most = load_words(t->parameters + s->threshold + 4u * (size_t)channel);
    words count[ZOB_TILE];
    begin_counts(count, t, s, channel);
    FOR_BITS(t, s->window, count_pairs, count, w, weights_at(t, s, w, channel));
    EACH(i) sum[i] = whole(gated(count[i], most));
}

/* Masks for later steps, and as bits of a tensor, where the step says so. */
INLINED void put_masks(tile *t, const zob_tile_step *s, uint32_t channel, const mask *m) {
    const uint32_t left = t->pass->channels - channel;
    if (s->mask != ZOB_NO_MASK) {
        EACH(i) t->masks[s->mask][i] = m[i];
    }
    if (!s->cells) return;
    const uint32_t valid = t->valid, lanes = left < LANES ? ((uint32_t)1 << left) - 1u : 0xFFFFu;
    uint8_t *cell[ZOB_TILE]; /* all of them first: stores may alias what they are read from */
    EACH(i) cell[i] = cell_at(t, s, channel, i);
    EACH(i) {
        if (i < valid) store_bits(cell[i], m[i], lanes);
    }
}

/* Masks that `decision` makes of position i; each stored as soon as it is there, where all of a tile are. */
#define PUT_MASKS(t, s, channel, i, decision)                                                                          \
    if ((s)->mask == ZOB_NO_MASK && (t)->straight && (t)->pass->channels - (channel) >= LANES) {                       \
        uint8_t *p = cell_at(t, s, channel, 0);                                                                        \
        const size_t apart = (s)->a_vector;                                                                            \
        EACH(i) store_bits(p + i * apart, decision, 0xFFFFu);                                                          \
    } else {                                                                                                           \
        mask m[ZOB_TILE];                                                                                              \
        EACH(i) m[i] = decision;                                                                                       \
        put_masks(t, s, channel, m);                                                                                   \
    }

/* Whether such sums are below their filters' thresholds, as masks. */
INLINED void sign_products(tile *t, const zob_tile_step *s, uint32_t channel, uint32_t vectors) {
    words sum[BYTES_AT_ONCE][ZOB_TILE];
    sum_products(sum, t, s, channel, vectors);
    EACH_VECTOR(v, vectors) {
        const uint32_t at = channel + v * LANES;
        const words least = load_words(t->parameters + s->threshold + 4u * (size_t)at);
        PUT_MASKS(t, s, at, i, more(least, sum[v][i]));
    }
}

/* A real's sign and low bit: whether it is less than `bound` of the same sign. */
INLINED void store_two_bits(uint8_t *p, reals x, reals bound, reals minus_bound, uint32_t valid) {
    const mask sign = less(x, all(0.0f)), low = less(x, choose(sign, minus_bound, bound));
    store_twins(p, low, sign, valid);
}

/* Those of a tile, as twins of a tensor. */
INLINED void put_two_bits(const tile *t, const zob_tile_step *s, uint32_t channel, const reals *v) {
    const uint32_t left = t->pass->channels - channel, block = channel / ZOB_BLOCK, lane = channel % ZOB_BLOCK;
    const size_t at = s->arena + 4u * (size_t)block + lane / 8u;
    const reals bound = all(s->low), minus_bound = all(-s->low);
    if (t->straight && left >= LANES) {
        uint8_t *p = t->arena + at + (size_t)t->image[0] * s->image_bytes + s->cells[t->pixel[0]];
        const size_t apart = s->a_vector;
        EACH(i) store_two_bits(p + i * apart, v[i], bound, minus_bound, 0xFFFFu);
        return;
    }
    const uint32_t valid = left < LANES ? ((uint32_t)1 << left) - 1u : 0xFFFFu;
    EACH(i) {
        if (i == t->valid) break;
        uint8_t *p = t->arena + at + (size_t)image_of(t, i) * s->image_bytes + s->cells[pixel_of(t, i)];
        store_two_bits(p, v[i], bound, minus_bound, valid);
    }
}

/* Sums of products of floats. */
INLINED void sum_floats(reals *v, const tile *t, const zob_tile_step *s, uint32_t channel) {
    const zob_window *w = &t->pass->windows[s->window];
    EACH(i) v[i] = all(0.0f);
    if (t->inside[s->window] && w->read == ZOB_READ_SHARED) {
        FOR_ANY(t, s->window, sum_reals, v, w, weights_at(t, s, w, channel), w->groups[channel]);
    } else if (t->inside[s->window] && w->read == ZOB_READ_OWN) {
        FOR_ANY(t, s->window, sum_own, v, w, weights_at(t, s, w, channel), channel);
    } else {
        reals sum[ZOB_TILE];
        conv_any(sum, t, s, w, channel);
        EACH(i) v[i] = sum[i];
    }
}

/* One vector of channels of a tile through one step. */
INLINED void take_step(tile *t, const zob_tile_step *s, zob_step_kind kind, uint32_t channel, reals *v) {
    const zob_pass *pass = t->pass;
    const uint8_t *table = t->parameters + s->table + 4u * (size_t)channel;
    const uint8_t *bias = t->parameters + s->bias + 4u * (size_t)channel;
    switch (kind) {
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
        const reals step = all(s->low);
        words sum[1][ZOB_TILE];
        sum_products(sum, t, s, channel, 1);
        EACH(i) v[i] = whole(sum[0][i]);
        if (s->low != 1.0f) {
            EACH(i) v[i] = multiply(v[i], step);
        }
        break;
    }
    case ZOB_STEP_CONV_REAL:
        sum_floats(v, t, s, channel);
        break;
    case ZOB_STEP_MAX_POOL:
    case ZOB_STEP_AVERAGE_POOL: {
        const zob_window *w = &pass->windows[s->window];
        if (!t->inside[s->window]) {
            reals pooled[ZOB_TILE];
            pool_any(pooled, t, s, w, channel);
            EACH(i) v[i] = pooled[i];
        } else if (kind == ZOB_STEP_MAX_POOL) {
            FOR_ANY(t, s->window, find_greatest, v, w, channel);
        } else {
            FOR_ANY(t, s->window, find_means, v, w, channel);
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
        EACH(i) v[i] = sloped(v[i], load(table + (size_t)pixel_of(t, i) * s->a_position));
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
    case ZOB_STEP_ADD_CONV_REAL: {
        reals more[ZOB_TILE];
        sum_floats(more, t, s, channel);
        EACH(i) v[i] = add(v[i], more[i]);
        break;
    }
    case ZOB_STEP_MUL: {
        const uint8_t *p = vector_at(t, s, channel);
        EACH(i) v[i] = multiply(v[i], load(p + (size_t)i * s->a_vector));
        break;
    }
    case ZOB_STEP_MUL_CHANNEL: {
        const uint8_t *p = t->arena + s->arena + 4u * (size_t)channel;
        EACH(i) v[i] = multiply(v[i], load(p + (size_t)image_of(t, i) * s->image_bytes));
        break;
    }
    case ZOB_STEP_ADD_SELECT:
        EACH(i) v[i] = add(v[i], choose(t->masks[s->mask][i], all(s->low), all(s->high)));
        break;
    case ZOB_STEP_MUL_SELECT:
        EACH(i) v[i] = multiply(v[i], choose(t->masks[s->mask][i], all(s->low), all(s->high)));
        break;
    case ZOB_STEP_SIGN_BITS: {
        const words most = load_words(t->parameters + s->threshold + 4u * (size_t)channel);
        words count[ZOB_TILE];
        begin_counts(count, t, s, channel);
        count_bits(count, t, s, s->window, channel);
        PUT_MASKS(t, s, channel, i, more(count[i], most));
        break;
    }
    case ZOB_STEP_SIGN_BYTES:
        sign_products(t, s, channel, 1);
        break;
    case ZOB_STEP_SIGN:
        PUT_MASKS(t, s, channel, i, less(v[i], all(0.0f)));
        break;
    case ZOB_STEP_THRESHOLD: {
        const reals least = load(table);
        PUT_MASKS(t, s, channel, i, less(v[i], least));
        break;
    }
    case ZOB_STEP_LOW_BIT: {
        const reals below = all(-s->low), above = all(s->low);
        PUT_MASKS(t, s, channel, i, less(v[i], choose(less(v[i], all(0.0f)), below, above)));
        break;
    }
    case ZOB_STEP_TWO_BITS:
        put_two_bits(t, s, channel, v);
        break;
    case ZOB_STEP_LOAD_BITS:
        EACH(i) t->masks[s->mask][i] = load_bits(cell_at(t, s, channel, i));
        break;
    }
}

/* Vectors of channels of a tile through all steps. */
typedef void take_tile(tile *t, uint32_t first, uint32_t end);

static void take_any(tile *t, uint32_t first, uint32_t end) {
    const zob_tile_step *steps = t->pass->steps, *last = steps + t->pass->count;
    for (uint32_t channel = first; channel < end; channel += LANES) {
        reals v[ZOB_TILE];
        EACH(i) v[i] = all(0.0f);
        for (const zob_tile_step *s = steps; s < last; s++) take_step(t, s, s->kind, channel, v);
    }
}

/* The same of steps known beforehand, those that whole networks are made of: nothing but they, in registers. */
#define SEQUENCE(name, ...)                                                                                            \
    static const zob_step_kind name##_kinds[] = {__VA_ARGS__};                                                         \
    static void name(tile *t, uint32_t first, uint32_t end) {                                                          \
        const zob_tile_step *steps = t->pass->steps;                                                                   \
        for (uint32_t channel = first; channel < end; channel += LANES) {                                              \
            reals v[ZOB_TILE];                                                                                         \
            EACH(i) v[i] = all(0.0f);                                                                                  \
            _Pragma("GCC unroll 8") for (uint32_t k = 0; k < LENGTH(name##_kinds); k++) {                              \
                take_step(t, steps + k, name##_kinds[k], channel, v);                                                  \
            }                                                                                                          \
        }                                                                                                              \
    }
#define LENGTH(array) (sizeof(array) / sizeof *(array))

SEQUENCE(take_sign_bits, ZOB_STEP_SIGN_BITS)
SEQUENCE(take_levels, ZOB_STEP_CONV_LEVELS, ZOB_STEP_AFFINE, ZOB_STEP_STORE, ZOB_STEP_TWO_BITS)
SEQUENCE(take_gated, ZOB_STEP_GATED_TWINS, ZOB_STEP_AFFINE_PRELU, ZOB_STEP_ADD_AFFINE, ZOB_STEP_STORE, ZOB_STEP_TWO_BITS)

static const zob_step_kind take_sign_bytes_kinds[] = {ZOB_STEP_SIGN_BYTES};
static void take_sign_bytes(tile *t, uint32_t first, uint32_t end) {
    const zob_tile_step *step = t->pass->steps;
    uint32_t channel = first;
    for (; channel + BYTES_AT_ONCE * LANES <= end; channel += BYTES_AT_ONCE * LANES) {
        sign_products(t, step, channel, BYTES_AT_ONCE);
    }
    for (; channel < end; channel += LANES) sign_products(t, step, channel, 1);
}

static take_tile *sequence_of(const zob_pass *pass) {
    static const struct {
        take_tile *take;
        const zob_step_kind *kinds;
        uint32_t count;
    } known[] = {{take_sign_bits, take_sign_bits_kinds, LENGTH(take_sign_bits_kinds)},
                 {take_sign_bytes, take_sign_bytes_kinds, LENGTH(take_sign_bytes_kinds)},
                 {take_levels, take_levels_kinds, LENGTH(take_levels_kinds)},
                 {take_gated, take_gated_kinds, LENGTH(take_gated_kinds)}};
    for (uint32_t i = 0; i < LENGTH(known); i++) {
        uint32_t same = 0;
        while (same < pass->count && same < known[i].count && pass->steps[same].kind == known[i].kinds[same]) same++;
        if (same == pass->count && same == known[i].count) return known[i].take;
    }
    return take_any;
}

/* Where tiles begin anew with each row of a pass and the last one of a row repeats positions of the one before: lying side
 * by side makes up for that many. */
static uint32_t begins_rows(uint32_t width) {
    const uint32_t repeated = (ZOB_TILE - width % ZOB_TILE) % ZOB_TILE;
    return width > ZOB_TILE && 12u * repeated <= width;
}

static void run_pass(const zob_pass *pass, uint8_t *arena, const uint8_t *parameters, uint32_t images, uint32_t first,
                     uint32_t end) {
    const uint32_t positions = images * pass->pixels, end_channel = end < pass->channels ? end : pass->channels;
    const uint32_t by_rows = begins_rows(pass->width);
    uint32_t image = 0, pixel = 0, x = 0;
    take_tile *const take = sequence_of(pass);
    tile t;
    t.pass = pass;
    t.arena = arena;
    t.parameters = parameters;
    for (t.first = 0; t.first < positions; t.first += ZOB_TILE) {
        if (by_rows && x + ZOB_TILE > pass->width) {
            const uint32_t back = x + ZOB_TILE - pass->width;
            t.first -= back;
            pixel -= back;
            x -= back;
        }
        t.valid = positions - t.first < ZOB_TILE ? positions - t.first : ZOB_TILE;
        place_positions(&t, image, pixel, x);
        for (uint32_t k = 0; k < pass->window_count; k++) {
            place_window(&t, &pass->windows[k], k);
            if (pass->windows[k].slot) pack_window(&t, &pass->windows[k], k);
            if (pass->windows[k].chains) chain_window(&t, &pass->windows[k], k);
            if (pass->windows[k].loose) gather_loose(&t, &pass->windows[k], k);
        }
        take(&t, first, end_channel);
        for (pixel += ZOB_TILE; pixel >= pass->pixels; pixel -= pass->pixels) image++;
        for (x += ZOB_TILE; x >= pass->width; x -= pass->width) {}
    }
}

static void map_bytes(const uint8_t *table, const uint8_t *from, uint8_t *to, uint32_t n) {
    uint32_t i = 0;
    for (; i + MAPPED_AT_ONCE <= n; i += MAPPED_AT_ONCE) map_some(table, from + i, to + i);
    for (; i < n; i++) to[i] = table[from[i]];
}
