/* Binary convolution by tables: dividing the scratch, windows of taps, runs of pixels, borders. */
#include <string.h>

#include "zob_binary.h"
#include "zob_rows.h"

#define MAX_COUNT 32767u   /* sums have sixteen bits: a bias of 2^15 and the count */
#define TWICE 0x00010001u  /* times a number: the number in both halves of a word */
#define WORD_COST 12u /* time that the tables of a word take to build, where a pixel, beside looking up, takes 1 a window */

/* How the scratch is used: the tables of a window of taps at a time, and the sums of a band of rows of the output. Where
 * +1 is read outside the input: if one window has all taps, what each of them counts there; if there are several, what
 * the band reads, zeros around it, so that all pixels read all taps. */
typedef struct {
    const zob_block *b;
    const zob_op *op;
    const zob_tensor *in, *out;
    uint32_t rows, columns, band; /* size of the window, in taps; of the band, in rows of the output */
    uint32_t line;                /* words from the sums of a row to those of the next; 0: they are complete at once */
    uint32_t halves;              /* only the lower 16 bits of a word are looked up */
    uint32_t inner[2], outer[2];  /* output rows and columns whose taps are all inside the input */
    const uint32_t *input;        /* the first word that is read of the first pixel; the words from one */
    uint32_t pixel, width;        /* pixel to the next, and from one row of pixels to the next */
    int reads_ones;               /* outside the input: */
    int counted;                  /* and these are not copied, but counted apart */
    uint32_t *outside;            /* what `input` is, copied; or what each tap counts there: ZOB_SUM_WORDS words */
    zob_stretch *stretches;
    uint32_t *tables;             /* of the window's taps, row by row */
    uint32_t *sums;               /* ZOB_SUM_WORDS words a pixel */
    uint32_t start[2][ZOB_SUM_WORDS]; /* sums to begin with; [1] where the missing products are odd */
} tables;

/* A window of taps. */
typedef struct {
    uint32_t y, x, rows, columns;
    int first, last; /* of the passes over the kernel */
} window;

static uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Groups of four bits a word. */
static uint32_t groups(const tables *t) { return ZOB_HAS_KERNEL(ZOB_KERNEL_HALVES) && t->halves ? 4u : 8u; }

static uint32_t tap_words(const tables *t) { return t->b->words * groups(t) * ZOB_GROUP_WORDS; }

/* Most stretches of a window: one a tap, and another each time that counts are widened in between. */
static uint32_t most_stretches(const zob_block *b, uint32_t taps) { return taps + taps * b->words / ZOB_WIDEN_WORDS; }

/* From the first to the last element of the kernel along an axis. */
static uint32_t reach(const zob_op *op, uint32_t axis) { return (op->kernel[axis] - 1u) * op->dilation[axis]; }

/* Whether what taps outside the input count is kept; whether what is read is copied, and ones stand around it. */
static int counts_ones(const tables *t) { return ZOB_HAS_KERNEL(ZOB_KERNEL_ONES_COUNTED) && t->counted; }

static int copies(const tables *t) { return ZOB_HAS_KERNEL(ZOB_KERNEL_ONES_OUTSIDE) && t->reads_ones && !counts_ones(t); }

/* Words that a row of the output reads of a row of the input, those outside it included. */
static uint32_t bordered_width(const tables *t) {
    const zob_op *op = t->op;
    return ((t->out->width - 1u) * op->stride[1] + reach(op, 1u) + 1u) * t->b->words;
}

/* Divide the scratch for windows of `rows` x `columns` taps. Returns about how much time that costs beside looking up: building the tables of every window, for every band anew if there are several windows, and beginning
 * every pixel of every window. 0 if it does not fit. */
