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

uint32_t word_at(const uint8_t *p) {
    uint32_t word;
    std::memcpy(&word, p, 4);
    return word;
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

// The planes of one level, -1 (a set bit) from the level on.
void planes_of(float level, uint32_t planes, uint32_t *bits) {
    for (uint32_t k = 0; k < planes; k += 32) {
        uint32_t word = 0;
        for (uint32_t j = 0; j < 32 && k + j < planes; j++) {
            word |= static_cast<uint32_t>(!(static_cast<float>(k + j) < level)) << j;
        }
        *bits++ = word;
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

Action read_steps(const zob_tensor &t, const PixelTable &table, float step, uint8_t border, const Place &to) {
    std::array<uint8_t, 256> bytes;
    for (size_t p = 0; p < 256; p++) bytes[p] = static_cast<uint8_t>(128 + static_cast<int>(table[p] / step));
    return [=](const Block &b) {
        const uint8_t *x = static_cast<const uint8_t *>(b.inputs);
        for (size_t image = 0; image < b.images; image++) {
            uint8_t *first = b.arena + to.offset + image * to.image_bytes();
            if (to.bordered()) std::memset(first, border, to.image_bytes());
            for (uint32_t y = 0; y < t.height; y++) {
                uint8_t *row = first + to.at(y, 0);
                for (uint32_t i = 0; i < t.width * t.channels; i++) row[i] = bytes[*x++];
            }
        }
    };
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

Action clear(const Place &to) {
    return [=](const Block &b) { std::memset(b.arena + to.offset, 0, static_cast<size_t>(b.images) * to.image_bytes()); };
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

Action pack_taps(const zob_op &op, const zob_tensor &out, uint32_t slot, const Place &from, const Place &to,
                 uint32_t images) {
    const uint32_t taps = uint32_t(op.kernel[0]) * op.kernel[1], a_word = 32 / slot, terms = (taps + a_word - 1) / a_word;
    std::vector<int32_t> tap_at;
    for (uint32_t ky = 0; ky < op.kernel[0]; ky++) {
        for (uint32_t kx = 0; kx < op.kernel[1]; kx++) {
            tap_at.push_back(from.at(int64_t(ky) * op.dilation[0] - op.pad[0], int64_t(kx) * op.dilation[1] - op.pad[1]));
        }
    }
    const uint32_t stride[2] = {op.stride[0], op.stride[1]}, step = stride[1] * from.cell / 4;
    const uint32_t plane = images * to.height * to.width;  // words of one term
    return [=](const Block &b) {
        for (size_t image = 0; image < b.images; image++) {
            const uint8_t *source = b.arena + from.offset + image * from.image_bytes();
            for (uint32_t y = 0; y < out.height; y++) {
                uint32_t *row = reinterpret_cast<uint32_t *>(b.arena + to.offset) + (image * out.height + y) * out.width;
                for (uint32_t k = 0; k < terms; k++, row += plane) {
                    for (uint32_t j = 0; j < a_word && k * a_word + j < taps; j++) {
                        const uint8_t *first = source + tap_at[k * a_word + j] + int64_t(y) * stride[0] * from.row();
                        const uint32_t *x = reinterpret_cast<const uint32_t *>(first);
                        if (j == 0) {
                            for (uint32_t i = 0; i < out.width; i++) row[i] = x[i * step];
                        } else if (step == 1) {
                            for (uint32_t i = 0; i < out.width; i++) row[i] |= x[i] << (j * slot);
                        } else {
                            for (uint32_t i = 0; i < out.width; i++) row[i] |= x[i * step] << (j * slot);
                        }
                    }
                }
            }
        }
    };
}

Action pool_bits(const zob_op &op, const zob_tensor &in, const zob_tensor &out, const Place &from, const Place &to) {
    const auto window = [](uint32_t at, uint32_t stride, uint32_t kernel, uint32_t pad, uint32_t size) {
        const uint32_t begin = at * stride, end = begin + kernel - pad;
        return std::pair<uint32_t, uint32_t>{begin > pad ? begin - pad : 0, std::min(end, size)};
    };
    const zob_op o = op;
    return [=](const Block &b) {
        for (size_t image = 0; image < b.images; image++) {
            const uint8_t *source = b.arena + from.offset + image * from.image_bytes();
            uint8_t *target = b.arena + to.offset + image * to.image_bytes();
            for (uint32_t oy = 0; oy < out.height; oy++) {
                const auto [y0, y1] = window(oy, o.stride[0], o.kernel[0], o.pad[0], in.height);
                for (uint32_t ox = 0; ox < out.width; ox++) {
                    const auto [x0, x1] = window(ox, o.stride[1], o.kernel[1], o.pad[1], in.width);
                    for (uint32_t i = 0; i < to.cell; i += 4) {
                        uint32_t bits = 0xFFFFFFFFu;
                        for (uint32_t y = y0; y < y1; y++) {
                            for (uint32_t x = x0; x < x1; x++) bits &= word_at(source + from.at(y, x) + i);
                        }
                        std::memcpy(target + to.at(oy, ox) + i, &bits, 4);
                    }
                }
            }
        }
    };
}

Action concat(const zob_tensor &in, const zob_tensor &other, const Place &from, const Place &tail, const Place &to) {
    return [=](const Block &b) {
        const size_t positions = static_cast<size_t>(b.images) * pixels_of(in);
        for (size_t q = 0; q < positions; q++) {
            uint8_t *cell = b.arena + to.offset + q * to.cell;
            std::memcpy(cell, b.arena + from.offset + q * from.cell, 4 * in.channels);
            std::memcpy(cell + 4 * in.channels, b.arena + tail.offset + q * tail.cell, 4 * other.channels);
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
