/* Convolutions over int8 with weights of one bit: sums of four taps for all 16 signs of them, made once a block of
 * pixels, are looked up by four bits of a filter and added.
 *
 * Two pixels share a word: it holds first + 65536 * second, which adds up as both do as long as they fit 16 bits. */
#include "zob_bytes.h"

/* Two words: the pixels of a block. */
typedef struct {
    uint32_t first, second;
} pair;

static pair sum(pair a, pair b) {
    const pair s = {a.first + b.first, a.second + b.second};
    return s;
}

static pair difference(pair a, pair b) {
    const pair d = {a.first - b.first, a.second - b.second};
    return d;
}

/* The 16 sums of +-taps[0] to +-taps[3]; bit i of an index is the sign of tap i. */
static void tabulate(const pair *taps, pair *table) {
    const pair plus = sum(taps[0], taps[1]), minus = difference(taps[0], taps[1]);
    const pair none = {0u, 0u};
    const pair low[4] = {plus, difference(none, minus), minus, difference(none, plus)};
    for (uint32_t i = 0; i < 4u; i++, table += 4) {
        const pair third = i & 1u ? difference(none, taps[2]) : taps[2];
        const pair high = i & 2u ? difference(third, taps[3]) : sum(third, taps[3]);
        for (uint32_t j = 0; j < 4u; j++) table[j] = sum(low[j], high);
    }
}

/* Add what four bits look up in the table of quad `n`. */
#define LOOK_UP(n) acc = sum(acc, table[16u * (n) + (bits >> 4u * (n) & 15u)])

/* Sums of up to eight quads of a filter, two to a word. */
static inline pair look_up(const pair *table, uint32_t bits, uint32_t quads) {
    pair acc = {0u, 0u};
    switch (quads) {
    default:
        LOOK_UP(7u); /* fall through */
    case 7:
        LOOK_UP(6u); /* fall through */
    case 6:
        LOOK_UP(5u); /* fall through */
    case 5:
        LOOK_UP(4u); /* fall through */
    case 4:
        LOOK_UP(3u); /* fall through */
    case 3:
        LOOK_UP(2u); /* fall through */
    case 2:
        LOOK_UP(1u); /* fall through */
    case 1:
        LOOK_UP(0u);
    }
    return acc;
}

/* The numbers of a word. */
static int32_t first_of(uint32_t word) { return (int16_t)word; }

static int32_t second_of(uint32_t word) { return (int16_t)((word - (uint32_t)first_of(word)) >> 16); }

/* Gather a block's taps and tabulate the sums of every quad. Missing pixels repeat the last one. */
static void prepare(const zob_byte_conv *b, const zob_block *block, uint32_t group, pair *taps, pair *table) {
    const uint32_t zeros = 0x00010001u * (uint32_t)b->c->in->zero_point, bytes = 4u * b->quads;
    int8_t *patch = (int8_t *)table;
    zob_place place = block->place;
    for (uint32_t i = 0; i < 4u; i++, patch += bytes) {
        memset(patch + bytes - 4u, b->c->in->zero_point, 4u);
        zob_gather_bytes(b, &place, group * b->channels, patch);
        if (i + 1u < block->count) zob_advance(b, &place);
    }
    patch = (int8_t *)table;
    for (uint32_t t = 0; t < bytes; t++, patch++) {
        taps[t].first = (uint32_t)patch[0] + ((uint32_t)patch[bytes] << 16) - zeros;
        taps[t].second = (uint32_t)patch[2u * bytes] + ((uint32_t)patch[3u * bytes] << 16) - zeros;
    }
    for (uint32_t quad = 0; quad < b->quads; quad++) tabulate(taps + 4u * quad, table + 16u * quad);
}

/* The sums of one filter. A word of bits are eight quads: their sums fit 16 bits. */
static inline zob_sums sums_of(const zob_byte_conv *b, const pair *table, uint32_t filter) {
    zob_sums sums = {{0, 0, 0, 0}};
    uint32_t bit = filter * b->taps;
    for (uint32_t quad = 0; quad < b->quads; quad += 8u, bit += 32u, table += 8u * 16u) {
        const pair words = look_up(table, zob_weight_bits(b, bit), b->quads - quad);
        sums.of[0] += first_of(words.first);
        sums.of[1] += second_of(words.first);
        sums.of[2] += first_of(words.second);
        sums.of[3] += second_of(words.second);
    }
    return sums;
}

void zob_block_of_signs(const zob_byte_conv *b, const zob_block *block, uint32_t group) {
    pair *taps = (pair *)(void *)b->scratch, *table = taps + 4u * b->quads;
    const uint32_t first = group * b->filters;
    uint32_t o = first + b->filters;
    prepare(b, block, group, taps, table);
    while (b->sink->intervals && o > first) {
        const uint32_t begin = zob_word_begin(first, o);
        zob_bits bits = {{0, 0, 0, 0}};
        while (o-- > begin) {
            const zob_sums sums = sums_of(b, table, o);
            zob_decide(b->sink->intervals[o], &sums, &bits);
        }
        o = begin;
        zob_put_bits(b, block, begin, bits);
    }
    while (o-- > first) zob_emit_sums(b, block, o, sums_of(b, table, o));
}
