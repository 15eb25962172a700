/* What a tile's windows come to: differing bits, levels, products, greatest elements and means. */
#include "tile_places.h"

/* To each count the differing bits of a tile's windows and one vector of filters, of terms up to `end`; of `twins` those of
 * both planes, each in its half. */
INLINED void count_terms(words *count, const uint8_t *const *x, const int32_t *offsets, const int32_t *end,
                         const uint8_t *weights, int twins, uint32_t apart) {
    for (; offsets < end; offsets++, weights += NEXT_WEIGHTS) {
        const words filter = load_words(weights);
        const ptrdiff_t at = *offsets;
        EACH(i) count[i] = count_ones(count[i], differing(all_words(spot(x, apart, i, at)), filter), twins);
    }
}

INLINED void count_any(words *sum, const uint8_t *const *x, const zob_window *w, const uint8_t *weights, int twins,
                       uint32_t apart) {
    const int32_t *offsets = w->offsets, *const end = offsets + w->terms;
#if SETTLE_EVERY == 0
    count_terms(sum, x, offsets, end, weights, twins, apart);
#else
    for (; offsets < end; offsets += SETTLE_EVERY, weights += SETTLE_EVERY * NEXT_WEIGHTS) {
        words count[ZOB_TILE];
        EACH(i) count[i] = no_words();
        const int32_t *some = end - offsets < SETTLE_EVERY ? end : offsets + SETTLE_EVERY;
        count_terms(count, x, offsets, some, weights, twins, apart);
        EACH(i) sum[i] = settle(sum[i], count[i], twins);
    }
#endif
}

INLINED void count_tile(const uint8_t *const *x, words *sum, const zob_window *w, const uint8_t *weights, int32_t group,
                        uint32_t apart) {
    const uint8_t *start[ZOB_TILE];
    EACH(i) start[i] = x[i] + group;
    count_any(sum, start, w, weights, 0, apart);
}

INLINED void count_pairs(const uint8_t *const *x, words *sum, const zob_window *w, const uint8_t *weights, uint32_t apart) {
    count_any(sum, x, w, weights, 1, apart);
}

/* The same of chains (tile.h), those of words [begin, end) of a tap. */
INLINED void count_links(words *count, const uint8_t *const *x, const uint8_t *even, const int32_t *offsets,
                         const zob_window *w, uint32_t begin, uint32_t end, const uint8_t *weights, uint32_t apart) {
    const uint32_t cell = apart ? apart : 4u * w->chains, link = ZOB_TILE * cell;
    weights += (size_t)begin * ZOB_LINKS * NEXT_WEIGHTS;
    for (uint32_t j = begin; j < end; j++, weights += NEXT_WEIGHTS) {
        const uint8_t *next = even + 4u * j + 2u * link;
        ptrdiff_t at = offsets[0] + 4 * (ptrdiff_t)j;
        words sum[ZOB_TILE], filter = load_words(weights);
        EACH(i) sum[i] = differing(all_words(spot(x, apart, i, at)), filter);
        _Pragma("GCC unroll 4") for (uint32_t l = 2; l < ZOB_LINKS; l += 2, next += 2u * link) {
            filter = load_words(weights += NEXT_WEIGHTS);
            const words next_filter = load_words(weights += NEXT_WEIGHTS);
            at = offsets[l - 1u] + 4 * (ptrdiff_t)j;
            EACH(i) {
                const words one = differing(all_words(spot(x, apart, i, at)), filter);
                const words all = differing(all_words(next + i * cell), next_filter);
                count[i] = count_twice(count[i], carried(one, sum[i], all));
                sum[i] = all;
            }
        }
        EACH(i) count[i] = count_once(count[i], sum[i]);
        __asm__ volatile("" ::: "memory"); /* else GCC keeps what the next round reads, too, and spills it */
    }
}

