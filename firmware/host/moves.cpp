#include "moves.hpp"

#include <algorithm>

namespace zob {

namespace {

uint32_t pixels_of(const zob_tensor &t) { return t.height * t.width; }

float *real_at(const Block &b, const Place &p, size_t image) {
    return reinterpret_cast<float *>(b.arena + p.offset + image * p.image_bytes());
}

// Call f(cell of an image, number of the pixel) for every pixel.
template <class F>
void for_each_cell(const Block &b, const Place &p, size_t image, F f) {
    uint32_t pixel = 0;
    for (uint32_t y = 0; y < p.height; y++) {
        uint8_t *cell = b.arena + p.offset + image * p.image_bytes() + p.at(y, 0);
        for (uint32_t x = 0; x < p.width; x++, cell += p.cell) f(cell, pixel++);
    }
}

void copy_blocks(uint8_t *to, const uint8_t *from, uint32_t bytes) {
    for (uint32_t k = 0; k < bytes; k += 4 * ZOB_BLOCK) std::memcpy(to + k, from + k, 4 * ZOB_BLOCK);
}

// Set bits [at, at + count) of a zero row of words.
void put_bits(uint8_t *row, uint32_t at, const uint32_t *bits, uint32_t count) {
    for (uint32_t k = 0; k < count; k += 32, at += 32) {
        uint64_t two;
        const size_t words = at % 32 + std::min(count - k, 32u) > 32 ? 8 : 4;
        uint8_t *to = row + at / 32 * 4;
        two = 0;
        std::memcpy(&two, to, words);
        two |= static_cast<uint64_t>(*bits++) << at % 32;
        std::memcpy(to, &two, words);
    }
}

// How many planes of a level are +1. A level is a whole number, or more than there are planes.
uint32_t plus_of(float level, uint32_t planes) {
    return level > 0.0f ? (level < static_cast<float>(planes) ? static_cast<uint32_t>(level) : planes) : 0;
}

// The planes of one level, -1 (a set bit) from the level on.
void planes_of(float level, uint32_t planes, uint32_t *bits) {
    uint32_t plus = plus_of(level, planes);
    for (uint32_t k = 0; k < planes; k += 32) {
        const uint32_t count = std::min(planes - k, 32u), clear = std::min(count, plus);
        const uint64_t upper = (uint64_t{1} << count) - (uint64_t{1} << clear);
        plus -= clear;
        *bits++ = static_cast<uint32_t>(upper);
    }
}

}  // namespace

Action read_floats(const zob_tensor &t, const Place &to) {
    return [=](const Block &b) {
        const float *x = static_cast<const float *>(b.inputs);
        for (size_t image = 0; image < b.images; image++) {
            for_each_cell(b, to, image, [&](uint8_t *cell, uint32_t) {
                std::memcpy(cell, x, 4 * t.channels);
                x += t.channels;
            });
        }
    };
}

Action read_pixels(const zob_tensor &t, const PixelTable &table, const Place &to) {
    return [=](const Block &b) {
        const uint8_t *x = static_cast<const uint8_t *>(b.inputs);
        for (size_t image = 0; image < b.images; image++) {
            for_each_cell(b, to, image, [&](uint8_t *cell, uint32_t) {
                float *y = reinterpret_cast<float *>(cell);
                for (uint32_t c = 0; c < t.channels; c++) y[c] = table[*x++];
            });
        }
    };
}

int32_t code_of(const zob_tensor &t, float x) { return std::clamp(zob_nearest(x / t.scale) + t.zero_point, -128, 127); }

Action read_codes(const zob_tensor &t, const Place &to) {
    return [=](const Block &b) {
        const float *x = static_cast<const float *>(b.inputs);
        for (size_t image = 0; image < b.images; image++) {
            for_each_cell(b, to, image, [&](uint8_t *cell, uint32_t) {
                float *y = reinterpret_cast<float *>(cell);
                for (uint32_t c = 0; c < t.channels; c++) y[c] = static_cast<float>(code_of(t, *x++) - t.zero_point);
            });
        }
    };
}

Action read_pixel_codes(const zob_tensor &t, const PixelTable &table, const Place &to) {
    PixelTable codes;
    for (size_t p = 0; p < 256; p++) codes[p] = static_cast<float>(code_of(t, table[p]) - t.zero_point);
    return read_pixels(t, codes, to);
}

namespace {

// Rows of bytes from rows of input elements, in a border.
template <class T, class F>
Action read_rows(const zob_tensor &t, uint8_t border, const Place &to, F read_row) {
    return [=](const Block &b) {
        const T *x = static_cast<const T *>(b.inputs);
        for (size_t image = 0; image < b.images; image++) {
            uint8_t *first = b.arena + to.offset + image * to.image_bytes();
            if (to.bordered()) std::memset(first, border, to.image_bytes());
            for (uint32_t y = 0; y < t.height; y++) {
                read_row(b, x, first + to.at(y, 0), t.width * t.channels);
                x += t.width * t.channels;
            }
        }
    };
}

}  // namespace

Action read_bytes(const zob_tensor &t, const ByteTable &table, uint8_t border, const Place &to) {
    return read_rows<uint8_t>(t, border, to, [table](const Block &b, const uint8_t *x, uint8_t *row, uint32_t n) {
        b.kernels->map_bytes(table.data(), x, row, n);
    });
}

Action read_levels(const zob_op &thermometer, const zob_tensor &t, uint32_t planes, const PixelTable &table,
                   const Place &to) {
    std::array<uint16_t, 256> rows;
    for (size_t p = 0; p < 256; p++) {
        rows[p] = static_cast<uint16_t>(LEVEL_BYTES * plus_of(zob_round(table[p] * thermometer.low), planes));
    }
    const uint16_t border = static_cast<uint16_t>(LEVEL_BYTES * planes);
    return [=](const Block &b) {
        const uint8_t *x = static_cast<const uint8_t *>(b.inputs);
        uint16_t *cells = reinterpret_cast<uint16_t *>(b.arena + to.offset);
        if (to.bordered()) std::fill_n(cells, size_t{b.images} * to.image_bytes() / 2, border);
        for (size_t image = 0; image < b.images; image++) {
            for (uint32_t y = 0; y < t.height; y++, x += t.width * t.channels) {
                for (uint32_t c = 0; c < t.channels; c++) {
                    uint16_t *row = cells + (image * to.image_bytes() + c * to.plane_bytes() + to.at(y, 0)) / 2;
                    for (uint32_t i = 0; i < t.width; i++) row[i] = rows[x[i * t.channels + c]];
                }
            }
        }
    };
}

Action read_code_bytes(const zob_tensor &t, const Place &to) {
    const auto read_row = [t](const Block &, const float *x, uint8_t *row, uint32_t n) {
        for (uint32_t i = 0; i < n; i++) row[i] = static_cast<uint8_t>(128 + code_of(t, x[i]));
    };
    return read_rows<float>(t, static_cast<uint8_t>(128 + t.zero_point), to, read_row);
}

Action write_scores(const zob_tensor &t, const Place &from) {
    return [=](const Block &b) {
        static const uint32_t canonical_nan = 0x7FC00000u;
        float *y = b.scores;
        for (size_t image = 0; image < b.images; image++) {
            for_each_cell(b, from, image, [&](const uint8_t *cell, uint32_t) {
                std::memcpy(y, cell, 4 * t.channels);
                for (uint32_t c = 0; c < t.channels; c++, y++) {
                    if (*y != *y) std::memcpy(y, &canonical_nan, 4);
                }
            });
        }
    };
}

Action thermometer(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to) {
    const uint32_t planes = out.channels / in.channels;
    const float gain = op.low;
    return [=](const Block &b) {
        std::vector<uint32_t> bits(zob_words(planes));
        for (size_t image = 0; image < b.images; image++) {
            const float *x = real_at(b, from, image);
            for_each_cell(b, to, image, [&](uint8_t *cell, uint32_t pixel) {
                std::memset(cell, 0, to.cell);
                for (uint32_t c = 0; c < in.channels; c++) {
                    planes_of(zob_round(x[pixel * (from.cell / 4) + c] * gain), planes, bits.data());
                    put_bits(cell, c * planes, bits.data(), planes);
                }
            });
        }
    };
}

Action thermometer_of_pixels(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const PixelTable &table,
                             const Place &to) {
    const uint32_t planes = out.channels / in.channels, words = zob_words(planes);
    std::vector<uint32_t> bits(256 * words);
    for (size_t p = 0; p < 256; p++) planes_of(zob_round(table[p] * op.low), planes, &bits[p * words]);
    return [=](const Block &b) {
        const uint8_t *x = static_cast<const uint8_t *>(b.inputs);
        for (size_t image = 0; image < b.images; image++) {
            for_each_cell(b, to, image, [&](uint8_t *cell, uint32_t) {
                if (planes == 32) {
                    for (uint32_t c = 0; c < in.channels; c++) std::memcpy(cell + 4 * c, &bits[*x++], 4);
                    return;
                }
                std::memset(cell, 0, to.cell);
                for (uint32_t c = 0; c < in.channels; c++) put_bits(cell, c * planes, &bits[*x++ * words], planes);
            });
        }
    };
}

namespace {

// Cells of a pool's windows, each pixel's up to its end: bytes from an image's first.
struct Taps {
    std::vector<uint32_t> cells, ends;

