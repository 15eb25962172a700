"""Protected parameters mean the same in the engine, in the reference, in the file, in the header and on boards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import lce, lce_interpreter
from converters.c_header import c_header
from tests.networks import DYADIC, Author, bytes_in, dyadic_inputs
from tests.unit.test_c_header import loaded
from zobnn_edge import reference
from zobnn_edge.engine import Engine, fault_set, instruction_sets
from zobnn_edge.errors import InputError, ModelError
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.policy import Policy
from zobnn_edge.targets import open_target
from zobnn_edge.targets.host import HostTarget

POLICIES = {
    "hamming": Policy(protection="hamming"),
    "voted": Policy(6, protection="voted:3"),
    "triple": Policy(16, protection="voted:16"),
    "secded": Policy(5, protection="secded"),
    "ram": Policy(scales="ram"),
    "tmr": Policy(12, scales="tmr", protection="secded"),
    "float16": Policy(encoding="float16"),
    "float16 secded": Policy(encoding="float16", protection="secded"),
    "guarded": Policy(encoding="guarded"),
    "clamped": Policy(encoding="clamped"),
    "float32 secded": Policy(encoding="float32", protection="secded"),
    "float32 triple": Policy(encoding="float32", protection="voted:32"),
    "clamped voted": Policy(encoding="clamped", protection="voted:9"),
}


def net_of(seed: int, channels: int = 9) -> Network:
    """Every kind of real parameter: first and last weights, affine, slopes, thresholds before and after a gate."""
    a = Author((5, 5, 3), seed, DYADIC).conv(channels, 3, weight=None).affine().sign()
    a.conv(34, 2).affine().prelu().sign().conv(5, 1).affine(spread=3.0).sign()
    return a.unpack().dense(4, weight=None).affine().network()


def assert_same(net: Network, rates: tuple[float, ...] = (1e-2, 0.3), n: int = 2) -> None:
    """Vector program, portable engine and reference give the same bits and health, with and without flips."""
    model = Model.of(net)
    engines = [Engine(model.plan, name) for name in dict.fromkeys((instruction_sets()[0], "portable"))]
    x = dyadic_inputs(net, n)
    pixels = np.random.default_rng(1).integers(0, 256, x.shape, np.uint8)
    for seed, rate in enumerate((0.0, *rates)):
        flips = fault_set(len(model.image.data), model.image.ranges(), rate, seed)
        image = model.image.flipped(flips.tolist())
        for inputs in (x, pixels):
            expected = reference.run(net, inputs, image)
            for engine in engines:
                assert engine.run(image.data, inputs).tobytes() == expected.tobytes(), (rate, engine.instructions)
        assert engines[0].check(image.data) == image.health


@pytest.mark.parametrize("name", POLICIES)
def test_engine_and_reference_agree(name: str) -> None:
    assert_same(harden(net_of(3), POLICIES[name]))
    assert_same(harden(net_of(4), replace_bytes(POLICIES[name])))


def replace_bytes(policy: Policy) -> Policy:
    return Policy(**{**{k: getattr(policy, k) for k in policy.__dataclass_fields__}, "byte_inputs": False})


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    channels=st.sampled_from([1, 5, 32, 33]),
    bits=st.integers(2, 16),
    protection=st.sampled_from(["none", "secded", "voted"]),
    top=st.integers(1, 16),
    scales=st.sampled_from(["flash", "ram", "tmr"]),
    rate=st.floats(0, 0.5, exclude_max=True),
)
def test_codes_of_any_kind_under_any_rate(seed, channels, bits, protection, top, scales, rate) -> None:
    by = f"voted:{min(top, bits)}" if protection == "voted" else protection
    net = harden(net_of(seed, channels), Policy(bits, "minmax", scales=scales, protection=by))
    assert_same(net, (rate,))


@pytest.mark.parametrize("name", ["hamming", "voted", "secded", "triple"])
def test_protected_weights_over_bytes(name: str) -> None:
    """A first layer in integers reads corrected codes; its decisions are those of the reference."""
    net = harden(bytes_in(8), POLICIES[name])
    assert net.tensors[net.input].kind == "int8" or name == "triple"
    assert_same(net)


@pytest.mark.parametrize("name", POLICIES)
def test_file_and_header_hold_what_the_engine_reads(name: str, tmp_path: Path) -> None:
    model = Model.of(harden(net_of(5), POLICIES[name]))
    again = Model.from_bytes(model.to_bytes())
    assert (again.image.data, again.plan) == (model.image.data, model.plan)
    assert [r.encoding for r in again.image.regions] == [r.encoding for r in model.image.regions]
    contents = loaded(c_header(model), tmp_path)
    assert (contents("image"), contents("plan")) == (model.image.data, model.plan)


@pytest.mark.parametrize("name", POLICIES)
def test_incremental_runs_agree(name: str) -> None:
    """Only what a flip reaches is computed again; the same bits."""
    model = Model.of(harden(net_of(6), POLICIES[name]))
    engine, x = Engine(model.plan), dyadic_inputs(model.network, 3)
    with HostTarget(model) as target:
        target.put_inputs(x)
        target.expect_many_runs()
        for seed in range(12):
            bits = fault_set(len(model.image.data), model.image.ranges(), 2e-3, seed)
            target.invert(bits)
            expected = engine.run(model.image.flipped(bits.tolist()).data, x)
            result = target.run()
            assert result.scores.tobytes() == expected.tobytes()
            assert result.health == model.image.flipped(bits.tolist()).health
            target.restore()


def test_every_bit_has_a_place_and_every_place_its_bit() -> None:
    for policy in POLICIES.values():
        image = Model.of(harden(net_of(7), policy)).image
        for region in image.regions:
            for address in range(region.first_bit, region.first_bit + region.bits, 7):
                at = image.locate(address)
                assert at.region == region
                if at.index is not None:
                    assert at.bit is not None
                    assert image.address(region.name, at.index, at.bit) == address


@pytest.mark.parametrize("board", ["mps2-an386", "microbit"])
def test_emulated_boards_agree(board: str) -> None:
    """A Cortex-M4 and a Cortex-M0: scores, and how many cells were put right or lost."""
    a = Author((4, 4, 2), 9, DYADIC).conv(8, 3, weight=None).affine().sign().conv(6, 2).affine().prelu()
    net = a.dense(3, weight=None).affine().network()
    rules = [
        ('layers = ["conv1"]', 'protection = "hamming"'),
        ('layers = ["affine2"]', 'protection = "voted:4"\nscales = "tmr"'),
        ('layers = ["affine5"]\nroles = ["scale"]', 'encoding = "float16"'),
        ('layers = ["affine5"]\nroles = ["bias"]', 'encoding = "guarded"\nprotection = "secded"'),
        ('layers = ["prelu6"]', 'encoding = "clamped"'),
        ('layers = ["conv7"]', 'protection = "secded"\nbits = 12'),
        ('layers = ["affine8"]', 'scales = "ram"\nbits = 11\nprotection = "voted:11"'),
    ]
    text = "".join(f"[[rules]]\n{where}\n{what}\n" for where, what in rules)
    model = Model.of(harden(net, Policy.parse(text)))
    x = dyadic_inputs(net, 3)
    with open_target(f"qemu:{board}", model) as target:
        target.put_inputs(x)
        for seed, rate in enumerate((0.0, 1e-3, 0.02)):
            target.restore()
            flips = target.inject(rate, seed)
            hit = fault_set(len(model.image.data), model.image.ranges(), rate, seed)
            assert flips == len(hit)
            image = model.image.flipped(hit.tolist())
            result = target.run()
            assert result.scores.tobytes() == reference.run(model.network, x, image).tobytes()
            assert result.health == image.health


def test_a_flatbuffer_stores_float16_and_refuses_the_rest_by_name() -> None:
    a = Author((3, 3, 4), 1).sign().conv(6, 2).affine()
    net = a.network()
    halves = harden(net, Policy(encoding="float16"))
    x = dyadic_inputs(net, 10)
    np.testing.assert_array_equal(
        lce_interpreter.run(lce.write(halves), x).reshape(10, -1), reference.run(halves, x).reshape(10, -1)
    )
    for name in ("hamming", "ram", "clamped", "guarded", "secded"):
        with pytest.raises(ModelError, match=r"affine3/scale: a TFLite flatbuffer has no place for .*; export the C"):
            lce.write(harden(net, POLICIES[name]))


def test_impossible_pairs_are_named() -> None:
    with pytest.raises(InputError, match="conv1/weight: Hamming cells hold codes of 8 bits, not 6; give it another"):
        harden(net_of(1), Policy(6, protection="hamming"))