static uint32_t divide(tables *t, uint32_t rows, uint32_t columns) {
    const zob_op *op = t->op;
    const uint32_t taps = rows * columns, stretches = most_stretches(t->b, taps), room = t->b->memory_bytes / 4u;
    const uint32_t line = t->out->width * ZOB_SUM_WORDS;
    const uint32_t windows = ((op->kernel[0] - 1u) / rows + 1u) * ((op->kernel[1] - 1u) / columns + 1u);
    const int at_once = windows == 1u;
    uint32_t words = 4u * stretches + taps * tap_words(t), more = 0; /* more with every row of the band */
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_ONES_COUNTED)) t->counted = at_once && t->reads_ones;
    if (at_once) words += line;
    else more = line;
    if (counts_ones(t)) words += taps * ZOB_SUM_WORDS;
    if (copies(t)) {
        words += reach(op, 0u) * bordered_width(t);
        more += op->stride[0] * bordered_width(t);
    }
    if (words > room) return 0u;
    t->band = more ? min_u32((room - words) / more, t->out->height) : t->out->height;
    if (t->band == 0u) return 0u;
    t->rows = rows;
    t->columns = columns;
    t->line = at_once ? 0u : line;
    t->stretches = (zob_stretch *)(void *)t->b->memory;
    t->tables = (uint32_t *)(void *)(t->stretches + stretches);
    t->sums = t->tables + taps * tap_words(t);
    t->outside = t->sums + (at_once ? line : t->band * line);
    return (at_once ? 1u : (t->out->height - 1u) / t->band + 1u) * t->b->taps * t->b->words * WORD_COST +
           windows * zob_pixels(t->out);
}

/* Divide the scratch in the way that costs least: windows of the whole kernel, of rows of it, or of parts of a row.
 * Returns 0 if none fits. */
static ZOB_NOINLINE int divide_scratch(tables *t) {
    const zob_op *op = t->op;
    uint32_t best_rows = 0, best_columns = 0, rows = op->kernel[0], columns = op->kernel[1];
    uint32_t least = 0;
    while (rows > 0u && columns > 0u) {
        const uint32_t cost = divide(t, rows, columns);
        if (cost != 0u && (least == 0u || cost < least)) {
            least = cost;
            best_rows = rows;
            best_columns = columns;
        }
        if (rows > 1u) {
            rows--;
        } else {
            columns--;
        }
    }
    return least != 0u && divide(t, best_rows, best_columns) != 0u;
}

/* The output positions of an axis, from `inner` to before `outer`, whose taps are all inside the input. */
static void set_inner(tables *t, uint32_t axis, uint32_t in, uint32_t out) {
    const zob_op *op = t->op;
    const uint32_t last = reach(op, axis), edge = in + op->pad[axis];
    t->inner[axis] = zob_steps(op->pad[axis], op->stride[axis]);
    t->outer[axis] = edge > last ? min_u32(zob_steps(edge - last, op->stride[axis]), out) : 0u;
}

/* Where the input is read: as it lies, or copied. */
static void set_input(tables *t) {
    const zob_block *b = t->b;
    t->input = copies(t) ? t->outside : (const uint32_t *)(const void *)(b->c->arena + b->in->offset) + b->input;
    t->pixel = copies(t) ? b->words : zob_words(b->in->channels);
    t->width = copies(t) ? bordered_width(t) : b->in->width * t->pixel;
}

static void copy_words(uint32_t *to, const uint32_t *from, uint32_t words) {
    for (; words > 0u; words--) *to++ = *from++;
}

/* Copy what the output rows [begin, end) read: zeros, which stand for +1, where that is outside the input. */
static void copy_band(const tables *t, uint32_t begin, uint32_t end) {
    const zob_block *b = t->b;
    const zob_op *op = b->c->op;
    const uint32_t stored = zob_words(b->in->channels), pixels = t->width / t->pixel - op->pad[1];
    const uint32_t columns = min_u32(pixels, b->in->width), first = begin * op->stride[0];
    const uint32_t last = (end - 1u) * op->stride[0] + reach(op, 0u);
    uint32_t *to = t->outside;
    memset(to, 0, 4u * (size_t)t->width * (last - first + 1u));
    for (uint32_t y = first; y <= last; y++, to += t->width) {
        const uint32_t *from = (const uint32_t *)(const void *)(b->c->arena + b->in->offset) + b->input;
        uint32_t *pixel = to + op->pad[1] * b->words;
        if (y < op->pad[0] || y - op->pad[0] >= b->in->height) continue;
        from += (y - op->pad[0]) * b->in->width * stored;
        for (uint32_t x = 0; x < columns; x++, from += stored, pixel += b->words) copy_words(pixel, from, b->words);
    }
}