    Taps(const zob_op &o, const zob_tensor &in, const zob_tensor &out, const Place &from) {
        const auto window = [](uint32_t at, uint32_t stride, uint32_t kernel, uint32_t pad, uint32_t size) {
            const uint32_t begin = at * stride, end = begin + kernel - pad;
            return std::pair<uint32_t, uint32_t>{begin > pad ? begin - pad : 0, std::min(end, size)};
        };
        for (uint32_t oy = 0; oy < out.height; oy++) {
            const auto [y0, y1] = window(oy, o.stride[0], o.kernel[0], o.pad[0], in.height);
            for (uint32_t ox = 0; ox < out.width; ox++) {
                const auto [x0, x1] = window(ox, o.stride[1], o.kernel[1], o.pad[1], in.width);
                for (uint32_t y = y0; y < y1; y++) {
                    for (uint32_t x = x0; x < x1; x++) cells.push_back(static_cast<uint32_t>(from.at(y, x)));
                }
                ends.push_back(static_cast<uint32_t>(cells.size()));
            }
        }
    }
};

template <class Word>
Action pool_words(const Taps &taps, const Place &from, const Place &to) {
    return [=](const Block &b) {
        for (size_t image = 0; image < b.images; image++) {
            const uint8_t *source = b.arena + from.offset + image * from.image_bytes();
            const uint32_t *first = taps.cells.data();
            for_each_cell(b, to, image, [&](uint8_t *cell, uint32_t pixel) {
                const uint32_t *end = taps.cells.data() + taps.ends[pixel];
                for (uint32_t i = 0; i < to.cell; i += sizeof(Word)) {
                    Word bits = static_cast<Word>(-1), word;
                    for (const uint32_t *tap = first; tap < end; tap++) {
                        std::memcpy(&word, source + *tap + i, sizeof word);
                        bits &= word;
                    }
                    std::memcpy(cell + i, &bits, sizeof bits);
                }
                first = end;
            });
        }
    };
}

}  // namespace

Action pool_bits(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to) {
    const Taps taps(op, in, out, from);
    return to.cell % 8 ? pool_words<uint32_t>(taps, from, to) : pool_words<uint64_t>(taps, from, to);
}

Action concat(const zob_tensor &in, const Place &from, const Place &tail, const Place &to) {
    // Whole blocks: what is too much is overwritten by what comes next, or lies in the slack.
    return [=](const Block &b) {
        const size_t positions = static_cast<size_t>(b.images) * pixels_of(in);
        for (size_t q = 0; q < positions; q++) {
            uint8_t *cell = b.arena + to.offset + q * to.cell;
            copy_blocks(cell, b.arena + from.offset + q * from.cell, from.cell);
            copy_blocks(cell + 4 * in.channels, b.arena + tail.offset + q * tail.cell, tail.cell);
        }
    };
}

Action pad(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to) {
    const uint32_t top = op.pad[0], left = op.pad[1];
    const float border = op.low;
    return [=](const Block &b) {
        for (size_t image = 0; image < b.images; image++) {
            std::fill_n(real_at(b, to, image), pixels_of(out) * (to.cell / 4), border);
            for (uint32_t y = 0; y < in.height; y++) {
                std::memcpy(b.arena + to.offset + image * to.image_bytes() + to.at(y + top, left),
                            b.arena + from.offset + image * from.image_bytes() + from.at(y, 0), from.row());
            }
        }
    };
}

Action reshape(const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to) {
    return [=](const Block &b) {
        for (size_t image = 0; image < b.images; image++) {
            const float *x = real_at(b, from, image);
            float *y = real_at(b, to, image);
            for (uint32_t i = 0, p = 0, c = 0; i < pixels_of(in); i++) {
                for (uint32_t k = 0; k < in.channels; k++) {
                    y[p * (to.cell / 4) + c] = x[i * (from.cell / 4) + k];
                    if (++c == out.channels) c = 0, p++;
                }
            }
        }
    };
}

// The portable kernel, on channels side by side.
Action dynamic_range(const zob_model &model, const zob_op &op, const zob_tensor &t, const Place &from, const Place &to) {
    return [=, &model](const Block &b) {
        const size_t count = static_cast<size_t>(pixels_of(t)) * t.channels;
        std::vector<float> x(count), y(count);
        zob_tensor in = t;
        zob_op o = op;
        zob_sink sink{};
        zob_context c{&model, &o, &in, &in, nullptr, reinterpret_cast<uint8_t *>(x.data())};
        in.offset = 0;
        sink.channels = t.channels;
        sink.real = y.data();
        for (size_t image = 0; image < b.images; image++) {
            for_each_cell(b, from, image, [&](const uint8_t *cell, uint32_t pixel) {
                std::memcpy(&x[size_t{pixel} * t.channels], cell, 4 * t.channels);
            });
            zob_dynamic_range(&c, &sink);
            for_each_cell(b, to, image, [&](uint8_t *cell, uint32_t pixel) {
                std::memcpy(cell, &y[size_t{pixel} * t.channels], 4 * t.channels);
            });
        }
    };
}

Action softmax(const zob_model &model, const zob_tensor &t, const Place &from, const Place &to) {
    return [=, &model](const Block &b) {
        zob_tensor in = t, out = t;
        zob_context c{&model, nullptr, &in, &out, nullptr, b.arena};
        in.height = in.width = out.height = out.width = 1;
        for (size_t q = 0; q < static_cast<size_t>(b.images) * pixels_of(t); q++) {
            in.offset = from.offset + static_cast<uint32_t>(q) * from.cell;
            out.offset = to.offset + static_cast<uint32_t>(q) * to.cell;
            zob_softmax(&c);
        }
    };
}

}  // namespace zob
