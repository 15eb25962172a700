"""Binary convolutions give the reference's bits by every algorithm, in every amount of memory, on every core."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import Author, dyadic_inputs
from zobnn_edge import layout, plan, reference
from zobnn_edge.boards import boards
from zobnn_edge.encoding import Uniform
from zobnn_edge.engine import Engine, fault_set
from zobnn_edge.errors import ModelError
from zobnn_edge.image import ParameterImage
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.operations import Conv
from zobnn_edge.targets import open_target
from zobnn_edge.work import Work, candidates, is_binary_conv, least

CHANNELS = st.sampled_from([1, 4, 15, 16, 17, 31, 32, 33, 48, 64, 100, 200])
TAILS = st.sampled_from(["affine", "sign", "threshold", "extreme", "coded", "steps", "extreme steps"])
COARSE = [
    (1.0, 128),
    (0.3, 100),
    (1 / 3, 0),
    (-(2.0**-8) + 1.0, 200),
    (2.0**-14, -90_000),
    (40.0, 128),
    (1e-30, 3),
    (1e36, 9),
]
EXTREMES = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, 2.0**24, -2.5, 2.5])
ONE_A_CORE = {board.core: name for name, board in sorted(boards().items(), reverse=True) if board.emulator}


def with_work(net: Network, work: Mapping[str, Work]) -> Model:
    """The model of a network whose binary convolutions are computed in a given way."""
    image = ParameterImage.of(net)
    return Model(net, plan.encode(net, image, work), image)


def binary_convs(net: Network) -> list[Conv]:
    return [op for op in net.ops if isinstance(op, Conv) and is_binary_conv(op, net)]


def faulty_images(image: ParameterImage, seed: int) -> list[ParameterImage]:
    rates = (0.0, 1e-3, 2e-2)
    return [
        image.flipped(fault_set(len(image.data), image.ranges(), rate, seed).tolist()) if rate else image
        for rate in rates
    ]


def every_work(net: Network, op: Conv) -> list[Work]:
    """All that is considered, and tables in memory that divides with a rest, or is too little for any."""
    works = candidates(net, op)
    smallest = works[-1].bytes
    odd = [Work("table", max(smallest, w.bytes - 8 * (5 + 13 * i))) for i, w in enumerate(works)]
    return [*works, *odd, Work("table", smallest), Work("table", 1 << 16)]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.tuples(CHANNELS, CHANNELS),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    same=st.booleans(),
    pad_value=st.integers(0, 1),
    groups=st.sampled_from([1, 1, 1, 2, 3]),
    dilation=st.sampled_from([(1, 1), (1, 1), (1, 2), (2, 1), (3, 3)]),
    tail=TAILS,
)
def test_every_algorithm_and_memory(
    seed, size, channels, kernel, stride, same, pad_value, groups, dilation, tail
) -> None:
    """Shapes, strides, paddings, groups, dilations; also under flips, and with thresholds no sum can reach."""
    if not same:
        size = tuple(max(s, (k - 1) * d + 1) for s, k, d in zip(size, kernel, dilation, strict=True))
    inputs = channels[0] if groups == 1 else 32 * groups
    a = Author((*size, inputs), seed).sign()
    padding = "same" if same else "valid"
    a.conv(-(-channels[1] // groups) * groups, kernel, stride, padding, pad_value, "binary", groups, dilation)
    if tail == "affine":
        a.affine()
    elif tail == "sign":
        a.sign().unpack()
    elif tail == "threshold":
        a.threshold(None, 8.0).unpack()
    elif tail == "coded":
        scale, zero_point = COARSE[seed % len(COARSE)]
        a.threshold(Uniform(8, float(np.float32(scale)), zero_point), 8.0).unpack()
    elif tail == "steps":
        a.prelu().affine().clip(-2.0, 3.0).threshold(None, 1.0).unpack()
    elif tail == "extreme steps":
        a.prelu(values=np.resize(EXTREMES, a.shape[2])).affine().sign().unpack()
    else:
        a.threshold(None, values=np.resize(EXTREMES, a.shape[2])).unpack()
    net = a.network()
    x = dyadic_inputs(net, 2)
    images = faulty_images(ParameterImage.of(net), seed)
    expected = [reference.run(net, x, image).view("u4") for image in images]
    (op,) = binary_convs(net)
    for work in every_work(net, op):
        engine = Engine(with_work(net, {op.name: work}).plan)
        for image, scores in zip(images, expected, strict=True):
            np.testing.assert_array_equal(engine.run(image.data, x).view("u4"), scores, str(work))


def test_thresholds_that_decide_at_every_sum() -> None:
    """Whole and half thresholds around every sum of 9 x 5 products: the bit flips exactly where the float does."""
    sums = np.arange(-47, 48) / 2
    a = Author((5, 5, 5), 3).sign().conv(len(sums), 3, padding="same").threshold(None, values=sums).unpack()
    net = a.network()
    x = dyadic_inputs(net, 20)
    (op,) = binary_convs(net)
    for work in candidates(net, op):
        model = with_work(net, {op.name: work})
        np.testing.assert_array_equal(Engine(model.plan).run(model.image.data, x), reference.run(net, x))


def awkward() -> Network:
    """Seven convolutions that have little in common but awkward sizes."""
    a = Author((7, 6, 2), 11).thermometer(17, 20.0)
    a.conv(33, (3, 2), (1, 2), "same", 1).threshold(None, 6.0)  # 34 channels
    a.conv(16, 3, padding="same", dilation=(2, 1)).threshold(8, 6.0)  # odd channels, no padding value
    a.conv(24, 5, padding="same", pad_value=1).sign()  # half a word of channels
    a.conv(64, 1).threshold(8, 2.0)
    a.conv(20, 3, padding="same", groups=2).affine(8).sign()
    a.conv(17, (2, 3), (2, 1), "same").prelu().sign()
    return a.dense(5).affine().network()


@pytest.mark.parametrize(
    ("core", "limit"),
    [
        *((core, 4500) for core in ONE_A_CORE),
        *((core, 0) for core in ("cortex-m0", "cortex-m4")),
        *((core, 20_000) for core in ("cortex-m4", "cortex-m55")),
    ],
)
def test_every_core(core: str, limit: int) -> None:
    """One firmware with awkward convolutions, by counting and in little and more memory, also under flips."""
    model = Model.of(awkward(), limit)
    algorithms = {work.algorithm for work in model.work.values()}
    assert algorithms == ({"count"} if limit == 0 else {"count", "table"})
    assert_core_agrees(core, model)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_every_core_where_size_is_preferred(core: str) -> None:
    """The same by the kernels of least code."""
    model = Model.of(awkward(), prefer="size")
    assert {work.algorithm for work in model.work.values()} == {"count"}
    assert_core_agrees(core, model)


@pytest.mark.parametrize("limit", [6_000, 9_000, 60_000])
@pytest.mark.parametrize(("padding", "pad_value"), [("valid", 0), ("same", 0), ("same", 1)])
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_borders_of_one_kind(core: str, padding: str, pad_value: int, limit: int) -> None:
    """Firmware without other borders: tables of parts of the kernel, band by band, and of all of it at once."""
    a = Author((14, 15, 2), 5).thermometer(24, 20.0)  # 48 channels
    a.conv(48, 3, (2, 1), padding, pad_value).threshold(8, 6.0)
    a.conv(20, 3, padding=padding, pad_value=pad_value).threshold(8, 6.0)
    model = Model.of(a.dense(5).affine().network(), limit)
    first, second, *_ = model.work.values()
    assert (first.algorithm, second.algorithm) == ("table", "table")
    assert_core_agrees(core, model)


def assert_core_agrees(core: str, model: Model) -> None:
    """Scores of an emulated core are the bits of the reference's, also under flips."""
    net = model.network
    pixels = np.random.default_rng(0).integers(0, 256, (3, *net.input_shape), np.uint8)
    with open_target(f"qemu:{ONE_A_CORE[core]}", model) as target:
        target.put_inputs(pixels)
        for seed in range(12):
            image = model.image
            if seed:
                rate = (1e-3, 1e-2)[seed % 2]
                target.inject(rate, seed)
                flips = fault_set(len(image.data), image.ranges(), rate, seed).tolist()
                image = image.flipped(flips)
            expected = reference.run(net, pixels, image)
            np.testing.assert_array_equal(target.run().scores.view("u4"), expected.view("u4"))
            target.restore()


