#include "weights.hpp"

#include <algorithm>
#include <cstring>

#include "records.hpp"

namespace zob {

namespace {

template <class T>
T *view(uint8_t *bytes, size_t at) {
    return reinterpret_cast<T *>(bytes + at);
}

// Where element `term` of filter `filter` lies among blocks of filters.
size_t in_blocks(uint32_t filter, uint32_t term, uint32_t terms) {
    return (static_cast<size_t>(filter / ZOB_BLOCK) * terms + term) * ZOB_BLOCK + filter % ZOB_BLOCK;
}

uint32_t ones(uint32_t x) {
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    return (((x + (x >> 4)) & 0x0F0F0F0Fu) * 0x01010101u) >> 24;
}

// Rows of padded(channels) numbers of 4 bytes; `terms` of them a channel.
Table table_of(size_t at, size_t rows, uint32_t channels, size_t terms = 1) {
    return {at, rows, padded(channels) / ZOB_BLOCK, 4 * ZOB_BLOCK * terms};
}

// The set bits of each tap of a filter: those that kernels read, and those that fill up words.
struct SetBits {
    std::vector<int32_t> read, filling;

    SetBits(const BitWeights &w, const uint32_t *words) {
        const uint32_t taps = w.weight.dims[1] * w.weight.dims[2], a_tap = zob_words(w.weight.dims[3]);
        for (uint32_t tap = 0; tap < taps; tap++, words += a_tap) {
            const uint32_t last = words[a_tap - 1];
            int32_t whole = 0;
            for (uint32_t j = 0; j + 1 < a_tap; j++) whole += static_cast<int32_t>(ones(words[j]));
            read.push_back(whole + static_cast<int32_t>(ones(last & w.last)));
            filling.push_back(static_cast<int32_t>(ones(last & ~w.last)));
        }
    }
};

// What a filter's counts begin with, or its sums.
void write_base(Bases bases, int32_t sum, uint8_t *to) {
    const float real = static_cast<float>(sum);
    const uint32_t count = static_cast<uint32_t>(-(sum >> 1)), twins = (count & 0xFFFFu) * 0x10001u;
    if (bases == Bases::SUMS) {
        std::memcpy(to, &real, 4);
    } else {
        std::memcpy(to, bases == Bases::COUNTS ? &count : &twins, 4);
    }
}

// That of filter `o`, for each way a window lies over the border.
void write_bases(const BitWeights &w, uint32_t o, const SetBits &bits, uint8_t *base) {
    const int32_t channels = static_cast<int32_t>(w.weight.dims[3]);
    for (const zob_cover &cover : w.covers) {
        int32_t sum = 0;
        for (uint32_t tap = 0; tap < bits.read.size(); tap++) {
            const uint32_t y = tap / w.weight.dims[2], x = tap % w.weight.dims[2];
            const bool inside = y >= cover.top && y < cover.bottom && x >= cover.left && x < cover.right;
            sum += inside || w.read_outside ? channels - 2 * bits.filling[tap] : 2 * bits.read[tap];
        }
        write_base(w.bases, sum, base + 4 * o);
        base += 4 * padded(w.weight.dims[0]);
    }
}

// The terms of filter `o`, tap after tap; of chains one after the other.
void put_terms(std::vector<uint32_t> &terms, uint32_t chains, uint32_t o, uint32_t *to) {
    const uint32_t count = static_cast<uint32_t>(terms.size());
    for (uint32_t l = 2; chains && l < ZOB_LINKS; l += 2) {
        for (uint32_t k = l * chains; k < (l + 1) * chains; k++) terms[k] ^= terms[k - chains] ^ terms[k - 2 * chains];
    }
    for (uint32_t k = 0; k < count; k++) {
        to[in_blocks(o, chains ? k % chains * ZOB_LINKS + k / chains : k, count)] = terms[k];
    }
}

}  // namespace

Preparation prepare_values(const zob_parameter &p, uint32_t channels, size_t at) {
    const auto fill = [=](const uint8_t *image, uint8_t *parameters) {
        std::vector<float> values(p.count);
        zob_decode(&p, image, 0, p.count, values.data());
        float *out = view<float>(parameters, at);
        for (uint32_t i = 0; i < p.count; i += channels, out += padded(channels)) {
            std::copy_n(&values[i], channels, out);
        }
    };
    return {p.offset, parameter_bytes(p), {table_of(at, p.count / channels, channels)}, fill};
}

Preparation prepare_negated(const zob_parameter &p, size_t at) {
    const auto fill = [=](const uint8_t *image, uint8_t *parameters) {
        float *out = view<float>(parameters, at);
        zob_decode(&p, image, 0, p.count, out);
        for (uint32_t i = 0; i < p.count; i++) out[i] = -out[i];
    };
    return {p.offset, parameter_bytes(p), {table_of(at, 1, p.count)}, fill};
}

Preparation prepare_whole(const zob_parameter &p, std::function<int32_t(float)> of, size_t at) {
    const auto fill = [=](const uint8_t *image, uint8_t *parameters) {
        std::vector<float> values(p.count);
        zob_decode(&p, image, 0, p.count, values.data());
        std::transform(values.begin(), values.end(), view<int32_t>(parameters, at), of);
    };
    return {p.offset, parameter_bytes(p), {table_of(at, 1, p.count)}, fill};
}

Preparation prepare_constant(float value, uint32_t channels, size_t at) {
    const auto fill = [=](const uint8_t *, uint8_t *parameters) {
        std::fill_n(view<float>(parameters, at), channels, value);
    };
    return {0, 0, {}, fill};
}

float Split::coarse(float weight) const {
    const int32_t unit = int32_t{1} << bits;
    return static_cast<float>(((static_cast<int32_t>(weight) + unit / 2) >> bits) * unit);
}

std::optional<Split> split_of(const zob_tensor &in, const zob_parameter &weight) {
    const uint64_t exact = uint64_t{1} << 24, greatest = zob_largest_sum(&in, &weight);
    const uint64_t terms = weight.count / weight.dims[0], reach = in.zero_point < 0 ? 127 - in.zero_point : 128 + in.zero_point;
    for (uint32_t bits = 0; bits < 24; bits++) {
        const uint64_t unit = uint64_t{1} << bits, fine = terms * reach * (unit / 2);
        if (fine <= exact && (greatest + fine) / unit <= exact) return Split{bits};
    }
    return std::nullopt;
}

Preparation prepare_weights(const zob_parameter &weight, std::function<float(float)> of, size_t at) {
    const uint32_t filters = weight.dims[0], terms = weight.count / filters;
    const auto fill = [=](const uint8_t *image, uint8_t *parameters) {
        std::vector<float> values(terms);
        for (uint32_t o = 0; o < filters; o++) {
            zob_decode(&weight, image, o * terms, terms, values.data());
            for (uint32_t k = 0; k < terms; k++) view<float>(parameters, at)[in_blocks(o, k, terms)] = of(values[k]);
        }
    };
    return {weight.offset, parameter_bytes(weight), {table_of(at, 1, filters, terms)}, fill};
}

Preparation prepare_bytes(const zob_parameter &weight, const std::vector<int32_t> &elements, int32_t zero, size_t at,
                          size_t base) {
    const uint32_t filters = weight.dims[0], count = weight.count / filters;
    const uint32_t terms = static_cast<uint32_t>(elements.size() / 4);
    const auto fill = [=](const uint8_t *image, uint8_t *parameters) {
        std::vector<float> values(count);
        for (uint32_t o = 0; o < filters; o++) {
            int32_t sum = 0;
            zob_decode(&weight, image, o * count, count, values.data());
            for (uint32_t k = 0; k < 4 * terms; k++) {
                const int8_t w = elements[k] < 0 ? int8_t{0} : static_cast<int8_t>(values[elements[k]]);
                view<int8_t>(parameters, at)[4 * in_blocks(o, k / 4, terms) + k % 4] = w;
                sum += w;
            }
            view<int32_t>(parameters, base)[o] = -zero * sum;
        }
    };
    const Table weights = table_of(at, 1, filters, terms), bases = table_of(base, 1, filters);
    return {weight.offset, parameter_bytes(weight), {weights, bases}, fill};
}

Preparation prepare_bits(const BitWeights &w, size_t at, size_t base) {
    const uint32_t filters = w.weight.dims[0], row_words = zob_words(w.weight.dims[3]);
    const uint32_t taps = w.weight.dims[1] * w.weight.dims[2], a_word = 32 / w.slot;
    const uint32_t terms = w.slot < 32 ? (taps + a_word - 1) / a_word : taps * w.words;
    const auto fill = [=](const uint8_t *image, uint8_t *parameters) {
        const uint32_t *row = reinterpret_cast<const uint32_t *>(image + w.weight.offset);
        std::vector<uint32_t> packed(terms);
        for (uint32_t o = 0; o < filters; o++) {
            write_bases(w, o, SetBits(w, row), parameters + base);
            std::fill(packed.begin(), packed.end(), 0u);
            for (uint32_t tap = 0; tap < taps; tap++) {
                for (uint32_t j = 0; j < row_words; j++) {
                    const uint32_t word = *row++;
                    if (w.slot < 32) {
                        packed[tap / a_word] |= (word & w.last) << (tap % a_word * w.slot);
                    } else if (w.bases == Bases::TWINS) {
                        packed[tap * w.words + 2 * j] = (word & 0xFFFFu) * 0x10001u;
                        if (2 * j + 1 < w.words) packed[tap * w.words + 2 * j + 1] = (word >> 16) * 0x10001u;
                    } else {
                        packed[tap * w.words + j] = word;
                    }
                }
            }
            put_terms(packed, w.chains, o, view<uint32_t>(parameters, at));
        }
    };
    const Table weights = table_of(at, 1, filters, terms), bases = table_of(base, w.covers.size(), filters);
    return {w.weight.offset, parameter_bytes(w.weight), {weights, bases}, fill};
}

Preparation prepare_levels(const BitWeights &w, uint32_t pixel_channels, size_t at, size_t base) {
    const uint32_t filters = w.weight.dims[0], planes = w.weight.dims[3] / pixel_channels;
    const uint32_t taps = w.weight.dims[1] * w.weight.dims[2], row_words = zob_words(w.weight.dims[3]);
    const size_t terms = size_t{taps} * pixel_channels;
    const auto fill = [=](const uint8_t *image, uint8_t *parameters) {
        const uint32_t *row = reinterpret_cast<const uint32_t *>(image + w.weight.offset);
        for (uint32_t o = 0; o < filters; o++, row += taps * row_words) {
            write_bases(w, o, SetBits(w, row), parameters + base);
            const size_t block = o / ZOB_BLOCK * terms * (planes + 1) * ZOB_BLOCK;
            uint8_t *out = parameters + at + block + o % ZOB_BLOCK;
            for (uint32_t k = 0; k < terms; k++, out += (planes + 1) * ZOB_BLOCK) {
                const uint32_t *tap = row + k / pixel_channels * row_words, first = k % pixel_channels * planes;
                const auto bit = [&](uint32_t plane) { return tap[(first + plane) / 32] >> (first + plane) % 32 & 1u; };
                // A level's planes are +1, zero bits, below it. At the top one all are; each level down one more is -1.
                uint32_t differing = 0;
                for (uint32_t p = 0; p < planes; p++) differing += bit(p);
                out[planes * ZOB_BLOCK] = static_cast<uint8_t>(differing);
                for (uint32_t level = planes; level-- > 0;) {
                    differing += 1u - 2u * bit(level);
                    out[level * ZOB_BLOCK] = static_cast<uint8_t>(differing);
                }
            }
        }
    };
    const size_t block_bytes = terms * (planes + 1) * LEVEL_BYTES;
    const Table rows{at, 1, padded(filters) / ZOB_BLOCK, block_bytes}, bases = table_of(base, w.covers.size(), filters);
    return {w.weight.offset, parameter_bytes(w.weight), {rows, bases}, fill};
}

}  // namespace zob
