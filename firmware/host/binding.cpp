// The engine for Python. Arrays are checked and shaped by zobnn_edge/engine.py; here they are only passed on.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "incremental.hpp"
#include "instructions.hpp"
#include "parallel.hpp"
#include "portable.hpp"
#include "program.hpp"
#include "zob.h"
#include "zob_fault.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using MutableBytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Pixels = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Scores = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

class Engine {
public:
    Engine(Bytes plan, const std::string &instructions) : plan_((plan.size() + 3) / 4), instructions_(instructions) {
        std::copy(plan.data(), plan.data() + plan.size(), reinterpret_cast<uint8_t *>(plan_.data()));
        uint32_t where = 0;
        const zob_status status = zob_load(&model_, plan_.data(), static_cast<uint32_t>(plan.size()), &where);
        if (status != ZOB_OK) {
            throw nb::value_error((std::string(zob_status_text(status)) + " (record " + std::to_string(where) + ")").c_str());
        }
        kernels_ = zob::kernels_of(instructions_);
        for (uint32_t format : {ZOB_INPUT_FLOAT32, ZOB_INPUT_UINT8}) {
            if (kernels_) programs_[format] = zob::Program::of(model_, format);
        }
    }

    uint32_t arena_bytes() const { return zob_arena_bytes(&model_); }
    uint32_t image_bytes() const { return zob_image_bytes(&model_); }
    uint32_t input_count() const { return zob_input_count(&model_); }
    uint32_t output_count() const { return zob_output_count(&model_); }
    // What runs: the kernels chosen, unless the plan has operations that only the portable engine knows.
    std::string instructions() const { return programs_[0] ? instructions_ : "portable"; }

    // The network a stage at a time, with the same kernels.
    std::unique_ptr<zob::Staged> staged(uint32_t format) const {
        if (format > ZOB_INPUT_UINT8) throw nb::value_error("no such format");
        return programs_[format] ? programs_[format]->staged(*kernels_) : zob::portable_stages(model_, format);
    }

    void run_floats(Bytes image, Floats inputs, Scores scores, unsigned threads) const {
        run(image, inputs.data(), inputs.shape(0), inputs.shape(1), sizeof(float), ZOB_INPUT_FLOAT32, threads, scores);
    }
    void run_pixels(Bytes image, Pixels inputs, Scores scores, unsigned threads) const {
        run(image, inputs.data(), inputs.shape(0), inputs.shape(1), sizeof(uint8_t), ZOB_INPUT_UINT8, threads, scores);
    }

    nb::tuple check(Bytes image) const {
        std::vector<uint32_t> copy(image.size() / 4 + 1);
        std::copy(image.data(), image.data() + image.size(), reinterpret_cast<uint8_t *>(copy.data()));
        zob_health health{};
        const zob_status status = zob_check(&model_, copy.data(), static_cast<uint32_t>(image.size()), &health);
        if (status != ZOB_OK) throw nb::value_error(zob_status_text(status));
        return nb::make_tuple(health.corrected, health.lost);
    }

    // Inputs one after the other, each stopped when operation `op` begins: there the bits `arena_bits` of the arena are
    // inverted, and from there on in the first inference the image is `after`.
    void run_stopped_floats(Bytes before, Bytes after, Floats x, Scores scores, uint32_t op, Integers arena_bits) const {
        run_stopped(before, after, x.data(), x.shape(0), x.shape(1), sizeof(float), ZOB_INPUT_FLOAT32, scores, op, arena_bits);
    }
    void run_stopped_pixels(Bytes before, Bytes after, Pixels x, Scores scores, uint32_t op, Integers arena_bits) const {
        run_stopped(before, after, x.data(), x.shape(0), x.shape(1), sizeof(uint8_t), ZOB_INPUT_UINT8, scores, op, arena_bits);
    }

private:
    void run_stopped(const Bytes &before, const Bytes &after, const void *inputs, size_t n, size_t elements, size_t size,
                     uint32_t format, const Scores &scores, uint32_t op, const Integers &arena_bits) const {
        if (elements != input_count() || scores.shape(0) != n || scores.shape(1) != output_count()) {
            throw nb::value_error("inputs or scores have the wrong shape");
        }
        std::vector<uint32_t> first = aligned(before), rest = aligned(after);
        std::vector<uint64_t> arena(arena_bytes() / 8 + 1);
        uint8_t *const bytes = reinterpret_cast<uint8_t *>(arena.data());
        const uint32_t room = static_cast<uint32_t>(8 * arena.size());
        for (size_t i = 0; i < arena_bits.shape(0); i++) {
            if (static_cast<uint64_t>(arena_bits.data()[i]) / 8 >= arena_bytes()) throw nb::value_error("a bit beyond the arena");
        }
        for (size_t i = 0; i < n; i++) {
            const void *input = static_cast<const uint8_t *>(inputs) + i * elements * size;
            checked(zob_put_input(&model_, input, format, arena.data(), room));
            checked(zob_run_ops(&model_, (i ? rest : first).data(), image_bytes(), arena.data(), room, 0, op));
            for (size_t b = 0; b < arena_bits.shape(0); b++) {
                bytes[arena_bits.data()[b] / 8] ^= static_cast<uint8_t>(1u << (arena_bits.data()[b] % 8));
            }
            checked(zob_run_ops(&model_, rest.data(), image_bytes(), arena.data(), room, op, zob_op_count(&model_)));
            checked(zob_get_scores(&model_, arena.data(), room, scores.data() + i * output_count()));
        }
    }

