/* Where a tile's positions, windows and weights lie: for the kernels of one instruction set, after its lanes. */
#include <stddef.h>
#include <string.h>

/* A tile in registers: loops over it are unrolled, so that no vector of it has to lie in memory. */
#define EACH(i) _Pragma("GCC unroll 8") for (uint32_t i = 0; i < ZOB_TILE; i++)
#define EACH_VECTOR(v, vectors) _Pragma("GCC unroll 2") for (uint32_t v = 0; v < (vectors); v++)

#define OUTLINED static __attribute__((noinline))

typedef uint32_t word_tile __attribute__((vector_size(4u * ZOB_TILE)));
typedef uint32_t pair_tile __attribute__((vector_size(8u * ZOB_TILE)));

/* A tile's positions. Those past the last one repeat it: computed alike, stored where nobody reads. */
typedef struct {
    const zob_pass *pass;
    uint8_t *arena;
    const uint8_t *parameters;
    uint32_t first, valid;
    uint32_t straight; /* all positions lie side by side in one row of one image: the first says where the others are */
    uint32_t image[ZOB_TILE], pixel[ZOB_TILE];
    const uint8_t *start[ZOB_MAX_WINDOWS][ZOB_TILE]; /* where each window begins, for each window of the pass */
    uint32_t apart[ZOB_MAX_WINDOWS];                 /* straight: bytes from each to the next; else 0 */
    uint32_t inside[ZOB_MAX_WINDOWS];                /* all of them wholly inside */
    const uint32_t *border[ZOB_MAX_WINDOWS];         /* else: the row that each one's sums begin with, in bytes */
    uint32_t borders[ZOB_MAX_WINDOWS][ZOB_TILE];     /* those that do not lie side by side */
    const int32_t *links[ZOB_MAX_WINDOWS];           /* of chains: where odd links are read */
    uint32_t packed[ZOB_MAX_WINDOWS][ZOB_MAX_PACKED][ZOB_TILE];
    mask masks[ZOB_MAX_MASKS][ZOB_TILE];
    /* Even links, all words up to theirs in one; where gathered, odd ones, too. Of each the words of position after position. */
    _Alignas(64) uint8_t chains[ZOB_MAX_WINDOWS][ZOB_LINKS * ZOB_MAX_CHAINS * 4u * ZOB_TILE];
} tile;

/* The positions from `image`, `pixel` on, in column `x`. */
static void place_positions(tile *t, uint32_t image, uint32_t pixel, uint32_t x) {
    t->straight = t->valid == ZOB_TILE && x + ZOB_TILE <= t->pass->width;
    for (uint32_t i = 0; i < (t->straight ? 1u : ZOB_TILE); i++) {
        t->image[i] = image;
        t->pixel[i] = pixel;
        if (i + 1u < t->valid && ++pixel == t->pass->pixels) {
            pixel = 0;
            image++;
        }
    }
}

static inline uint32_t image_of(const tile *t, uint32_t i) { return t->image[t->straight ? 0u : i]; }
static inline uint32_t pixel_of(const tile *t, uint32_t i) { return t->straight ? t->pixel[0] + i : t->pixel[i]; }

static void place_window(tile *t, const zob_window *w, uint32_t k) {
    const uint8_t *source = t->arena + w->source;
    uint64_t pairs[ZOB_TILE / 2];
    t->apart[k] = t->straight ? w->step : 0u;
    t->border[k] = t->straight ? w->borders + t->pixel[0] : t->borders[k];
    for (uint32_t i = 0; i < (t->straight ? 1u : ZOB_TILE); i++) {
        t->start[k][i] = source + (size_t)t->image[i] * w->image_bytes + w->starts[t->pixel[i]];
        t->borders[k][i] = w->borders[t->pixel[i]];
    }
    memcpy(pairs, t->border[k], sizeof pairs);
    t->inside[k] = (pairs[0] | pairs[1] | pairs[2] | pairs[3]) == 0u;
}

/* Where position i's window begins. */
static inline const uint8_t *start_of(const tile *t, uint32_t k, uint32_t i) {
    return t->straight ? t->start[k][0] + (size_t)i * t->apart[k] : t->start[k][i];
}

#define INLINED static inline __attribute__((always_inline))

/* One tap of all positions, from cells of one word. */
INLINED word_tile tap_of(const tile *t, uint32_t k, int32_t at, int side_by_side) {
    word_tile x;
    if (side_by_side) {
        memcpy(&x, t->start[k][0] + at, sizeof x);
        return x;
    }
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        uint32_t word;
        memcpy(&word, start_of(t, k, i) + at, 4);
        x[i] = word;
    }
    return x;
}

INLINED void pack_taps(tile *t, const zob_window *w, uint32_t k, int side_by_side) {
    const int32_t *tap = w->offsets, *end = tap + w->taps;
    for (uint32_t term = 0; term < w->terms; term++) {
        word_tile packed = tap_of(t, k, *tap++, side_by_side);
        for (uint32_t at = w->slot; at < 32u && tap < end; at += w->slot) {
            packed |= tap_of(t, k, *tap++, side_by_side) << at;
        }
        memcpy(t->packed[k][term], &packed, sizeof packed);
    }
}

