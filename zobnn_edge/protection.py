"""Redundant storage of codes: what it costs in bits, what it corrects, what it notices (docs/spec.md, "Protection").

Everything here works on bits: arrays of 0 and 1 (uint8), least significant bit first. `protect` turns the codes of a
parameter, (count, bits), into its stored bits; `correct` turns stored bits back into codes and says of how many cells
some bits were put right, and how many are known to be wrong beyond repair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Health:
    """Cells of which some bits were put right, and cells known to be wrong that could not be."""

    corrected: int = 0
    lost: int = 0

    def __add__(self, other: Health) -> Health:
        return Health(self.corrected + other.corrected, self.lost + other.lost)


SOUND = Health()


class Protection(Protocol):
    """How codes are stored redundantly."""

    @property
    def name(self) -> str:
        """What policies call it."""

    def check(self, bits: int) -> None:
        """Raise ValueError where codes of so many bits cannot be stored so."""

    def cell(self, bits: int) -> int:
        """Bits from the first one of a code of so many bits to the first one of the next."""

    def stored(self, bits: int, count: int) -> int:
        """Bits that `count` codes take."""

    def protect(self, codes: Bits) -> Bits:
        """The stored bits of codes (count, bits), as one row."""

    def correct(self, stored: Bits, bits: int, count: int) -> tuple[Bits, Health]:
        """The codes (count, bits) of stored bits, and how they fared."""

    def wrong(self, bits: int, rate: float) -> NDArray[np.float64]:
        """About the probability that each bit of a code (bits,) is read wrongly where stored bits flip at a rate."""


@dataclass(frozen=True)
class Hamming:
    """Codes of 8 bits in cells of 12: any one flipped bit of a cell is put right.

    Bits 0 to 7 are the code, 8 to 11 the check bits. Of the 66 pairs of flipped bits 15 are noticed and left as
    they are; the others are taken for another single one.
    """

    name: str = "hamming"

    def check(self, bits: int) -> None:
        if bits != 8:
            raise ValueError(f"Hamming cells hold codes of 8 bits, not {bits}")

    def cell(self, bits: int) -> int:
        return 12

    def stored(self, bits: int, count: int) -> int:
        return 12 * count

    def protect(self, codes: Bits) -> Bits:
        cells: Bits = np.concatenate([codes, _parities(codes, 4)], axis=1)
        return cells.reshape(-1)

    def correct(self, stored: Bits, bits: int, count: int) -> tuple[Bits, Health]:
        cells = stored.reshape(count, 12)
        syndrome = _number(_parities(cells[:, :8], 4) ^ cells[:, 8:])
        wrong = _data_bit(syndrome)
        codes = cells[:, :8] ^ ((wrong[:, None] == np.arange(8)) & (syndrome <= 12)[:, None])
        lost = int((syndrome > 12).sum())
        return codes, Health(int((syndrome > 0).sum()) - lost, lost)

    def wrong(self, bits: int, rate: float) -> NDArray[np.float64]:
        """Counted over all pairs of flips; more in one cell are left out."""
        first, second = np.triu_indices(12, 1)
        pairs = (np.eye(12, dtype=np.uint8)[first] | np.eye(12, dtype=np.uint8)[second]).reshape(-1)
        read, _ = self.correct(pairs, bits, len(first))
        return np.asarray(read.sum(axis=0) * rate**2 * (1 - rate) ** 10)


@dataclass(frozen=True)
class Voted:
    """The `top` most significant bits of each code are stored three times, and each is what two of three say.

    A cell is the code, then the top bits, then the top bits again. With all bits at the top it is triplication.
    """

    top: int

    @property
    def name(self) -> str:
        return f"voted:{self.top}"

    def check(self, bits: int) -> None:
        if not 1 <= self.top <= bits:
            raise ValueError(f"{self.top} top bits stored three times, of codes of {bits} bits")

    def cell(self, bits: int) -> int:
        return bits + 2 * self.top

    def stored(self, bits: int, count: int) -> int:
        return self.cell(bits) * count

    def protect(self, codes: Bits) -> Bits:
        top = codes[:, codes.shape[1] - self.top :]
        cells: Bits = np.concatenate([codes, top, top], axis=1)
        return cells.reshape(-1)

    def correct(self, stored: Bits, bits: int, count: int) -> tuple[Bits, Health]:
        cells = stored.reshape(count, self.cell(bits))
        low, votes = cells[:, : bits - self.top], cells[:, bits - self.top :].reshape(count, 3, self.top).sum(axis=1)
        codes = np.concatenate([low, (votes > 1).astype(np.uint8)], axis=1)
        return codes, Health(int(((votes % 3) > 0).any(axis=1).sum()))

    def wrong(self, bits: int, rate: float) -> NDArray[np.float64]:
        return np.where(np.arange(bits) < bits - self.top, rate, rate**2 * (3 - 2 * rate))


@dataclass(frozen=True)
class Secded:
    """SECDED(72, 64): each word of 64 bits has a byte of check bits; one flipped bit of the 72 is put right, two are
    noticed and left as they are.

    Codes are packed as if they were not protected and filled up with zeros to whole words; the check bytes of all
    words follow.
    """

    name: str = "secded"

    def check(self, bits: int) -> None:
        pass

    def cell(self, bits: int) -> int:
        return bits

    def stored(self, bits: int, count: int) -> int:
        return 72 * -(-bits * count // 64)

    def protect(self, codes: Bits) -> Bits:
        words = np.pad(codes.reshape(-1), (0, -codes.size % 64)).reshape(-1, 64)
        return np.concatenate([words.reshape(-1), self._checks(words).reshape(-1)])

    def correct(self, stored: Bits, bits: int, count: int) -> tuple[Bits, Health]:
        n = stored.size // 72
        words, checks = stored[: 64 * n].reshape(n, 64), stored[64 * n :].reshape(n, 8)
        syndrome = _number(_parities(words, 7) ^ checks[:, :7])
        odd = (words.sum(axis=1) + checks.sum(axis=1)) % 2 == 1
        single, wrong = odd & (syndrome <= 71), _data_bit(syndrome)
        lost = int(((syndrome > 0) & ~single).sum())
        fixed = words ^ ((wrong[:, None] == np.arange(64)) & single[:, None])
        return fixed.reshape(-1)[: bits * count].reshape(count, bits), Health(int(single.sum()), lost)

    def wrong(self, bits: int, rate: float) -> NDArray[np.float64]:
        """A flip that another one in the same word keeps from being put right."""
        return np.full(bits, rate * (1 - (1 - rate) ** 71))

    def _checks(self, words: Bits) -> Bits:
        checks = _parities(words, 7)
        whole = (words.sum(axis=1) + checks.sum(axis=1)) % 2
        return np.concatenate([checks, whole[:, None].astype(np.uint8)], axis=1)


def parse(name: str) -> Protection | None:
    """The protection of a name: none, hamming, secded, or voted:N; raises ValueError for any other."""
    if name == "none":
        return None
    if name in ("hamming", "secded"):
        return Hamming() if name == "hamming" else Secded()
    kind, _, top = name.partition(":")
    if kind == "voted" and top.isdecimal():
        return Voted(int(top))
    raise ValueError(f"there is no protection {name!r}; there are none, hamming, secded and voted:N (the N top bits)")


def _positions(data: int) -> NDArray[np.int64]:
    """Hamming's positions of so many data bits: 3, 5, 6, 7, 9, ...; those of check bits are the powers of two."""
    numbers = np.arange(1, data + 8)
    return numbers[(numbers & (numbers - 1)) > 0][:data]


def _parities(words: Bits, checks: int) -> Bits:
    """Check bits (count, checks) of data bits (count, n): bit j is the parity of those whose position has bit j."""
    covered = _positions(words.shape[1])[:, None] >> np.arange(checks) & 1
    return (words.astype(np.int64) @ covered % 2).astype(np.uint8)


def _number(bits: Bits) -> NDArray[np.int64]:
    return bits.astype(np.int64) @ (1 << np.arange(bits.shape[1]))


def _data_bit(position: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the data bit at a position; -1 at none of them: 0 and the powers of two."""
    length = np.floor(np.log2(np.maximum(position, 1))).astype(np.int64) + 1
    return np.where(position & (position - 1) > 0, position - length - 1, -1)