    static void checked(zob_status status) {
        if (status != ZOB_OK) throw nb::value_error(zob_status_text(status));
    }

    std::vector<uint32_t> aligned(const Bytes &image) const {
        if (image.size() != image_bytes()) throw nb::value_error(zob_status_text(ZOB_E_IMAGE));
        std::vector<uint32_t> copy(image_bytes() / 4 + 1);
        std::copy(image.data(), image.data() + image.size(), reinterpret_cast<uint8_t *>(copy.data()));
        return copy;
    }

    // Memory of its own and one aligned copy of the image a call: calls from several threads do not meet.
    void run(const Bytes &image, const void *inputs, size_t n, size_t elements, size_t size, uint32_t format,
             unsigned threads, const Scores &scores) const {
        if (elements != input_count() || scores.shape(0) != n || scores.shape(1) != output_count()) {
            throw nb::value_error("inputs or scores have the wrong shape");
        }
        if (image.size() != image_bytes()) throw nb::value_error(zob_status_text(ZOB_E_IMAGE));
        if (threads == 0) throw nb::value_error("no threads");
        const uint8_t *image_data = image.data();
        float *out = scores.data();
        nb::gil_scoped_release unlocked;
        std::vector<uint32_t> copy(image_bytes() / 4 + 1);
        std::copy(image_data, image_data + image_bytes(), reinterpret_cast<uint8_t *>(copy.data()));
        if (programs_[format]) {
            programs_[format]->run(*kernels_, reinterpret_cast<const uint8_t *>(copy.data()), inputs, n, threads, out);
            return;
        }
        const auto make = [&] {
            return [&, arena = std::vector<uint64_t>(arena_bytes() / 8 + 1)](size_t i) mutable {
                zob_run(&model_, copy.data(), image_bytes(), static_cast<const uint8_t *>(inputs) + i * elements * size,
                        format, arena.data(), static_cast<uint32_t>(8 * arena.size()), out + i * output_count());
            };
        };
        zob::share_out(n, threads, make);
    }

    std::vector<uint32_t> plan_;
    std::string instructions_;
    const zob_kernels *kernels_ = nullptr;
    zob_model model_{};
    std::unique_ptr<zob::Program> programs_[2];
};

// What Incremental does, on arrays. Not for several threads at once.
class Rerunner {
public:
    // For inputs of one format: ZOB_INPUT_...
    Rerunner(const Engine &engine, Bytes golden, uint32_t format, size_t budget, bool by_blocks, bool leave)
        : engine_(engine), format_(format),
          runs_(engine.staged(format), sized(golden).data(), budget, {by_blocks, leave}) {}

    Rerunner(const Rerunner &) = delete;
    Rerunner &operator=(const Rerunner &) = delete;

    void put_floats(Floats x) {
        put(reinterpret_cast<const uint8_t *>(x.data()), x.shape(0), x.shape(1), ZOB_INPUT_FLOAT32);
    }
    void put_pixels(Pixels x) { put(x.data(), x.shape(0), x.shape(1), ZOB_INPUT_UINT8); }

