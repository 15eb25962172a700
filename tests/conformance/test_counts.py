"""Instructions counted on emulated cores stay what they are, or get fewer: tests/baseline.json holds them.

After a change for the better, or one that is worth its price: `python tools/bench.py --baseline`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import layers, whole
from zobnn_edge import zoo
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.policy import Policy

BASELINE: dict[str, dict[str, int]] = json.loads((Path(__file__).parents[1] / "baseline.json").read_text())
ALLOWED = 1.03
NEEDS_DATA = ("FracBNN", "CNV")


def marks(case: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.needs_data] if case.startswith(NEEDS_DATA) else []


@pytest.mark.parametrize(
    ("core", "case"),
    [pytest.param(core, case, marks=marks(case)) for core, counts in BASELINE.items() for case in counts],
)
def test_no_more_instructions(core: str, case: str) -> None:
    counted = whole.count(case, layers.cores()[core])
    assert counted <= ALLOWED * BASELINE[core][case], f"{counted} instructions; make it faster or the baseline anew"


def assert_hardening_is_free(case: str, core: str, widths: tuple[int, ...] = whole.WIDTHS) -> None:
    wanted = ("float32", *(f"{bits} bits" for bits in widths))
    models = {what: model for what, model in whole.coded(case).items() if what.startswith(wanted)}
    taken = {what: layers.instructions(model, layers.cores()[core]) for what, model in models.items()}
    assert len(taken) > len(widths)
    assert max(taken.values()) == taken["float32"], f"{case}, {core}: {taken}"


@pytest.mark.parametrize(
    ("case", "core", "widths"),
    [
        ("digits", "cortex-m4", (6, 8)),
        ("digits", "cortex-m3", (16,)),
        ("digits", "cortex-m0", (12,)),
        ("SmallCifar", "cortex-m4", (12,)),
        ("SmallCifar", "cortex-m3", (12,)),
        pytest.param("FracBNN", "cortex-m55", (8,), marks=pytest.mark.needs_data),
    ],
)
def test_hardening_is_free(case: str, core: str, widths: tuple[int, ...]) -> None:
    """Codes take no instruction more than float32 parameters."""
    assert_hardening_is_free(case, core, widths)


@pytest.mark.study
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "cortex-m3"])
@pytest.mark.parametrize("case", ["FracBNN", "CNV", "SmallCifar", "cifar10_bnn", "mnist_bnn", "digits"])
def test_hardening_is_free_for_whole_networks(case: str, core: str) -> None:
    """The same of the networks of `make bench`, and of all widths."""
    assert_hardening_is_free(case, core)


@pytest.mark.study
@pytest.mark.needs_data
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("name", ["resnet8", "dscnn"])
def test_hardening_real_networks_to_bytes_is_free(name: str, core: str) -> None:
    """All of their weights are decoded for every inference; that of bytes takes no longer than copying floats."""
    net, board = zoo.load(name), layers.cores()[core]
    taken = [layers.instructions(Model.of(n), board) for n in (net, harden(net, Policy(8)))]
    assert taken[1] <= taken[0], taken


MOST_CODE = 16 << 10
FAST_CODE = {"digits": 13_600, **dict.fromkeys(("SmallCifar", "FracBNN", "CNV", "cifar10_bnn", "mnist_bnn"), MOST_CODE)}
"""Bytes of code, the network aside: what is promised, and what hardened networks take where speed is preferred."""
FAST = {"digits": 600_000, "SmallCifar": 5_000_000, "FracBNN": 25_000_000, "CNV": 12_000_000}
FAST |= {"cifar10_bnn": 10_000_000, "mnist_bnn": 6_000_000}
"""Instructions that these take at most."""


@pytest.mark.parametrize("case", [pytest.param(case, marks=marks(case)) for case in FAST_CODE])
def test_code_beside_the_network(case: str) -> None:
    """Agent, link, injector and the engine's part for a network; what it takes is no less quick."""
    board = layers.cores()["cortex-m4"]
    models = whole.models(case)
    taken = {what: layers.code_bytes(model, board) for what, model in models.items()}
    assert taken["float32"] < MOST_CODE
    assert taken["hardened 8 bit"] < FAST_CODE[case]
    assert taken["hardened 8 bit, small"] < MOST_CODE
    assert layers.instructions(models["hardened 8 bit"], board) < FAST[case]


@pytest.mark.parametrize(("case", "most"), [("digits", 1.2), ("SmallCifar", 1.6)])
def test_small_code_takes_little_more_time(case: str, most: float) -> None:
    board = layers.cores()["cortex-m4"]
    taken = {what: layers.instructions(model, board) for what, model in whole.models(case).items()}
    assert taken["hardened 8 bit"] < taken["hardened 8 bit, small"] < most * taken["hardened 8 bit"]