/* Whether no weight has bits set above those that are looked up. */
static int is_clean(const tables *t) {
    uint32_t above = 0;
    if (groups(t) == 8u) return 1;
    for (uint32_t i = 0; i < t->b->filters * t->b->taps; i++) above |= t->b->weights[i] >> 16;
    return above == 0u;
}

/* The least count n with 2 * n + odd > room, or one that is never reached. */
static uint32_t limit(int32_t room, int32_t odd) {
    if (room < odd) return 0u;
    return min_u32((uint32_t)(room - odd) / 2u + 1u, MAX_COUNT + 1u);
}

/* Sums begin half of the missing products higher than the count, so that one limit serves all pixels; where these are
 * odd, it is another. */
static void set_start(tables *t) {
    const int decides = zob_decides_bits(t->b);
    for (uint32_t odd = 0; odd < (ZOB_SOME_MISSING ? 2u : 1u); odd++) {
        memset(t->start[odd], 0, sizeof t->start[odd]);
        for (uint32_t f = 0; f < t->b->filters; f++) {
            const uint32_t less = decides ? limit(t->b->limits[f], (int32_t)odd) : 0u;
            const uint16_t start = (uint16_t)(ZOB_BIAS - less);
            memcpy((uint8_t *)t->start[odd] + 2u * zob_sum_of(f), &start, 2u);
        }
    }
}

/* Append a stretch of words, in pieces between which counts are widened. `used` is how many words were added since. */
static zob_stretch *append(zob_stretch *list, const tables *t, uint32_t offset, uint32_t table, uint32_t words,
                           uint32_t *used) {
    const uint32_t most = groups(t) == 8u ? ZOB_WIDEN_WORDS : ZOB_WIDEN_HALVES;
    while (words > 0u) {
        const uint32_t piece = min_u32(words, most);
        if (*used + piece > most) {
            list[-1].then = ZOB_WIDEN;
            *used = 0u;
        }
        list->offset = offset;
        list->words = piece;
        list->table = table;
        list->then = 0u;
        list++;
        *used += piece;
        offset += 4u * piece;
        table += 4u * piece * groups(t) * ZOB_GROUP_WORDS;
        words -= piece;
    }
    return list;
}

/* List the taps of a window that are inside the input, v x h of the kernel's. Returns the list's end. */
static ZOB_INLINE zob_stretch *list_taps(const tables *t, const window *w, zob_span v, zob_span h) {
    const uint32_t pixel = 4u * t->pixel, line = 4u * t->width, words = t->b->words;
    const uint32_t left = max_u32(h.begin, w->x), end_x = w->x + w->columns, right = ZOB_SOME_MISSING ? min_u32(h.end, end_x) : end_x;
    const uint32_t together = t->op->dilation[1] == 1u && t->pixel == words && (!ZOB_SOME_MISSING || right > left) ? right - left : 1u;
    const uint32_t end_y = w->y + w->rows, below = ZOB_SOME_MISSING ? min_u32(v.end, end_y) : end_y;
    zob_stretch *end = t->stretches;
    uint32_t used = 0;
    for (uint32_t ky = max_u32(v.begin, w->y); ky < below; ky++) {
        for (uint32_t kx = left; kx < right; kx += together) {
            const uint32_t tap = (ky - w->y) * w->columns + kx - w->x;
            const uint32_t down = (ky - v.begin) * t->op->dilation[0], across = (kx - h.begin) * t->op->dilation[1];
            end = append(end, t, down * line + across * pixel, 4u * tap * tap_words(t), together * words, &used);
        }
    }
    if (!ZOB_SOME_MISSING || end > t->stretches) end[-1].then = ZOB_END;
    return end;
}

static void add_rows(const tables *t, const zob_pixel_run *run) {
    if (groups(t) == 8u) {
        zob_add_words(run);
    } else {
        zob_add_halves(run);
    }
}

/* What every tap counts where it reads zeros. */
static void count_zeros(const tables *t) {
    static const uint32_t zeros[ZOB_WIDEN_WORDS], none[ZOB_SUM_WORDS];
    zob_pixel_run run = {t->stretches, NULL, t->tables, (const uint8_t *)zeros, 0u, none, 0u, 1u, t->outside};
    uint32_t used = 0;
    zob_stretch *end = append(t->stretches, t, 0u, 0u, t->b->words, &used);
    for (zob_stretch *s = t->stretches; s < end; s++) s->offset = 0u;
    end[-1].then = ZOB_END;
    run.end = end;
    for (uint32_t tap = 0; tap < t->b->taps; tap++) {
        add_rows(t, &run);
        run.tables += tap_words(t);
        run.sums += ZOB_SUM_WORDS;
    }
}