INLINED void count_chains(const uint8_t *const *x, words *sum, const uint8_t *even, const int32_t *offsets,
                          const zob_window *w, const uint8_t *weights, uint32_t apart) {
#if SETTLE_EVERY == 0
    count_links(sum, x, even, offsets, w, 0, w->chains, weights, apart);
#else
    const uint32_t some = SETTLE_EVERY / ZOB_LINKS;
    for (uint32_t j = 0; j < w->chains; j += some) {
        words count[ZOB_TILE];
        EACH(i) count[i] = no_words();
        count_links(count, x, even, offsets, w, j, w->chains - j < some ? w->chains : j + some, weights, apart);
        EACH(i) sum[i] = settle(sum[i], count[i], 0);
    }
#endif
}

/* The same of packed taps; they are few. */
INLINED void count_packed(words *sum, const uint32_t (*packed)[ZOB_TILE], const zob_window *w, const uint8_t *weights) {
    words count[ZOB_TILE];
    EACH(i) count[i] = no_words();
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const words filter = load_words(weights);
        EACH(i) count[i] = count_ones(count[i], differing(all_words((const uint8_t *)&packed[k][i]), filter), 0);
    }
    EACH(i) sum[i] = settle(sum[i], count[i], 0);
}

OUTLINED void count_scattered(words *sum, const tile *t, uint32_t window, const uint8_t *weights, uint32_t channel) {
    const zob_window *w = &t->pass->windows[window];
    const int32_t *groups = w->groups + channel;
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        const uint8_t *start = start_of(t, window, i);
        for (uint32_t k = 0; k < w->terms; k++) {
            const words filter = load_words(weights + (size_t)k * NEXT_WEIGHTS);
            const words x = differing(scattered(start + w->offsets[k], groups), filter);
            sum[i] = settle(sum[i], count_ones(no_words(), x, 0), 0);
        }
    }
}

/* Thermometer codes: a level says all about the bits of a term, so what differs is looked up, and added up in bytes while
 * these hold it. Levels of a tile mostly lie side by side: two bytes apart. */
INLINED void add_levels(const uint8_t *const *x, words *sum, const zob_window *w, const zob_tile_step *s, const uint8_t *rows,
                        uint32_t apart) {
    const int32_t *offsets = w->offsets, *const end = offsets + w->terms;
    EACH(i) sum[i] = no_words();
    while (offsets < end) {
        bytes count[ZOB_TILE];
        EACH(i) count[i] = no_bytes();
        for (const int32_t *some = end - offsets < (ptrdiff_t)s->terms ? end : offsets + s->terms; offsets < some; offsets++) {
            EACH(i) {
                uint16_t level;
                memcpy(&level, spot(x, apart, i, *offsets), 2);
                count[i] = add_bytes(count[i], rows + level);
            }
            rows += s->a_vector;
        }
        EACH(i) sum[i] = add_words(sum[i], widened(count[i]));
    }
}

INLINED void sum_levels(reals *sum, const tile *t, const zob_tile_step *s, uint32_t channel) {
    const zob_window *w = &t->pass->windows[s->window];
    const uint8_t *base = t->parameters + s->bias + 4u * (size_t)channel;
    const size_t block = channel / ZOB_BLOCK, lane = channel % ZOB_BLOCK;
    const uint8_t *rows = t->parameters + s->table + block * w->terms * s->a_vector + lane;
    words count[ZOB_TILE];
    FOR_STEP(t, s->window, 2, add_levels, count, w, s, rows);
    if (t->inside[s->window]) {
        const reals one = load(base);
        EACH(i) sum[i] = less_twice(one, count[i]);
    } else {
        EACH(i) sum[i] = less_twice(load(base + t->border[s->window][i]), count[i]);
    }
}

/* Products of bytes, of `vectors` vectors of filters whose weights lie `next` bytes from each other: what is read serves all. */
INLINED void sum_bytes(const uint8_t *const *x, words (*sum)[ZOB_TILE], const zob_window *w, const uint8_t *weights,
                       size_t next, uint32_t vectors, uint32_t apart) {
    for (uint32_t k = 0; k < w->terms - w->loose; k++, weights += NEXT_WEIGHTS) {
        const ptrdiff_t at = w->offsets[k];
        words filter[BYTES_AT_ONCE];
        EACH_VECTOR(v, vectors) filter[v] = load_words(weights + v * next);
        EACH(i) {
            const words one = all_words(spot(x, apart, i, at));
            EACH_VECTOR(v, vectors) sum[v][i] = add_byte_products(sum[v][i], one, filter[v]);
        }
    }
}

