"""The stock interpreter of Larq Compute Engine, loaded without TensorFlow."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

INSTALLED = importlib.util.find_spec("larq_compute_engine") is not None


@cache
def _module(name: str, folder: str, suffix: str) -> ModuleType:
    """A module of the package, by its file: importing the package would import TensorFlow."""
    package = importlib.util.find_spec("larq_compute_engine")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / folder / (name + suffix)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schema() -> ModuleType:
    """LCE's own code for the tables of TFLite flatbuffers."""
    return _module("tflite_schema", "mlir/python", ".py")


def run(blob: bytes, inputs: np.ndarray, reference: bool = True) -> np.ndarray:
    """Scores (N, outputs) of inputs (N, height, width, channels); `reference` chooses LCE's exact kernel.

    Raises RuntimeError when the interpreter refuses the file.
    """
    threads, indirect, xnnpack = 1, False, False
    wrapper = _module("interpreter_wrapper_lite", "tflite/python", ".so")
    interpreter = wrapper.LiteInterpreter(blob, threads, reference, indirect, xnnpack)
    outputs = [interpreter.predict([x[None]])[0] for x in np.asarray(inputs, np.float32)]
    return np.array([y.reshape(-1) for y in outputs])
