"""The one interface that a campaign sees: a network in some memory, whose bits can be flipped and whose scores read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import numpy as np

from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.errors import InputError
from zobnn_edge.faults.space import Addresses
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network, as_inputs
from zobnn_edge.protection import SOUND, Health

Counter = Literal["nothing", "instructions", "cycles"]


@dataclass(frozen=True)
class TargetInfo:
    """What a target is. Of the host, which has no serial line and no clock of interest, the numbers are 0.

    `firmware` names the code that runs there: the SHA-256 of the host's engine or of an emulated board's firmware; of a
    real board the CRC-32s of plan and image that it reports.
    """

    name: str
    board: str
    counter: Counter
    clock_hz: int = 0
    memory_address: int = 0
    input_bytes: int = 0
    boots: int = 0
    firmware: str = ""


@dataclass(frozen=True)
class Options:
    """How to open a target: with the plan in RAM, so that there can be faults in it; and the command that takes its
    board's power away and gives it back, the last means against one that hangs."""

    plan_in_ram: bool = False
    power_cycle: str | None = None


@dataclass(frozen=True)
class Flip:
    """One bit inverted: its address and the byte that holds it, before and after."""

    address: int
    old: int
    new: int


@dataclass(frozen=True)
class RunResult:
    """Scores (N, outputs) of the inputs; what the last inference took, in units of `TargetInfo.counter`, if counted;
    the share of the operations that had to be computed; and how redundant bits of the parameters fare."""

    scores: FloatArray
    instructions: int | None
    work: float = 1.0
    health: Health = SOUND


class Target(ABC):
    """A model in memory. Use it as a context manager: leaving it closes it.

    All methods may raise TargetError when the target went away or fails to answer; then only `reset` may bring it back.
    """

    model: Model

    @property
    @abstractmethod
    def info(self) -> TargetInfo:
        """What the target is."""

    @abstractmethod
    def load(self, model: Model) -> None:
        """Take up a model, as built: no bit flipped, no inputs. Raises TargetError when the target holds another."""

    @abstractmethod
    def put_inputs(self, inputs: InputArray) -> None:
        """Set what `run` runs on: (N, height, width, channels) or (N, elements), float32 or uint8. Copied where needed.

        Raises InputError when shape or type do not fit the network, or a single input does not fit the target.
        """

    @abstractmethod
    def run(self) -> RunResult:
        """Run the network on all inputs with the memory as it is now."""

    def expect_many_runs(self) -> None:  # noqa: B027 - most targets have nothing to prepare
        """Many runs on these inputs follow, most of them with few bits changed: a target may prepare for that."""

    def run_plainly(self) -> RunResult:
        """As `run`, without any shortcut that a target may know: every operation is carried out. For controls."""
        return self.run()

    @abstractmethod
    def flip(self, addresses: Iterable[int]) -> list[Flip]:
        """Invert bits, one after the other; all of them or, if one belongs to no parameter (InputError), none."""

    def invert(self, addresses: Addresses) -> int:
        """Invert bits that are known to belong to parameters, all different; returns how many."""
        return len(self.flip(addresses.tolist()))

    def memory_bytes(self, memory: str) -> int:
        """Length of a memory of `faults.space.MEMORIES` in which this target can make faults; raises InputError where
        it cannot."""
        raise self._no_faults_in(memory)

    def flip_memory(self, memory: str, addresses: Addresses) -> int:
        """Invert bits of a memory, by their addresses from its start; returns how many. Only `reset` is sure to undo
        it. Raises InputError as `memory_bytes` does."""
        raise self._no_faults_in(memory)

    def arm(self, memory: str, addresses: Addresses, op: int) -> int:
        """Bits of a memory that are inverted when operation `op` begins: of the parameters in the next inference only,
        of the arena in every one until `restore`. Returns how many. Raises InputError where `op` is fused with the one
        before, or these are more bits than the target takes, and as `memory_bytes` does."""
        raise self._no_faults_in(memory)

    def _no_faults_in(self, memory: str) -> InputError:
        name = self.info.name
        return InputError(f"{name}: cannot make faults in {memory}; use a board that can, for instance qemu:mps2-an386")

    @abstractmethod
    def inject(self, rate: float, seed: int, regions: Sequence[str] | None = None) -> int:
        """Invert every bit of the named parameters (None: of all) with probability `rate`; returns how many.

        Which bits it hits follows from rate and seed alone and is the same on every target. Raises InputError for a
        rate outside [0, 1), a seed that is no 64-bit unsigned number, and an unknown name.
        """

    @abstractmethod
    def restore(self) -> int:
        """Set all parameters back to those of the model; returns the CRC-32 of the memory, that of `model.image`."""

    @abstractmethod
    def read(self) -> bytes:
        """The whole image as it is in memory now."""

    @abstractmethod
    def reset(self) -> None:
        """Restart the target: as `restore`, and whatever else was in it is gone. The inputs stay set."""

    def recover(self) -> str:
        """As `reset`, by the mildest of several means that works; returns its name."""
        self.reset()
        return "reset"

    @abstractmethod
    def close(self) -> None:
        """Give everything back; may be called twice."""

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def checked_inputs(net: Network, inputs: InputArray) -> InputArray:
    """`inputs` as a contiguous (N, elements) array; raises InputError when shape or type do not fit the network."""
    x = as_inputs(net, inputs)
    return x.reshape(len(x), int(np.prod(net.input_shape)))


def checked_ranges(model: Model, regions: Sequence[str] | None) -> list[tuple[int, int]]:
    """(first bit, number of bits) of the regions named, each once, or of all; raises InputError for unknown names."""
    return model.image.ranges(None if regions is None else dict.fromkeys(regions))