/* Add what the taps count that are not among the v x h inside the input. */
static void add_outside(const tables *t, zob_span v, zob_span h, uint32_t *sums) {
    const uint32_t *more = t->outside;
    for (uint32_t ky = 0; ky < t->op->kernel[0]; ky++) {
        for (uint32_t kx = 0; kx < t->op->kernel[1]; kx++, more += ZOB_SUM_WORDS) {
            if (ky >= v.begin && ky < v.end && kx >= h.begin && kx < h.end) continue;
            for (uint32_t i = 0; i < ZOB_SUM_WORDS; i++) sums[i] += more[i];
        }
    }
}

/* Output positions of one axis that read the same positions of the kernel. */
typedef struct {
    uint32_t begin, end;
    zob_span inside;
} positions;

/* The positions from `begin` on, up to `end`: all those together whose taps are all inside, others one at a time. */
static positions alike(const tables *t, uint32_t axis, uint32_t begin, uint32_t end) {
    const int inner = begin >= t->inner[axis] && begin < t->outer[axis];
    positions p;
    p.begin = begin;
    p.end = inner ? min_u32(t->outer[axis], end) : begin + 1u;
    p.inside = zob_inside(t->op, axis, begin, axis == 0u ? t->in->height : t->in->width);
    return p;
}

/* Sums that an earlier window did not leave, of pixels whose taps are all outside. */
static void fill(uint32_t *sums, const uint32_t *start, uint32_t pixels) {
    for (; pixels > 0u; pixels--, sums += ZOB_SUM_WORDS) copy_words(sums, start, ZOB_SUM_WORDS);
}

/* The taps along an axis that pixels read; where all are read, `input` goes with the band. */
static ZOB_INLINE zob_span taps_of(const tables *t, uint32_t axis, const positions *p) {
    zob_span all;
    if (ZOB_SOME_MISSING) return p->inside;
    all.begin = 0u;
    all.end = t->op->kernel[axis];
    all.at = 0u;
    return all;
}

/* Add what a window counts at pixels that read the same taps, rows x columns of them, to the sums that earlier windows
 * left. `sums` are those of the rectangle's first row. */
static ZOB_NOINLINE void run_rectangle(const tables *t, const window *w, const positions *rows, const positions *columns,
                                       uint32_t *sums) {
    const zob_span v = taps_of(t, 0u, rows), h = taps_of(t, 1u, columns);
    const uint32_t missing = ZOB_SOME_MISSING ? zob_missing(t->b, v, h) : 0u, more = t->b->decided ? missing / 2u * TWICE : 0u;
    const uint32_t *first = t->start[0];
    uint32_t start[ZOB_SUM_WORDS], at = rows->begin * t->out->width + columns->begin;
    zob_pixel_run run = {t->stretches, NULL, t->tables, NULL, 0u, NULL, 0u, 0u, NULL};
    if (ZOB_SOME_MISSING && w->first) {
        for (uint32_t i = 0; i < ZOB_SUM_WORDS; i++) start[i] = t->start[missing % 2u][i] + more;
        if (counts_ones(t)) add_outside(t, v, h, start);
        first = start;
    }
    run.end = list_taps(t, w, v, h);
    run.input = (const uint8_t *)(t->input + (v.begin < v.end && h.begin < h.end ? v.at * t->width + h.at * t->pixel : 0u));
    run.step = 4u * t->op->stride[1] * t->pixel;
    run.from_step = w->first ? 0u : 4u * ZOB_SUM_WORDS;
    run.sums = sums + columns->begin * ZOB_SUM_WORDS;
    run.pixels = columns->end - columns->begin;
    for (uint32_t y = rows->begin; y < rows->end; y++, at += t->out->width) {
        run.from = w->first ? first : run.sums;
        if (!ZOB_SOME_MISSING || run.stretches < run.end) {
            add_rows(t, &run);
        } else if (w->first) {
            fill(run.sums, first, run.pixels);
        }
        if (w->last) zob_put_counts(t->b, at, run.pixels, missing, run.sums);
        run.input += 4u * t->op->stride[0] * t->width;
        run.sums += t->line;
    }
}

