/* What a tile's windows come to: differing bits, levels, products, greatest elements and means. */
#include "tile_places.h"

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
