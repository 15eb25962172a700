"""Targets that the contract tests share: each is opened once, and put back as it was before every test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.networks import Author, dyadic_inputs
from zobnn_edge.boards import boards
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.targets import Target, open_target
from zobnn_edge.targets.process import ProcessTarget

EMULATED = [f"qemu:{name}" for name, board in boards().items() if board.emulator]
PROCESSES = ["native", *EMULATED]
SANITIZED = "native sanitized"
"""The native board, built with the address and undefined-behaviour sanitizers."""

TARGETS = ["host", SANITIZED, *PROCESSES, "gdb:mps2-an386"]
MAIN = "qemu:mps2-an386"
"""The board of tests that need one only."""

SMALL = "qemu:microbit"
"""A board with little RAM, short frames and the smallest core."""

os.environ["CFLAGS"] = "-Werror"  # every firmware that a test builds is built without a warning


def _others_are_studies(specs: list[str], chosen: set[str]) -> list[object]:
    """All of them; those not chosen only in `make study`."""
    return [spec if spec in chosen else pytest.param(spec, marks=pytest.mark.study) for spec in specs]


FEW = _others_are_studies(PROCESSES, {"native", MAIN, SMALL})
"""For what is the same code on every board: a process, a board, a small board; the others are studies."""

_SANITIZERS = "-Werror -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"

_FIRST_OF_CORE = {boards()[spec.removeprefix("qemu:")].core: spec for spec in reversed(EMULATED)}
EVERY_CORE = _others_are_studies(EMULATED, set(_FIRST_OF_CORE.values()))
"""For what depends on the core: a board of each; the others are studies."""


def wide() -> Network:
    """More scores than a reply holds, and more parameters than an INJECT has ranges."""
    a = Author((1, 1, 4))
    for _ in range(20):
        a.affine(8)
    return a.dense(300).network()


def small() -> Network:
    """A network of every part that fits 8 KB of RAM beside the firmware."""
    a = Author((6, 6, 2), 2)
    a.conv(32, 3, padding="same", weight=8).threshold(8, 2.0).conv(32, 2, 2, "same", 0).affine(8).sign()
    return a.dense(10).affine(8).network()


@pytest.fixture(scope="session")
def model() -> Model:
    return Model.of(small())


@pytest.fixture(scope="session")
def inputs(model: Model) -> np.ndarray:
    return dyadic_inputs(model.network, 4)


def _shared(spec: str, model: Model, inputs: np.ndarray) -> Iterator[Target]:
    with pytest.MonkeyPatch.context() as patch:
        if spec == SANITIZED:
            patch.setenv("CFLAGS", _SANITIZERS)
            patch.setenv("ASAN_OPTIONS", "detect_leaks=0")
        target = open_target(spec.split()[0], model)
    with target:
        if spec == SANITIZED:
            assert isinstance(target, ProcessTarget)
            assert "libasan" in Path(f"/proc/{target.pid}/maps").read_text()
        target.put_inputs(inputs)
        yield target


@pytest.fixture(scope="session", params=TARGETS)
def _any_target(request: pytest.FixtureRequest, model: Model, inputs: np.ndarray) -> Iterator[Target]:
    yield from _shared(request.param, model, inputs)


@pytest.fixture(scope="session", params=[SANITIZED, *FEW])
def _any_board(request: pytest.FixtureRequest, model: Model, inputs: np.ndarray) -> Iterator[Target]:
    yield from _shared(request.param, model, inputs)


@pytest.fixture
def target(_any_target: Target) -> Target:
    """Every target, holding `model` with no bit flipped."""
    _any_target.restore()
    return _any_target


@pytest.fixture
def board(_any_board: ProcessTarget) -> ProcessTarget:
    """A board that runs on this machine, holding `model` with no bit flipped."""
    _any_board.restore()
    return _any_board


@pytest.fixture
def host(model: Model, inputs: np.ndarray) -> Target:
    target = open_target("host", model)
    target.put_inputs(inputs)
    return target
