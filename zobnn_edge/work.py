"""How binary convolutions are computed: which algorithm each uses, and in how much working memory.

*count* XORs and counts bits filter by filter. *table* looks up, for every four input bits, a row of counts of a block
of filters; building the tables costs as much as some 20 pixels, so that it pays where there are many, and they take
memory. Both give the same sums. The engine divides the memory it gets (firmware/engine/zob_table.c), which depends on
the core; this module says how much is worth having.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeGuard

from zobnn_edge import format as fmt
from zobnn_edge.network import Network
from zobnn_edge.operations import Conv, GatedConv, Op

Algorithm = Literal["count", "table"]

_BLOCKS = (16, 32)  # filters that a table serves, on cores without and with vectors
_MAX_BITS = 32767  # a sum has sixteen bits, half of them for the limit
_LOOKUPS = 8  # groups of four bits of a word
_WIDEN_WORDS = 6  # words after which counts of eight bits are widened


@dataclass(frozen=True)
class Work:
    """The algorithm of a binary convolution, the bytes it works in, and roughly the instructions it takes."""

    algorithm: Algorithm
    bytes: int
    cost: float = 0.0


@dataclass(frozen=True)
class _Shape:
    """What decides the cost of a binary convolution: sizes of the kernel, words and channels a tap, filters, output.

    Of an input that is copied with a border, `border` has the words that a row of the output reads more than the one
    before, and those that the last one reads more than that.
    """

    rows: int
    columns: int
    words: int
    channels: int
    groups: int
    filters: int
    pixels: int
    width: int
    planes: int
    border: tuple[int, int]

    @staticmethod
    def of(net: Network, op: Conv | GatedConv) -> _Shape:
        out, rows, columns, channels = net.parameters[op.weight].shape
        height, width, _ = net.tensors[op.output].shape
        words = -(-channels // 32)
        groups, planes, border = 1, 2, (0, 0)
        if isinstance(op, Conv):
            groups, planes = op.groups, 1
            if op.pad_value and op.padding != "valid":
                line = ((width - 1) * op.stride[1] + (columns - 1) * op.dilation[1] + 1) * words
                border = op.stride[0] * line, (rows - 1) * op.dilation[0] * line
        return _Shape(rows, columns, words, channels, groups, out // groups, height * width, width, planes, border)

    @property
    def taps(self) -> int:
        return self.rows * self.columns

    @property
    def kept(self) -> int:
        """Bytes of the sums of the high plane, which a gated convolution keeps for a block of filters."""
        return (32 if self.filters <= 16 else 64) * self.pixels if self.planes == 2 else 0

    @property
    def lookups(self) -> int:
        """Groups of four bits that are looked up a word."""
        return 4 if self.channels <= 16 else _LOOKUPS


def is_binary_conv(op: Op, net: Network) -> TypeGuard[Conv | GatedConv]:
    """Whether an operation is a convolution of bits."""
    return isinstance(op, GatedConv) or (isinstance(op, Conv) and net.tensors[op.input].kind == "binary")


def least(net: Network, op: Conv | GatedConv) -> Work:
    """The work with the least memory: to count in what is gathered of one pixel."""
    s = _Shape.of(net, op)
    words = s.taps * s.words
    filters = s.filters * s.groups
    cost = s.pixels * (filters * (9 * words + 50) + -(-filters // 32) * (3 * words + 12 * s.taps + 60))
    return Work("count", s.kept + _aligned(4 * words), s.planes * cost)


def candidates(net: Network, op: Conv | GatedConv) -> list[Work]:
    """All that is worth considering for a binary convolution, the quickest first; the last is `least`."""
    slowest = least(net, op)
    s = _Shape.of(net, op)
    if 32 * s.words * s.taps > _MAX_BITS:
        return [slowest]
    sizes = {s.kept + _aligned(_memory(s, taps, rows, block)) for block in _BLOCKS for taps, rows in _divisions(s)}
    tables = [Work("table", n, _mean_cost(s, n, slowest.cost)) for n in sizes]
    quicker = [w for w in tables if w.bytes >= slowest.bytes and w.cost < slowest.cost]
    return [*sorted(quicker, key=lambda w: (w.cost, w.bytes)), slowest]


def _mean_cost(s: _Shape, memory: int, most: float) -> float:
    """The mean over cores with and without vectors; they count where tables would take longer."""
    return sum(min(most, _cost(s, memory - s.kept, block)) for block in _BLOCKS) / len(_BLOCKS)


def _windows(s: _Shape) -> list[int]:
    """Taps of the windows that the engine considers: of the whole kernel, of rows of it, of parts of a row."""
    return [n * s.columns for n in range(s.rows, 0, -1)] + list(range(s.columns - 1, 0, -1))


def _divisions(s: _Shape) -> Iterator[tuple[int, int]]:
    """(taps of a window, rows of the output's bands) that divide the memory without a rest."""
    height = s.pixels // s.width
    for taps in _windows(s):
        for parts in (1,) if taps == s.taps else range(1, 9):
            yield taps, -(-height // parts)


def _memory(s: _Shape, taps: int, rows: int, block: int) -> int:
    """Bytes of the tables of `taps` taps for `block` filters, of the sums of a band of `rows` rows, of its input.

    With all taps: of the sums of one row, and of what each tap counts outside the input.
    """
    table = s.words * s.lookups * 16 * block // 2
    fixed = taps * table + 16 * (taps + taps * s.words // _WIDEN_WORDS)
    if taps == s.taps:
        return fixed + 2 * block * (s.width + (taps if any(s.border) else 0))
    return fixed + 2 * block * s.width * rows + 4 * (rows * s.border[0] + s.border[1])


def _cost(s: _Shape, memory: int, block: int) -> float:
    """Instructions, about, on a core whose tables serve `block` filters; infinite where the memory does not do."""
    height = s.pixels // s.width
    best = float("inf")
    for taps in _windows(s):
        fixed = _memory(s, taps, 0, block)
        rest, more = memory - fixed, _memory(s, taps, 1, block) - fixed
        if rest < more:
            continue
        windows = -(-s.taps // taps)
        bands = -(-height // (rest // more)) if windows > 1 else 1
        tables = bands * s.taps * s.words * s.lookups * 90
        copying = 5 * (height * s.border[0] + bands * s.border[1]) if windows > 1 else 0
        best = min(best, tables + copying + windows * s.planes * (s.pixels * 60 + height * 300))
    looking_up = s.planes * s.pixels * (s.taps * s.words * s.lookups * 7 + 100)
    return s.groups * -(-s.filters // block) * (best + looking_up)


def counts_ones(net: Network, op: Conv | GatedConv, work: Work) -> bool:
    """Whether a convolution by tables may have those of the whole kernel at once, and counts apart what it reads
    outside its input."""
    s = _Shape.of(net, op)
    return work.algorithm == "table" and any(s.border) and work.bytes >= _memory(s, s.taps, 1, min(_BLOCKS))


def never_counts(net: Network, op: Conv | GatedConv, work: Work) -> bool:
    """Whether a convolution is carried out by tables on every core and whatever its weights hold: there is memory for
    those of one tap and for one row of sums, and no bits of its words are left out."""
    s = _Shape.of(net, op)
    block = max(_BLOCKS)
    least = 64 * s.words * block + 16 * (1 + s.words // _WIDEN_WORDS) + 2 * block * s.width + 4 * sum(s.border)
    return work.algorithm == "table" and s.lookups == _LOOKUPS and work.bytes - s.kept >= least


def _aligned(size: int) -> int:
    return -(-size // fmt.ALIGN) * fmt.ALIGN
