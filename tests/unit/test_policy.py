"""Policies: which parameter gets which code; what is written is read back; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import Author, dyadic_inputs, real, residual
from zobnn_edge import policy as policies
from zobnn_edge import ranges, reference
from zobnn_edge.encoding import Float32, Uniform
from zobnn_edge.errors import InputError
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.operations import Conv
from zobnn_edge.policy import Coding, Policy

VALUES = st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=40).map(lambda v: np.array(v, np.float32))
CODINGS = st.builds(
    Coding,
    bits=st.integers(2, 16),
    range=st.sampled_from(policies.CHOICES["range"]),
    codes=st.sampled_from(policies.CHOICES["codes"]),
    percentile=st.floats(50, 100),
    fault_rate=st.sampled_from([0.0, 1e-4, 1e-2]),
)


def small() -> Network:
    """First and last layer real, one binary between them."""
    a = Author((5, 5, 3), 3).conv(8, 3, weight=None).affine().sign().conv(8, 3).affine().prelu()
    return a.dense(4, weight=None).affine().network()


@settings(max_examples=60, deadline=None)
@given(values=VALUES, coding=CODINGS)
def test_every_range_gives_a_code_of_what_was_asked_for(values: np.ndarray, coding: Coding) -> None:
    code = ranges.choose(values, coding)
    assert code.bits == coding.bits
    low, high = code.range
    reach = max(abs(float(values.min())), abs(float(values.max())), 1e-20)
    assert high - low <= 4.1 * reach + 1e-20
    if coding.codes == "symmetric":
        assert code.zero_point == 1 << (coding.bits - 1)
    if coding.range == "power":
        assert np.frexp(code.scale)[0] == 0.5
    if coding.range in ("minmax", "power"):
        off = np.abs(code.decode(code.encode(values)).astype(np.float64) - values).max()
        assert off <= code.scale * 1.01 + 1e-6 * reach


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rate=st.sampled_from([1e-4, 1e-3, 1e-2, 0.1]), bits=st.integers(4, 12))
def test_least_damage_is_what_flips_do(seed: int, rate: float, bits: int) -> None:
    """No other range does less harm, by its own measure; and that is the mean of what random flips really do."""
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=60) ** 3).astype(np.float32)
    coding = Coding(bits, "damage", fault_rate=rate)
    chosen = ranges.choose(values, coding)
    for other in ("minmax", "error"):
        rival = ranges.choose(values, Coding(bits, other, fault_rate=rate))
        assert ranges.damage(values, chosen, coding) <= ranges.damage(values, rival, coding)
    if rate < 1e-2:
        return  # too few flips to compare with
    codes = np.tile(chosen.encode(values), (3000, 1))
    flips = rng.random((*codes.shape, bits)) < rate
    hit = codes ^ (flips * (1 << np.arange(bits))).sum(-1).astype(np.uint32)
    flipped = np.square(chosen.decode(hit).astype(np.float64) - chosen.decode(codes)).sum(1).mean()
    expected = ranges.damage(values, chosen, coding) - ranges.squared_error(values, chosen)
    assert flipped == pytest.approx(expected, rel=0.2)


def test_rules_choose_by_layer_role_type_and_place_and_the_last_word_counts() -> None:
    text = """
    bits = 8
    [[rules]]
    types = ["L"]
    bits = 6
    [[rules]]
    place = ["last"]
    bits = 12
    [[rules]]
    roles = ["slope", "bias"]
    encoding = "float32"
    [[rules]]
    layers = ["affine5*"]
    roles = ["bias"]
    encoding = "uniform"
    bits = 3
    """
    net = small()
    hardened = harden(net, Policy.parse(text))
    convs = [op for op in hardened.ops if isinstance(op, Conv)]
    assert hardened.parameters[convs[0].weight].encoding.bits == 6
    assert hardened.parameters[convs[-1].weight].encoding.bits == 12
    kinds = {p.name: p.encoding for p in hardened.parameters.values()}
    assert kinds["prelu6/slope"] == Float32()
    assert kinds["affine8/bias"] == Float32()
    assert kinds["affine5/bias"].bits == 3
    assert kinds["affine5/scale"].bits == 8


@pytest.mark.parametrize("net", [residual(3), real(3, None), small()], ids=["residual", "real", "small"])
def test_what_stays_float32_keeps_its_scores(net: Network) -> None:
    """Scores of thresholds folded exactly; with coded weights only, float32 scales behind them take up their steps."""
    x = dyadic_inputs(net, 20)
    kept = harden(net, Policy(encoding="float32", byte_inputs=False))
    assert not any(isinstance(p.encoding, Uniform) for p in kept.parameters.values())
    np.testing.assert_array_equal(reference.run(kept, x), reference.run(net, x))
    weights = Policy.parse('bits = 16\nencoding = "float32"\n[[rules]]\ntypes = ["L"]\nencoding = "uniform"')
    np.testing.assert_allclose(reference.run(harden(net, weights), x), reference.run(net, x), atol=5e-3)


@settings(max_examples=50, deadline=None)
@given(
    bits=st.integers(2, 16),
    range=st.sampled_from(policies.CHOICES["range"]),
    rate=st.floats(0, 0.5),
    layer=st.text(min_size=1, max_size=8).filter(str.isprintable),
    rules=st.lists(
        st.fixed_dictionaries({"bits": st.integers(2, 16)}, optional={"codes": st.just("symmetric")}), max_size=3
    ),
)
def test_policies_are_read_back_as_they_were_written(bits, range, rate, layer, rules) -> None:
    where = policies.Selection(layers=(layer,), roles=("bias",))
    made = Policy(bits, range, fault_rate=rate, rules=tuple(policies.Rule(where, tuple(r.items())) for r in rules))
    assert Policy.parse(made.text()) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bitz = 8", "p.toml: there is no key 'bitz'; there are bits, range,"),
        ("bits = 'eight'", "p.toml: bits = 'eight' must be a whole number"),
        ("bits = true", "bits = True must be a whole number"),
        ("bits = 17", "codes of 17 bits; a code has 2 to 16"),
        ("[[rules]]\nrole = ['bias']", "p.toml: rule 1: there is no key 'role'; there are layers, roles"),
        ("[[rules]]\nroles = ['bais']", "rule 1: roles = .'bais'.: there are weight, scale, bias, slope and threshold"),
        ("[[rules]]\nbits = 4\n[[rules]]\nbits = 1", "rule 2: codes of 1 bits"),
        ("[rules]\nbits = 4", "rules are written"),
        ("bits = ", "p.toml: Invalid value"),
        ("percentile = 0", "percentile = 0; it must be above 0"),
        ("fault_rate = 1", "fault_rate = 1; it must be"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Policy.parse(text, "p.toml")


def test_layers_that_there_are_not_are_named() -> None:
    policy = Policy.parse('[[rules]]\nlayers = ["conv*"]\nbits = 4\n[[rules]]\nlayers = ["dense9"]\nbits = 4')
    with pytest.raises(InputError, match="policy, rule 2: there is no layer dense9; there are conv1, affine2"):
        harden(small(), policy)


@pytest.mark.parametrize("name", policies.shipped())
def test_shipped_policies_harden_any_network(name: str) -> None:
    policy = policies.load(name)
    hardened = harden(small(), policy)
    for p in hardened.parameters.values():
        assert p.type == "binary" or p.encoding.bits == policy.coding(p).bits
    if name == "best12":
        regions = Model.of(hardened).image.regions
        assert all(r.bits <= 12 * r.count for r in regions if r.type != "binary")


def test_a_policy_that_is_no_file_and_not_shipped_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no policy stronger; give a"):
        policies.load("stronger")
    with pytest.raises(InputError, match="none"):
        policies.load(str(tmp_path / "none.toml"))
