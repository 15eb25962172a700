"""Binding of the C engine: checks, shapes and errors around `zobnn_edge._engine`."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from zobnn_edge import _engine
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.errors import InputError, ModelError
from zobnn_edge.protection import Health

Image = bytes | bytearray | memoryview


def instruction_sets() -> list[str]:
    """What the engine can run on this processor, the fastest first; the last, "portable", is the firmware's own C."""
    return _engine.instruction_sets()


def chosen_instructions(wanted: str | None = None) -> str:
    """One of `instruction_sets()`: the one wanted, or else what the environment's ZOBNN_INSTRUCTIONS says, or else the
    fastest. Raises InputError when the processor has no such instructions."""
    wanted = wanted or os.environ.get("ZOBNN_INSTRUCTIONS") or instruction_sets()[0]
    if wanted not in instruction_sets():
        raise InputError(f"instructions {wanted!r}: this processor runs {', '.join(instruction_sets())}")
    return wanted


class Engine:
    """A plan, checked and ready. One engine may be used from several threads at once; runs release the GIL.

    Scores do not depend on instructions, threads or on what else is in a batch.
    """

    def __init__(self, plan: bytes, instructions: str | None = None) -> None:
        """Check the plan.

        `instructions`: see `chosen_instructions`, whose InputError it raises; ModelError with the engine's reason when
        it refuses the plan.
        """
        wanted = chosen_instructions(instructions)
        try:
            self._engine = _engine.Engine(np.frombuffer(plan, np.uint8), wanted)
        except ValueError as error:
            raise ModelError(f"the engine refuses the plan: {error}") from None

    @property
    def instructions(self) -> str:
        """What runs: "portable" also where the plan has operations that the vector kernels do not know."""
        return self._engine.instructions

    @property
    def arena_bytes(self) -> int:
        """Bytes of working memory of one inference."""
        return self._engine.arena_bytes

    def run(self, image: Image, inputs: InputArray, threads: int | None = None) -> FloatArray:
        """Scores (N, outputs) of `inputs`, (N, ...) float32 or uint8, with the parameters in `image`.

        `threads`: how many to share the inputs among; by default one for each core this process may use. Raises
        InputError when the image or the inputs have the wrong size.
        """
        if threads is not None and threads < 1:
            raise InputError(f"{threads} threads; it takes at least 1")
        x = np.asarray(inputs)
        e = self._engine
        if len(image) != e.image_bytes:
            raise InputError(f"an image of {len(image)} bytes; the plan wants {e.image_bytes}")
        flat, scores = self._arrays(x)
        run = e.run_floats if x.dtype == np.float32 else e.run_pixels
        run(np.frombuffer(image, np.uint8), flat, scores, threads or len(os.sched_getaffinity(0)))
        return scores

    def run_stopped(
        self, before: Image, after: Image, inputs: InputArray, op: int, arena_bits: NDArray[np.int64]
    ) -> FloatArray:
        """Scores (N, outputs) of inputs run one after the other, each stopped when operation number `op` begins.

        There bits of the arena, by address, are inverted; and in the first inference the parameters, until then those
        of `before`, become those of `after`, which they stay. Raises InputError where `op` is fused with the operation
        before it or there is none, and as `run` does.
        """
        x = np.asarray(inputs)
        flat, scores = self._arrays(x)
        run = self._engine.run_stopped_floats if x.dtype == np.float32 else self._engine.run_stopped_pixels
        images = (np.frombuffer(before, np.uint8), np.frombuffer(after, np.uint8))
        try:
            run(*images, flat, scores, op, np.ascontiguousarray(arena_bits, np.int64))
        except ValueError as error:
            raise InputError(f"a run stopped at operation {op}: {error}") from None
        return scores

    def _arrays(self, x: InputArray) -> tuple[InputArray, FloatArray]:
        """Checked inputs, (N, elements), and room for their scores."""
        e = self._engine
        if x.dtype not in (np.float32, np.uint8):
            raise InputError(f"inputs of type {x.dtype}; the engine takes float32 or uint8")
        if x.ndim == 0 or int(np.prod(x.shape[1:], dtype=np.int64)) != e.input_count:
            raise InputError(f"inputs of shape {x.shape}; the engine takes (N, {e.input_count} elements)")
        flat = np.ascontiguousarray(x).reshape(len(x), e.input_count)
        return flat, np.empty((len(x), e.output_count), np.float32)

    def check(self, image: Image) -> Health:
        """How the redundant bits of an image fare; a run corrects them as it reads them. Raises InputError as `run`."""
        if len(image) != self._engine.image_bytes:
            raise InputError(f"an image of {len(image)} bytes; the plan wants {self._engine.image_bytes}")
        return Health(*self._engine.check(np.frombuffer(image, np.uint8)))


def rate_q64(rate: float) -> int:
    """A probability as the fault generator takes it: floor(rate * 2^64). Raises InputError outside [0, 1)."""
    if not 0 <= rate < 1:
        raise InputError(f"a fault rate of {rate}; it must be at least 0 and below 1")
    return int(rate * 2.0**64)


def inject(image: bytearray, ranges: Iterable[tuple[int, int]], rate: float, seed: int) -> int:
    """Flip every bit of the ranges (first bit, bits) with probability `rate`; returns how many flipped.

    The same call has the same effect on a board (docs/spec.md, "Faults").
    """
    data, threshold = np.frombuffer(image, np.uint8), rate_q64(rate)
    checked_seed(seed)
    return sum(_engine.inject(data, first, bits, threshold, seed) for first, bits in ranges)


def fault_set(image_bytes: int, ranges: Iterable[tuple[int, int]], rate: float, seed: int) -> NDArray[np.int64]:
    """The bit addresses that `inject` would flip, in ascending order."""
    flips = bytearray(image_bytes)
    inject(flips, ranges, rate, seed)
    data = np.frombuffer(flips, np.uint8)
    hit = np.flatnonzero(data)
    byte, bit = np.nonzero(np.unpackbits(data[hit, np.newaxis], axis=1, bitorder="little"))
    addresses: NDArray[np.int64] = 8 * hit[byte] + bit
    return addresses


def random_order(first: int, n: int, count: int, seed: int) -> NDArray[np.int64]:
    """Elements `first` to `first + n - 1` of the random order of 0 to `count - 1` that `seed` fixes.

    Raises InputError when the order has not so many elements.
    """
    if not 0 <= first <= first + n <= count:
        raise InputError(f"elements {first} to {first + n - 1} of a random order of {count}; there are not so many")
    out = np.empty(n, np.int64)
    _engine.permutation(out, first, count, checked_seed(seed))
    return out


def checked_seed(seed: int) -> int:
    """The seed; raises InputError when it is no 64-bit unsigned number."""
    if not 0 <= seed < 1 << 64:
        raise InputError(f"a seed of {seed}; it must be a 64-bit unsigned number")
    return seed