def test_memory_is_traded_for_speed_within_the_limit() -> None:
    """More arena, less work; without a limit the arena grows by no more than a quarter."""
    net = awkward()
    frugal = Model.of(net, 0)
    assert {w.algorithm for w in frugal.work.values()} == {"count"}
    least_bytes, costs = frugal.arena_bytes, []
    for limit in (least_bytes, 2 * least_bytes, 4 * least_bytes, 64 * least_bytes):
        work = layout.choose(net, limit)
        assert layout.lay_out(net, work).arena_bytes <= limit
        costs.append(sum(w.cost for w in work.values()))
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.8 * costs[0]
    assert Model.of(net).arena_bytes <= 1.25 * least_bytes


def test_a_choice_survives_the_file() -> None:
    model = Model.of(awkward(), 20_000)
    again = Model.from_bytes(model.to_bytes())
    assert again.plan == model.plan
    assert again.work == model.work
    assert again.plan != Model.of(awkward()).plan
    small = Model.from_bytes(Model.of(awkward(), prefer="size").to_bytes())
    assert (again.prefer, small.prefer) == ("speed", "size")
    assert small.plan != Model.of(awkward(), 0).plan


def test_plans_that_do_not_fit_are_refused() -> None:
    net = awkward()
    (first, *_) = binary_convs(net)
    work = layout.choose(net)
    with pytest.raises(ModelError, match=f"{first.name}: 0 bytes"):
        layout.lay_out(net, {**work, first.name: Work("table", 0)})
    with pytest.raises(ModelError, match="no way to compute"):
        layout.lay_out(net, {})
    with pytest.raises(ModelError, match="no binary convolution"):
        layout.lay_out(net, {**work, "elsewhere": least(net, first)})


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    bits=st.integers(2, 16),
    scale=st.floats(2.0**-24, 2.0**7, width=32) | st.integers(1, 300).map(lambda n: float(np.float32(1 / n))),
    middle=st.integers(-40, 40) | st.floats(-40, 40, width=32),
)
def test_thresholds_of_codes_of_every_width(seed: int, bits: int, scale: float, middle: float) -> None:
    """Around a middle, whole or not, values lie as close to whole numbers as their scale allows, or closer."""
    zero_point = int(np.clip(np.rint(2.0 ** (bits - 1) - middle / scale), -(2**23), 2**23))
    a = Author((4, 4, 7), seed).sign().conv(35, 3, padding="same", pad_value=0)
    a.threshold(Uniform(bits, scale, zero_point), values=middle + a.rng.normal(size=35) * 2).unpack()
    net = a.network()
    x = dyadic_inputs(net, 3)
    model = Model.of(net, 0)
    engine = Engine(model.plan, "portable")
    for image in faulty_images(model.image, seed):
        np.testing.assert_array_equal(engine.run(image.data, x), reference.run(net, x, image))
