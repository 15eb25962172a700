// The engine for Python. Arrays are checked and shaped by zobnn_edge/engine.py; here they are only passed on.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "incremental.hpp"
#include "instructions.hpp"
#include "parallel.hpp"
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

    void run_floats(Bytes image, Floats inputs, Scores scores, unsigned threads) const {
        run(image, inputs.data(), inputs.shape(0), inputs.shape(1), sizeof(float), ZOB_INPUT_FLOAT32, threads, scores);
    }
    void run_pixels(Bytes image, Pixels inputs, Scores scores, unsigned threads) const {
        run(image, inputs.data(), inputs.shape(0), inputs.shape(1), sizeof(uint8_t), ZOB_INPUT_UINT8, threads, scores);
    }

    std::pair<uint32_t, uint32_t> check(Bytes image) const {
        std::vector<uint32_t> copy(image.size() / 4 + 1);
        std::copy(image.data(), image.data() + image.size(), reinterpret_cast<uint8_t *>(copy.data()));
        zob_health health{};
        const zob_status status = zob_check(&model_, copy.data(), static_cast<uint32_t>(image.size()), &health);
        if (status != ZOB_OK) throw nb::value_error(zob_status_text(status));
        return {health.corrected, health.lost};
    }

private:
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

    friend class Rerunner;
};

// What Incremental does, on arrays. Not for several threads at once.
class Rerunner {
public:
    using Ranges = std::vector<std::pair<uint32_t, uint32_t>>;
    using Groups = std::vector<std::tuple<uint32_t, Ranges, Ranges, double, const ChannelPlan *>>;

    Rerunner(const Engine &engine, Bytes golden, Groups groups, size_t budget)
        : engine_(engine), runs_(engine.model_, converted(groups), sized(golden).data(), budget) {}

    Rerunner(const Rerunner &) = delete;
    Rerunner &operator=(const Rerunner &) = delete;

    void put_floats(Floats x) {
        put(reinterpret_cast<const uint8_t *>(x.data()), x.shape(0), x.shape(1), sizeof(float), ZOB_INPUT_FLOAT32);
    }
    void put_pixels(Pixels x) { put(x.data(), x.shape(0), x.shape(1), sizeof(uint8_t), ZOB_INPUT_UINT8); }

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

    static std::vector<Incremental::Range> converted(const Ranges &ranges) {
        std::vector<Incremental::Range> out;
        for (const auto &[first, bytes] : ranges) out.push_back({first, bytes});
        return out;
    }

    static std::vector<Incremental::Group> converted(const Groups &groups) {
        std::vector<Incremental::Group> out;
        for (const auto &[op, live, parameters, work, plan] : groups) {
            out.push_back({op, converted(live), converted(parameters), work, plan ? std::make_unique<Channels>(*plan) : nullptr});
        }
        return out;
    }

    void put(const uint8_t *inputs, size_t n, size_t elements, size_t size, uint32_t format) {
        if (elements != engine_.input_count()) throw nb::value_error("inputs have the wrong shape");
        nb::gil_scoped_release unlocked;
        runs_.put_inputs(inputs, n, elements * size, format);
    }

    const Engine &engine_;
    Incremental runs_;
};

using Slices = std::vector<std::tuple<uint32_t, uint32_t, uint32_t>>;

void make_channel_plan(ChannelPlan *made, Bytes plan, const Slices &slices, uint32_t first_op, uint32_t end_op, uint32_t input,
                       uint32_t output, uint32_t whole_input, uint32_t input_bytes, uint32_t whole_output, uint32_t pixels,
                       uint32_t channels, uint32_t words) {
    std::vector<uint32_t> copy(plan.size() / 4);
    std::copy(plan.data(), plan.data() + 4 * copy.size(), reinterpret_cast<uint8_t *>(copy.data()));
    std::vector<ChannelPlan::Slice> list;
    for (const auto &[source, bits, target] : slices) list.push_back({source, bits, target});
    new (made) ChannelPlan{std::move(copy), std::move(list), first_op, end_op, input, output, whole_input, input_bytes,
                           whole_output, pixels, channels, words};
}

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
        .def("check", &Engine::check, "image"_a);
    nb::class_<ChannelPlan>(m, "ChannelPlan")
        .def("__init__", &make_channel_plan, "plan"_a, "slices"_a, "first_op"_a, "end_op"_a, "input"_a, "output"_a,
             "whole_input"_a, "input_bytes"_a, "whole_output"_a, "pixels"_a, "channels"_a, "words"_a);
    nb::class_<Rerunner>(m, "Rerunner")
        .def(nb::init<const Engine &, Bytes, Rerunner::Groups, size_t>(), "engine"_a, "golden"_a, "groups"_a,
             "budget"_a, nb::keep_alive<1, 2>())
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