/* All pixels of a band of which every tap is read. */
static void run_whole(const tables *t, const window *w, uint32_t begin, uint32_t end) {
    const zob_op *op = t->op;
    positions rows, columns;
    rows.begin = begin;
    rows.end = end;
    columns.begin = 0u;
    columns.end = t->out->width;
    if (ZOB_SOME_MISSING) {
        const zob_span v = {0u, op->kernel[0], 0u}, h = {0u, op->kernel[1], 0u};
        rows.inside = v;
        columns.inside = h;
    }
    run_rectangle(t, w, &rows, &columns, t->sums);
}

/* All pixels of a band, in rectangles of those that read the same taps. */
static void run_band(const tables *t, const window *w, uint32_t begin, uint32_t end) {
    positions rows, columns;
    for (uint32_t y = begin; y < end; y = rows.end) {
        uint32_t *sums = t->sums + (y - begin) * t->line;
        rows = alike(t, 0u, y, end);
        for (uint32_t x = 0; x < t->out->width; x = columns.end) {
            columns = alike(t, 1u, x, t->out->width);
            run_rectangle(t, w, &rows, &columns, sums);
        }
    }
}

/* Build the tables of a window. Taps of a row are consecutive in a filter. */
static ZOB_NOINLINE void build(const tables *t, const window *w) {
    const zob_block *b = t->b;
    const uint32_t filter = b->taps * b->words, words = w->columns * b->words;
    for (uint32_t y = 0; y < w->rows; y++) {
        const uint32_t *weights = b->weights + ((w->y + y) * b->c->op->kernel[1] + w->x) * b->words;
        zob_build_rows(t->tables + y * w->columns * tap_words(t), weights, filter, b->filters, words, groups(t));
    }
    if (counts_ones(t)) count_zeros(t);
}

/* The rows of a band: window after window over the kernel. */
static void run_windows(const tables *t, uint32_t begin, uint32_t end) {
    const zob_op *op = t->op;
    window w;
    if (copies(t)) copy_band(t, begin, end);
    for (w.y = 0; w.y < op->kernel[0]; w.y += t->rows) {
        for (w.x = 0; w.x < op->kernel[1]; w.x += t->columns) {
            w.rows = min_u32(t->rows, op->kernel[0] - w.y);
            w.columns = min_u32(t->columns, op->kernel[1] - w.x);
            w.first = w.y == 0u && w.x == 0u;
            w.last = w.y + w.rows == op->kernel[0] && w.x + w.columns == op->kernel[1];
            if (w.rows * w.columns < t->b->taps || (begin == 0u && t->b->gate != ZOB_LOW_PLANE)) build(t, &w);
            if (ZOB_SOME_MISSING && !copies(t)) {
                run_band(t, &w, begin, end);
            } else {
                run_whole(t, &w, begin, end);
            }
        }
    }
}

int zob_block_table(const zob_block *b) {
    const uint32_t height = b->c->out->height;
    tables t = {.b = b, .op = b->c->op, .in = b->in, .out = b->c->out, .halves = b->channels <= 16u};
    if (b->taps * b->words > MAX_COUNT / 32u || !is_clean(&t)) return 0;
    if (ZOB_HAS_KERNEL(ZOB_KERNEL_ONES_OUTSIDE)) t.reads_ones = t.op->pad_value && zob_reads_outside(t.op, t.in, t.out);
    if (ZOB_SOME_MISSING) {
        set_inner(&t, 0u, b->in->height, b->c->out->height);
        set_inner(&t, 1u, b->in->width, b->c->out->width);
    }
    if (!divide_scratch(&t)) return 0;
    set_input(&t);
    set_start(&t);
    for (uint32_t begin = 0, end; begin < height; begin = end) {
        end = min_u32(begin + t.band, height);
        run_windows(&t, begin, end);
        if (!ZOB_SOME_MISSING && !copies(&t)) t.input += (end - begin) * t.op->stride[0] * t.width;
    }
    return 1;
}
