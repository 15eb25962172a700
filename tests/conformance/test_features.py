"""Firmware is compiled for what its network needs (features): that is enough, also under faults, and zob_load refuses
plans that need more."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest

from tests.networks import NETWORKS, Author, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.boards import firmware_folder
from zobnn_edge.engine import fault_set
from zobnn_edge.features import features, masks
from zobnn_edge.format import KERNELS
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.plan import Preference

ENGINE = firmware_folder() / "engine"
MASKS = """#include <stdint.h>
extern uint32_t built_ops, built_kernels;
#define ZOB_OPS built_ops
#define ZOB_KERNELS built_kernels
"""
INPUT_FLOAT32, OK = 0, 0
QUICKER = {"coded_limits", "coded_scales", *(f"codes_{bits}" for bits in (4, 6, 8, 12, 16))}
"""Features without which an engine does the same in another way."""


@dataclass(frozen=True)
class Engine:
    """The portable engine, compiled once: two variables say what it is built for."""

    compiled: ctypes.CDLL

    def load(self, model: Model, wanted: frozenset[str]) -> tuple[int, ctypes.Array[ctypes.c_void_p]]:
        """The status, and what is loaded of a plan, whose bytes must stay."""
        for name, mask in zip(("built_ops", "built_kernels"), masks(wanted), strict=True):
            ctypes.c_uint32.in_dll(self.compiled, name).value = mask
        opened = (ctypes.c_void_p * 4)()
        return self.compiled.zob_load(opened, model.plan, len(model.plan), None), opened

    def run(self, model: Model, wanted: frozenset[str], image: bytes, x: np.ndarray) -> np.ndarray:
        status, opened = self.load(model, wanted)
        assert status == OK
        arena, scores = np.zeros(model.arena_bytes // 8 + 1), np.zeros((len(x), model.network.outputs), np.float32)
        for one, made in zip(np.ascontiguousarray(x, np.float32), scores, strict=True):
            into, work, out = (ctypes.c_void_p(a.ctypes.data) for a in (one, arena, made))
            assert self.compiled.zob_run(opened, image, len(image), into, INPUT_FLOAT32, work, arena.nbytes, out) == OK
        return scores


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("features")
    (folder / "masks.h").write_text(MASKS)
    (folder / "masks.c").write_text("#include <stdint.h>\nuint32_t built_ops, built_kernels;\n")
    flags = ["-std=c99", "-O1", "-fPIC", "-shared", "-ffp-contract=off", f"-I{ENGINE}", "-include", "masks.h"]
    subprocess.run(["gcc", *flags, *ENGINE.glob("*.c"), "masks.c", "-o", "engine.so"], cwd=folder, check=True)
    return Engine(ctypes.CDLL(str(folder / "engine.so")))


def wide(pad_value: int = 0) -> Network:
    """Tables of whole words, whose sums are decided, and wanted."""
    a = Author((18, 17, 3), 4).conv(48, 3, weight=None).affine().sign().conv(64, 3, padding="same", pad_value=pad_value)
    return a.sign().conv(40, 3, 2, "same", pad_value).affine().prelu().global_pool().dense(5, None).network()


WIDE = {
    f"wide-{pad}-{room}": (lambda pad=pad: wide(pad), room)
    for pad in (0, 1)
    for room in (9_000, 15_000, 20_000, 40_000)
}
"""With memory for no tables, for some, for parts of the kernel, for all of it."""
CASES = {**{name: (make, None) for name, make in NETWORKS.items()}, **WIDE}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest, prefer: Preference) -> Model:
    make, room = CASES[request.param]
    return Model.of(make(), room, prefer=prefer)


@pytest.fixture(params=get_args(Preference))
def prefer(request: pytest.FixtureRequest) -> Preference:
    found: Preference = request.param
    return found


def test_features_are_enough(engine: Engine, model: Model) -> None:
    """Of an engine that has nothing else, as it is and with faults in the image."""
    wanted, x = features(model), dyadic_inputs(model.network, 2)
    image = model.image
    for seed, rate in enumerate((0.0, 1e-3, 1e-1)):
        flips = fault_set(len(image.data), image.ranges(), rate, seed)
        faulted = image.flipped(flips.tolist())
        expected = reference.run(model.network, x, faulted)
        np.testing.assert_array_equal(engine.run(model, wanted, faulted.data, x).view("u4"), expected.view("u4"))


def test_without_a_feature_a_plan_is_refused(engine: Engine, model: Model) -> None:
    """But for those that only make it quicker."""
    wanted = features(model)
    assert engine.load(model, wanted)[0] == OK
    for feature in wanted & set(KERNELS) - QUICKER:
        assert engine.load(model, wanted - {feature})[0] != OK, feature


def test_tables_with_room_do_without_counting() -> None:
    assert "count" not in features(Model.of(wide(), 20_000))
    assert "count" in features(Model.of(wide(), 9_000))
