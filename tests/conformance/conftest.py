"""Fixtures of the conformance tests."""

from __future__ import annotations

import random

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