INLINED void sum_loose(words (*sum)[ZOB_TILE], const uint32_t (*gathered)[ZOB_TILE], const zob_window *w,
                       const uint8_t *weights, size_t next, uint32_t vectors) {
    weights += (size_t)(w->terms - w->loose) * NEXT_WEIGHTS;
    for (uint32_t k = 0; k < w->loose; k++, weights += NEXT_WEIGHTS) {
        words filter[BYTES_AT_ONCE];
        EACH_VECTOR(v, vectors) filter[v] = load_words(weights + v * next);
        EACH(i) {
            const words one = all_words((const uint8_t *)&gathered[k][i]);
            EACH_VECTOR(v, vectors) sum[v][i] = add_byte_products(sum[v][i], one, filter[v]);
        }
    }
}

/* acc + x * w, term after term, of windows wholly inside. */
INLINED void sum_reals(const uint8_t *const *x, reals *sum, const zob_window *w, const uint8_t *weights, int32_t group,
                      uint32_t apart) {
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const reals filter = load(weights);
        const ptrdiff_t at = w->offsets[k] + group;
        EACH(i) {
            float one;
            memcpy(&one, spot(x, apart, i, at), 4);
            sum[i] = add(sum[i], multiply(all(one), filter));
        }
    }
}

/* The same where every filter has a channel of its own. */
INLINED void sum_own(const uint8_t *const *x, reals *sum, const zob_window *w, const uint8_t *weights, uint32_t channel,
                    uint32_t apart) {
    for (uint32_t k = 0; k < w->terms; k++, weights += NEXT_WEIGHTS) {
        const reals filter = load(weights);
        const ptrdiff_t at = w->offsets[k] + 4 * (ptrdiff_t)channel;
        EACH(i) sum[i] = add(sum[i], multiply(load(spot(x, apart, i, at)), filter));
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
        const zob_cover cover = w->covers[w->classes[pixel_of(t, i)]];
        const uint8_t *start = start_of(t, s->window, i);
        sum[i] = sum_any(start, w, cover, weights_at(t, s, w, channel), w->groups + channel, channel);
    }
}

/* The greatest elements of windows that reach over the border, or the means. */
OUTLINED void pool_any(reals *result, const tile *t, const zob_tile_step *s, const zob_window *w, uint32_t channel) {
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        const zob_cover cover = w->covers[w->classes[pixel_of(t, i)]];
        const uint8_t *start = start_of(t, s->window, i) + 4u * (size_t)channel;
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

INLINED void find_greatest(const uint8_t *const *x, reals *best, const zob_window *w, uint32_t channel, uint32_t apart) {
    const ptrdiff_t first = w->offsets[0] + 4 * (ptrdiff_t)channel;
    EACH(i) best[i] = load(spot(x, apart, i, first));
    for (uint32_t k = 1; k < w->terms; k++) {
        const ptrdiff_t at = w->offsets[k] + 4 * (ptrdiff_t)channel;
        EACH(i) best[i] = greater_or(load(spot(x, apart, i, at)), best[i]);
    }
}

INLINED void find_means(const uint8_t *const *x, reals *mean, const zob_window *w, uint32_t channel, uint32_t apart) {
    const reals terms = all((float)w->terms);
    EACH(i) mean[i] = all(0.0f);
    for (uint32_t k = 0; k < w->terms; k++) {
        const ptrdiff_t at = w->offsets[k] + 4 * (ptrdiff_t)channel;
        EACH(i) mean[i] = add(mean[i], load(spot(x, apart, i, at)));
    }
    EACH(i) mean[i] = divide(mean[i], terms);
}
