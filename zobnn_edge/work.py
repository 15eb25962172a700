"""How binary convolutions are computed: which algorithm each uses, and in how much working memory.

*count* XORs and counts bits filter by filter. *table* looks up, for every four input bits, a row of counts of sixteen
filters; building the tables costs as much as some 20 pixels, so that it pays where there are many, and its tables take
memory. Both give the same sums. The engine divides the memory it gets (firmware/engine/zob_table.c); this module says
how much is worth having.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from zobnn_edge import format as fmt
from zobnn_edge.network import Conv, Network

Algorithm = Literal["count", "table"]

_BLOCK = 16  # filters a table serves
_SUMS = 2 * _BLOCK  # bytes of the sums of a block at one pixel
_MAX_BITS = 32767  # a sum has sixteen bits, half of them for the limit
_WIDEN_WORDS = 6  # words after which counts of eight bits are widened


@dataclass(frozen=True)
class Work:
    """The algorithm of a binary convolution, the bytes it works in, and roughly the instructions it takes."""

    algorithm: Algorithm
    bytes: int
    cost: float = 0.0


@dataclass(frozen=True)
class _Shape:
    """What decides the cost of a binary convolution: sizes of the kernel, words and channels a tap, filters, output."""

    rows: int
    columns: int
    words: int
    channels: int
    groups: int
    filters: int
    pixels: int
    width: int

    @staticmethod
    def of(net: Network, op: Conv) -> _Shape:
        out, rows, columns, channels = net.parameters[op.weight].shape
        height, width, _ = net.tensors[op.output].shape
        words = -(-channels // 32)
        return _Shape(rows, columns, words, channels, op.groups, out // op.groups, height * width, width)

    @property
    def taps(self) -> int:
        return self.rows * self.columns

    @property
    def lookups(self) -> int:
        """Groups of four bits that are looked up a word."""
        return 4 if self.channels <= 16 else 8


def is_binary_conv(net: Network, op: object) -> bool:
    """Whether an operation is a convolution of bits."""
    return isinstance(op, Conv) and net.tensors[op.input].kind == "binary"


def least(net: Network, op: Conv) -> Work:
    """The work with the least memory: to count in what is gathered of one pixel."""
    s = _Shape.of(net, op)
    words = s.taps * s.words
    filters = s.filters * s.groups
    cost = s.pixels * (filters * (10.5 * words + 40) + -(-filters // 32) * (3 * words + 12 * s.taps + 60))
    return Work("count", _aligned(4 * words), cost)


def candidates(net: Network, op: Conv) -> list[Work]:
    """All that is worth considering for a binary convolution, the quickest first; the last is `least`."""
    slowest = least(net, op)
    s = _Shape.of(net, op)
    tables = [] if 32 * s.words * s.taps > _MAX_BITS else [_table(s, *window) for window in _windows(s)]
    quicker = [w for w in tables if w.cost < slowest.cost]
    return [*sorted(quicker, key=lambda w: (w.cost, w.bytes)), slowest]


def _windows(s: _Shape) -> Iterator[tuple[int, int, int]]:
    """(taps of a window, stretches of its taps, pixels whose sums are kept) as the engine would divide the memory."""
    yield s.taps, s.rows, s.width
    for rows in range(s.rows - 1, 0, -1):
        yield rows * s.columns, rows, s.pixels
    for columns in range(s.columns - 1, 0, -1):
        yield columns, 1, s.pixels
    for part in (2, 4, 8, 16):
        yield 1, 1, -(-s.pixels // s.width // part) * s.width


def _table(s: _Shape, taps: int, stretches: int, band: int) -> Work:
    """Tables of `taps` taps at a time and sums of `band` pixels."""
    passes, bands = -(-s.taps // taps), -(-s.pixels // band)
    blocks = s.groups * -(-s.filters // _BLOCK)
    words = s.taps * s.words
    build = words * s.lookups * 90 * (bands if passes > 1 else 1)
    widened = max(-(-taps * s.words // _WIDEN_WORDS), min(stretches, taps * s.words)) if s.lookups == 8 else 1
    pixel = words * s.lookups * 7 + passes * (20 + 10 * stretches + 24 * widened) + 60
    memory = taps * (s.words * s.lookups * 16 * _BLOCK // 2 + _SUMS) + 16 * (taps + taps * s.words // _WIDEN_WORDS)
    return Work("table", _aligned(max(memory + _SUMS * band, 4 * words)), blocks * (build + s.pixels * pixel))


def _aligned(size: int) -> int:
    return -(-size // fmt.ALIGN) * fmt.ALIGN
