"""TensorFlow Lite's reference kernels, which TensorFlow brings: what an int8 file is to give, bit for bit."""

from __future__ import annotations

import importlib.util

import numpy as np

from converters.keras import keras
from zobnn_edge.encoding import FloatArray, InputArray


def installed() -> bool:
    """Whether TensorFlow can be imported."""
    return importlib.util.find_spec("tensorflow") is not None


def run(blob: bytes, inputs: InputArray) -> FloatArray:
    """Scores (N, outputs) of float32 inputs (N, ...).

    Where the file takes int8, inputs are rounded to it; where it gives int8, scores are what its numbers stand for.
    """
    lite = keras()[0].lite
    kernels = lite.experimental.OpResolverType.BUILTIN_REF
    interpreter = lite.Interpreter(model_content=blob, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    x = np.asarray(inputs, np.float32)
    if source["dtype"] == np.int8:
        scale, zero_point = source["quantization"]
        steps = x / np.float32(scale)
        x = np.clip(np.trunc(steps + np.copysign(np.float32(0.5), steps)) + zero_point, -128, 127).astype(np.int8)
    rows = []
    for one in x:
        interpreter.set_tensor(source["index"], one.reshape(source["shape"]))
        interpreter.invoke()
        rows.append(interpreter.get_tensor(result["index"]).reshape(-1))
    scores = np.array(rows)
    if scores.dtype == np.int8:
        scale, zero_point = result["quantization"]
        scores = (scores.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)
    return np.asarray(scores, np.float32)
