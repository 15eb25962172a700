"""Running a network again and again with few parameters changed: only what a change can reach is computed anew.

The C++ side (firmware/host/incremental.hpp) keeps what the fault-free run held between stages, and compares bytes.
"""

from __future__ import annotations

import numpy as np

from zobnn_edge import _engine
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.engine import chosen_instructions
from zobnn_edge.format import INPUT_FORMATS
from zobnn_edge.model_file import Model

BUDGET = 1 << 29
"""Bytes that one Incremental keeps at most."""


class Incremental:
    """A model, its fault-free image, and inputs. Scores are bit-identical to those of `engine.Engine`."""

    def __init__(
        self,
        model: Model,
        inputs: InputArray,
        budget: int = BUDGET,
        instructions: str | None = None,
        *,
        by_blocks: bool = True,
        leave: bool = True,
    ) -> None:
        """Run the inputs, (N, elements) float32 or uint8, without faults and keep what is between the stages.

        `instructions`: see `engine.chosen_instructions`. What can be left out, to see what it is worth: `by_blocks`, of
        the first stage with other parameters only the channels that changed are computed; `leave`, inputs whose
        activations are all as without faults are done with.
        """
        self._shape = (len(inputs), model.network.outputs)
        engine = _engine.Engine(np.frombuffer(model.plan, np.uint8), chosen_instructions(instructions))
        golden, code = np.frombuffer(model.image.data, np.uint8), INPUT_FORMATS[inputs.dtype.name]
        self._rerunner = _engine.Rerunner(engine, golden, code, budget, by_blocks, leave)
        put = self._rerunner.put_floats if inputs.dtype == np.float32 else self._rerunner.put_pixels
        put(np.ascontiguousarray(inputs))

    def run(self, image: bytes | bytearray) -> tuple[FloatArray, float]:
        """Scores (N, outputs) with the parameters in `image`, and the share of a whole run's work that it took."""
        scores = np.empty(self._shape, np.float32)
        work = self._rerunner.run(np.frombuffer(image, np.uint8), scores)
        return scores, work / max(self._rerunner.plain_work, 1.0)
