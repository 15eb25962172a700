"""TensorFlow and Larq for the importer and the zoo: the one place that imports them, when it is asked to."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import Any

from zobnn_edge.errors import ModelError, ToolError


def keras() -> tuple[Any, Any]:
    """The modules tensorflow and larq, with Keras 2 behind tf.keras and nothing written to stderr.

    Raises ToolError with the way out when they are not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    if importlib.util.find_spec("tf_keras"):
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    try:
        import larq
        import tensorflow
    except ImportError as error:
        raise ToolError(f"Keras models need TensorFlow and Larq ({error}); pip install 'zobnn-edge[larq]'") from None
    tensorflow.get_logger().setLevel("ERROR")
    logging.getLogger("larq").setLevel("ERROR")
    return tensorflow, larq


def refusal(layer: Any, why: str) -> ModelError:
    """The error of a layer that cannot be imported: its name, its class and the reason with the way out."""
    return ModelError(f"layer {layer.name!r} ({type(layer).__name__}): {why}")