/* Read a window's taps into words that each hold several. */
static void pack_window(tile *t, const zob_window *w, uint32_t k) {
    if (t->apart[k] == 4u) {
        pack_taps(t, w, k, 1);
    } else {
        pack_taps(t, w, k, 0);
    }
}

/* Put bytes that do not lie side by side together. */
static void gather_loose(tile *t, const zob_window *w, uint32_t k) {
    const int32_t *at = w->loose_offsets;
    for (uint32_t term = 0; term < w->loose; term++, at += 4) {
        for (uint32_t i = 0; i < ZOB_TILE; i++) {
            const uint8_t *x = start_of(t, k, i);
            t->packed[k][term][i] =
                x[at[0]] | (uint32_t)x[at[1]] << 8 | (uint32_t)x[at[2]] << 16 | (uint32_t)x[at[3]] << 24;
        }
    }
}

#define EACH_LINK(l) _Pragma("GCC unroll 9") for (uint32_t l = 0; l < ZOB_LINKS; l++)

/* The links of a chain, whose even ones are of all words up to theirs; of windows that lie side by side without a gap, the
 * even ones, as odd ones are read in place. */
INLINED void chain_in_place(tile *t, uint32_t k, uint32_t link) {
    const int32_t *offset = t->links[k];
    for (uint32_t at = 0; at < link; at += sizeof(pair_tile)) {
        const uint8_t *from = t->start[k][0] + at;
        uint8_t *to = t->chains[k] + at;
        pair_tile sum, word;
        memcpy(&sum, from + offset[0], sizeof sum);
        EACH_LINK(l) {
            if (l == 0) continue;
            memcpy(&word, from + offset[l], sizeof word);
            sum ^= word;
            if (l % 2u == 0u) memcpy(to + (size_t)l * link, &sum, sizeof sum);
        }
    }
}

/* All links of windows that lie anywhere, which are then read here. */
INLINED void chain_gathered(tile *t, uint32_t k, uint32_t link) {
    const int32_t *offset = t->links[k];
    const uint32_t cell = link / ZOB_TILE;
    for (uint32_t i = 0; i < ZOB_TILE; i++) {
        for (uint32_t at = 0; at < cell; at += 8u) {
            const uint8_t *from = start_of(t, k, i) + at;
            uint8_t *to = t->chains[k] + i * cell + at;
            uint64_t sum = 0, word[ZOB_LINKS];
            EACH_LINK(l) memcpy(&word[l], from + offset[l], 8);
            EACH_LINK(l) {
                sum ^= word[l];
                memcpy(to + (size_t)l * link, l % 2u ? &word[l] : &sum, 8);
            }
        }
    }
}

static void chain_window(tile *t, const zob_window *w, uint32_t k) {
    const uint32_t cell = 4u * w->chains, link = ZOB_TILE * cell;
    t->links[k] = w->link_offsets;
    if (t->apart[k] == cell) {
        chain_in_place(t, k, link);
        return;
    }
    chain_gathered(t, k, link);
    t->links[k] += ZOB_LINKS;
    t->apart[k] = cell;
    for (uint32_t i = 0; i < ZOB_TILE; i++) t->start[k][i] = t->chains[k] + i * cell;
}

/* Position i's window, `at` bytes on, where windows begin at `start`: `apart` bytes from each other, or anywhere for 0. */
INLINED const uint8_t *spot(const uint8_t *const *start, uint32_t apart, uint32_t i, ptrdiff_t at) {
    return apart ? start[0] + (at + (ptrdiff_t)(i * apart)) : start[i] + at;
}

/* Loops compiled for windows the usual bytes apart, so that one pointer reaches a whole tile, and for any others. */
#define FOR_BITS(t, window, call, ...)                                                                                 \
    switch ((t)->apart[window]) {                                                                                      \
    case 4: call((t)->start[window], __VA_ARGS__, 4); break;                                                           \
    case 8: call((t)->start[window], __VA_ARGS__, 8); break;                                                           \
    case 16: call((t)->start[window], __VA_ARGS__, 16); break;                                                         \
    case 32: call((t)->start[window], __VA_ARGS__, 32); break;                                                         \
    default: FOR_ANY(t, window, call, __VA_ARGS__); break;                                                             \
    }
#define FOR_STEP(t, window, step, call, ...)                                                                           \
    if ((t)->apart[window] == (step)) {                                                                                \
        call((t)->start[window], __VA_ARGS__, step);                                                                   \
    } else {                                                                                                           \
        FOR_ANY(t, window, call, __VA_ARGS__);                                                                         \
    }
#define FOR_ANY(t, window, call, ...)                                                                                  \
    do {                                                                                                               \
        const uint8_t *starts[ZOB_TILE];                                                                               \
        EACH(at) starts[at] = start_of(t, window, at);                                                                 \
        call(starts, __VA_ARGS__, 0);                                                                                  \
    } while (0)

/* The first vector of a tile of a real tensor, or of one kept; the next lies a_vector further. */
static inline uint8_t *vector_at(const tile *t, const zob_tile_step *s, uint32_t channel) {
    return t->arena + s->arena + (size_t)t->first * s->a_position + (size_t)channel * s->a_channel;
}

static inline uint8_t *cell_at(const tile *t, const zob_tile_step *s, uint32_t channel, uint32_t i) {
    return t->arena + s->arena + (size_t)image_of(t, i) * s->image_bytes + s->cells[pixel_of(t, i)] + channel / 8u;
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
