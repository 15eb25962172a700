"""Fixtures of the conformance tests."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def reproducible_models() -> None:
    """Keras counts layer names from the start, and kernels begin with the same values, in every test."""
    from converters.larq import keras

    tf, _ = keras()
    tf.keras.backend.clear_session()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - Keras draws from NumPy's global generator
    tf.random.set_seed(0)


@pytest.fixture(scope="module")
def larq() -> Any:
    """Larq, TensorFlow and LCE's converter."""
    for package in ("larq", "tensorflow", "larq_compute_engine"):
        pytest.importorskip(package)
    from converters.larq import keras

    return keras()
