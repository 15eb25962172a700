"""The engine's C under address and undefined-behaviour sanitizers: every operation, every protection, with faults."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.conformance.test_protection import POLICIES, net_of
from tests.networks import NETWORKS, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.boards import firmware_folder
from zobnn_edge.engine import fault_set
from zobnn_edge.format import INPUT_FORMATS, OP, OPCODES, PLAN_HEADER
from zobnn_edge.harden import harden
from zobnn_edge.image import ParameterImage
from zobnn_edge.model_file import Model

ENGINE = firmware_folder() / "engine"
DRIVER = Path(__file__).with_name("sanitized.c")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = ["-std=c99", "-O1", "-g", "-ffp-contract=off", *SANITIZERS, f"-I{ENGINE}"]
INPUTS, RATES = 2, (1e-3, 1e-2)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the engine's object files."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("sanitized")
    subprocess.run(["gcc", *FLAGS, "-c", *ENGINE.glob("*.c"), DRIVER], cwd=folder, check=True)
    return folder


@cache
def models() -> list[Model]:
    protected = [harden(net_of(2), policy) for policy in POLICIES.values()]
    return [Model.of(net) for net in [*(make() for make in NETWORKS.values()), *protected]]


def jobs(model: Model) -> Iterator[tuple[np.ndarray, ParameterImage]]:
    """Inputs and images: floats and pixels, without and with faults."""
    x = dyadic_inputs(model.network, INPUTS)
    pixels = np.random.default_rng(1).integers(0, 256, x.shape, np.uint8)
    yield x, model.image
    yield pixels, model.image
    for seed, rate in enumerate(RATES):
        flips = fault_set(len(model.image.data), model.image.ranges(), rate, seed)
        yield pixels, model.image.flipped(flips.tolist())


def written(model: Model, x: np.ndarray, image: ParameterImage) -> bytes:
    kind = INPUT_FORMATS["float32" if x.dtype == np.float32 else "uint8"]
    record = struct.pack("<4I", len(model.plan), len(image.data), len(x), kind)
    return record + model.plan + image.data + x.tobytes()


def run(program: Path, data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program], input=data, capture_output=True, check=False)


def link(objects: Path, name: str) -> Path:
    program = objects / name
    subprocess.run(["gcc", *SANITIZERS, *sorted(objects.glob("*.o")), "-o", program], check=True)
    return program


def test_every_operation_stays_in_its_bounds_and_gives_the_bits_of_the_reference(objects: Path) -> None:
    todo = [(model, x, image) for model in models() for x, image in jobs(model)]
    outcome = run(link(objects, "engine"), b"".join(written(*job) for job in todo))
    assert outcome.returncode == 0, outcome.stderr.decode()[-3000:]
    given, at = outcome.stdout, 0
    for model, x, image in todo:
        expected = reference.run(model.network, x, image)
        at += 8  # corrected and lost
        assert given[at : at + expected.nbytes] == expected.astype("<f4").tobytes(), model.network.name
        at += expected.nbytes
    assert at == len(given)


def test_the_networks_have_every_operation() -> None:
    done = set()
    for model in models():
        header = PLAN_HEADER.unpack(model.plan)
        first = header["plan_bytes"] - header["ops"] * OP.size
        for at in range(first, header["plan_bytes"], OP.size):
            done.add(OP.unpack(model.plan, at)["opcode"])
    assert done == set(OPCODES.values())


def test_a_byte_too_many_is_noticed(objects: Path) -> None:
    """An image one byte shorter than the engine is told."""
    model = Model.of(NETWORKS["thresholds-float32"]())
    text = DRIVER.read_text()
    short = "*image = take(job.image_bytes)"
    assert text.count(short) == 1
    (objects / "short.c").write_text(text.replace(short, "*image = take(job.image_bytes - 1u)"))
    others = [file for file in sorted(objects.glob("*.o")) if file.stem != DRIVER.stem]
    program = objects / "short"
    subprocess.run(["gcc", *FLAGS, objects / "short.c", *others, "-o", program], check=True)
    outcome = run(program, written(model, dyadic_inputs(model.network, 1), model.image))
    assert outcome.returncode != 0
    assert b"heap-buffer-overflow" in outcome.stderr
