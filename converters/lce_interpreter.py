"""The stock interpreter of Larq Compute Engine, loaded from its shared object without TensorFlow."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.errors import ToolError

_PACKAGE = "larq_compute_engine"


def installed() -> bool:
    """True when larq-compute-engine is there."""
    return importlib.util.find_spec(_PACKAGE) is not None


@cache
def _module(name: str, folder: str, suffix: str) -> ModuleType:
    """A module of the package, by its file: importing the package would import TensorFlow."""
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise ToolError("LCE's interpreter is missing; pip install 'zobnn-edge[larq]'")
    path = Path(package.origin).parent / folder / (name + suffix)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ToolError(f"{path} cannot be loaded; install larq-compute-engine 0.16.0")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schema() -> ModuleType:
    """LCE's own code for the tables of TFLite flatbuffers. Raises ToolError when it is missing."""
    return _module("tflite_schema", "mlir/python", ".py")


class Interpreter:
    """A flatbuffer, loaded: one image at a time, one thread."""

    def __init__(self, blob: bytes, exact: bool = True, fastest: bool = False) -> None:
        """`exact` chooses LCE's reference kernel; else `fastest` chooses the indirect one, with XNNPACK for floats.

        Raises ToolError when the interpreter is missing or refuses the file (the reference kernel refuses zero padding
        with an odd number of channels).
        """
        wrapper = _module("interpreter_wrapper_lite", "tflite/python", ".so")
        threads = 1
        try:
            self._interpreter = wrapper.LiteInterpreter(blob, threads, exact, fastest, fastest)
        except RuntimeError as error:
            raise _refusal(error) from None

    def run(self, inputs: InputArray) -> FloatArray:
        """Scores (N, outputs) of float32 inputs (N, height, width, channels). Raises ToolError when it fails."""
        try:
            rows = [self._interpreter.predict([x[None]])[0].reshape(-1) for x in np.asarray(inputs, np.float32)]
        except RuntimeError as error:
            raise _refusal(error) from None
        return np.array(rows, np.float32)


def _refusal(error: RuntimeError) -> ToolError:
    return ToolError(f"LCE's interpreter refuses the flatbuffer: {str(error).splitlines()[0]}")


def run(blob: bytes, inputs: InputArray, exact: bool = True) -> FloatArray:
    """Scores (N, outputs) of float32 inputs (N, height, width, channels), as `Interpreter(blob, exact)` gives them."""
    return Interpreter(blob, exact).run(inputs)
