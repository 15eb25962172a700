"""What the variants cost: bytes, and instructions of an inference on emulated cores."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from tools.study.campaigns import FOLDER
from tools.study.variants import FRACBNN, VARIANTS
from zobnn_edge import datasets, zoo
from zobnn_edge.files import write_atomic
from zobnn_edge.targets import open_target

CORES = {"M4": "mps2-an386", "M3": "mps2-an385", "M7": "mps2-an500"}
"""Where FracBNN is counted; conventional networks, whose float32 takes minutes without a float unit, on M4 alone."""
_PATH = FOLDER / "costs.json"


@dataclass(frozen=True)
class Cost:
    """Bytes of all parameters; bits of the real ones alone; instructions by core."""

    bytes: int
    real_bits: int
    instructions: dict[str, int]


def measure(name: str) -> Cost:
    """Run one image on each core."""
    model = VARIANTS[name].model()
    counts = {}
    for core, board in CORES.items():
        if core != "M4" and VARIANTS[name].network != FRACBNN:
            continue
        with open_target(f"qemu:{board}", model) as target:
            target.put_inputs(datasets.load("cifar10", limit=1).x)
            counts[core] = target.run().instructions or 0
    real = sum(region.bits for region in model.image.regions if region.type != "binary")
    return Cost(len(model.image.data), real, counts)


def measure_all(names: list[str]) -> None:
    """Measure what is not yet on record."""
    known = {name: asdict(cost) for name, cost in read().items()}
    for name in names:
        if name not in known:
            known[name] = asdict(measure(name))
            write_atomic(_PATH, json.dumps(known, indent=1))


def published_bytes() -> int:
    """Bytes of all parameters of FracBNN as it was published, batch norm folded to scale and bias, the other real ones
    as float32, and the binary weights as they are stored here. Import merges shifts, so that it stores fewer."""
    reals = 0
    for layer in zoo.keras_model(FRACBNN).layers:
        if type(layer).__name__ == "BatchNormalization":
            reals += 2 * layer.output_shape[-1]
        else:
            binary = getattr(layer, "kernel_quantizer", None) is not None
            reals += layer.count_params() - (int(np.prod(layer.kernel.shape)) if binary else 0)
    image = VARIANTS["float32"].model().image
    return sum(region.bits for region in image.regions if region.type == "binary") // 8 + 4 * reals


def read() -> dict[str, Cost]:
    """What was measured."""
    return {name: Cost(**fields) for name, fields in json.loads(_PATH.read_text()).items()} if _PATH.exists() else {}