    double run(Bytes image, Scores scores) {
        if (scores.shape(0) != runs_.inputs() || scores.shape(1) != engine_.output_count()) {
            throw nb::value_error("scores have the wrong shape");
        }
        const uint8_t *data = sized(image).data();
        float *out = scores.data();
        nb::gil_scoped_release unlocked;
        return runs_.run(data, out);
    }

    double plain_work() const { return runs_.plain_work(); }

private:
    const Bytes &sized(const Bytes &image) const {
        if (image.size() != engine_.image_bytes()) throw nb::value_error("an image of the wrong size");
        return image;
    }

    void put(const uint8_t *inputs, size_t n, size_t elements, uint32_t format) {
        if (elements != engine_.input_count() || format != format_) throw nb::value_error("inputs have the wrong shape");
        nb::gil_scoped_release unlocked;
        runs_.put_inputs(inputs, n);
    }

    const Engine &engine_;
    uint32_t format_;
    zob::Incremental runs_;
};

uint32_t inject(MutableBytes image, uint32_t first_bit, uint32_t bits, uint64_t rate_q64, uint64_t seed) {
    if (static_cast<uint64_t>(first_bit) + bits > 8 * static_cast<uint64_t>(image.size())) {
        throw nb::value_error("the range runs past the end of the image");
    }
    return zob_inject(image.data(), first_bit, bits, rate_q64, seed);
}

void permutation(Integers out, uint32_t first, uint32_t count, uint64_t seed) {
    if (first + out.size() > count) throw nb::value_error("more elements than the order has");
    for (size_t i = 0; i < out.size(); i++) out.data()[i] = zob_permute(first + static_cast<uint32_t>(i), count, seed);
}

uint32_t crc32(Bytes data) { return zob_crc32(0, data.data(), static_cast<uint32_t>(data.size())); }

nb::tuple philox(nb::tuple counter, nb::tuple key) {
    uint32_t c[4], k[2], out[4];
    for (size_t i = 0; i < 4; i++) c[i] = nb::cast<uint32_t>(counter[i]);
    for (size_t i = 0; i < 2; i++) k[i] = nb::cast<uint32_t>(key[i]);
    zob_philox(c, k, out);
    return nb::make_tuple(out[0], out[1], out[2], out[3]);
}

} // namespace

NB_MODULE(_engine, m) {
    nb::class_<Engine>(m, "Engine")
        .def(nb::init<Bytes, const std::string &>(), "plan"_a, "instructions"_a)
        .def_prop_ro("arena_bytes", &Engine::arena_bytes)
        .def_prop_ro("image_bytes", &Engine::image_bytes)
        .def_prop_ro("input_count", &Engine::input_count)
        .def_prop_ro("output_count", &Engine::output_count)
        .def_prop_ro("instructions", &Engine::instructions)
        .def("run_floats", &Engine::run_floats, "image"_a, "inputs"_a, "scores"_a, "threads"_a)
        .def("run_pixels", &Engine::run_pixels, "image"_a, "inputs"_a, "scores"_a, "threads"_a)
        .def("run_stopped_floats", &Engine::run_stopped_floats, "before"_a, "after"_a, "inputs"_a, "scores"_a, "op"_a,
             "arena_bits"_a)
        .def("run_stopped_pixels", &Engine::run_stopped_pixels, "before"_a, "after"_a, "inputs"_a, "scores"_a, "op"_a,
             "arena_bits"_a)
        .def("check", &Engine::check, "image"_a);
    nb::class_<Rerunner>(m, "Rerunner")
        .def(nb::init<const Engine &, Bytes, uint32_t, size_t, bool, bool>(), "engine"_a, "golden"_a, "format"_a,
             "budget"_a, "by_blocks"_a, "leave"_a, nb::keep_alive<1, 2>())
        .def_prop_ro("plain_work", &Rerunner::plain_work)
        .def("put_floats", &Rerunner::put_floats, "inputs"_a)
        .def("put_pixels", &Rerunner::put_pixels, "inputs"_a)
        .def("run", &Rerunner::run, "image"_a, "scores"_a);
    m.def("instruction_sets", &zob::instruction_sets);
    m.def("inject", &inject, "image"_a, "first_bit"_a, "bits"_a, "rate_q64"_a, "seed"_a);
    m.def("permutation", &permutation, "out"_a, "first"_a, "count"_a, "seed"_a);
    m.def("crc32", &crc32, "data"_a);
    m.def("philox", &philox, "counter"_a, "key"_a);
}
