import numpy as np
from numpy.typing import NDArray

class Engine:
    def __init__(self, plan: NDArray[np.uint8], instructions: str) -> None: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def image_bytes(self) -> int: ...
    @property
    def input_count(self) -> int: ...
    @property
    def output_count(self) -> int: ...
    @property
    def instructions(self) -> str: ...
    def run_stopped_floats(
        self,
        before: NDArray[np.uint8],
        after: NDArray[np.uint8],
        inputs: NDArray[np.float32],
        scores: NDArray[np.float32],
        op: int,
        arena_bits: NDArray[np.int64],
    ) -> None: ...
    def run_stopped_pixels(
        self,
        before: NDArray[np.uint8],
        after: NDArray[np.uint8],
        inputs: NDArray[np.uint8],
        scores: NDArray[np.float32],
        op: int,
        arena_bits: NDArray[np.int64],
    ) -> None: ...
    def run_floats(
        self, image: NDArray[np.uint8], inputs: NDArray[np.float32], scores: NDArray[np.float32], threads: int
    ) -> None: ...
    def run_pixels(
        self, image: NDArray[np.uint8], inputs: NDArray[np.uint8], scores: NDArray[np.float32], threads: int
    ) -> None: ...

Ranges = list[tuple[int, int]]

class ChannelPlan:
    def __init__(
        self,
        plan: NDArray[np.uint8],
        slices: list[tuple[int, int, int]],
        first_op: int,
        end_op: int,
        input: int,
        output: int,
        whole_input: int,
        input_bytes: int,
        whole_output: int,
        pixels: int,
        channels: int,
        words: int,
    ) -> None: ...

class Rerunner:
    def __init__(
        self,
        engine: Engine,
        golden: NDArray[np.uint8],
        groups: list[tuple[int, Ranges, Ranges, float, ChannelPlan | None]],
        budget: int,
    ) -> None: ...
    @property
    def plain_work(self) -> float: ...
    def put_floats(self, inputs: NDArray[np.float32]) -> None: ...
    def put_pixels(self, inputs: NDArray[np.uint8]) -> None: ...
    def run(self, image: NDArray[np.uint8], scores: NDArray[np.float32]) -> float: ...

def instruction_sets() -> list[str]: ...
def inject(image: NDArray[np.uint8], first_bit: int, bits: int, rate_q64: int, seed: int) -> int: ...
def permutation(out: NDArray[np.int64], first: int, count: int, seed: int) -> None: ...
def crc32(data: NDArray[np.uint8]) -> int: ...
def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]: ...
