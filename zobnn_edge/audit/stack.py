"""The stack in the worst case: the deepest path through the call graph, and an interrupt on top of it.

Frames are what GCC reports in its call graphs (-fcallgraph-info=su, or .su files) and what the instructions do,
whichever is larger: assembly and libraries have only the latter. Who calls whom comes from the instructions of the
linked program. A call through a pointer may reach every function whose address the function, else its callers, load
or find in a table they load the address of; where there is none it is reported as unresolved.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from zobnn_edge.audit.elf import Elf, Symbol
from zobnn_edge.audit.thumb import Flow, flow

_BASIC_FRAME, _FLOAT_FRAME = 32, 104
_REALIGNED = 4
"""Bytes that a core pushes when it takes an exception, without and with its floating-point registers, and those that
align the stack to 8 bytes (Armv7-M ARM, B1.5.6)."""
_SYSTEM_VECTORS = 16
_FAULTS = range(2, 8)
"""Exceptions of a program that is lost already: NMI and the faults."""

_NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "([^\\"]+)\\n([^\\"]*)\\n(\d+) bytes \(([a-z,]+)\)', re.M)
_SU = re.compile(r"^(\S+?):\d+:\d+:(\S+)\t(\d+)\t([a-z,]+)$", re.M)


@dataclass(frozen=True)
class Frame:
    """What the compiler reports of a function: bytes of stack, and whether they are bounded."""

    bytes: int
    bounded: bool


@dataclass(frozen=True)
class Step:
    """One function of the deepest path: its name, its bytes on that path, all that lie below it included."""

    function: str
    bytes: int
    below: int


@dataclass(frozen=True)
class Stack:
    """The worst case. `bytes` is None where nothing can be said: no functions, recursion, a frame without bound.

    `main` is the deepest path from reset; `interrupt` what an exception adds to it. `recursion` lists functions on a
    cycle, `unbounded` those of frames without bound, `unresolved` those whose calls through pointers lead nowhere
    known: then `bytes` is a lower bound.
    """

    bytes: int | None
    main: int
    interrupt: int
    path: tuple[Step, ...]
    handlers: dict[str, int]
    recursion: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()
    frames_from: dict[str, int] = field(default_factory=dict)


def frames(text: str) -> dict[str, Frame]:
    """Frames by function name, of the call graphs or .su files in `text`; of equal names the largest."""
    found: dict[str, Frame] = {}
    entries = [(m[2], m[4], m[5]) for m in _NODE.finditer(text)]
    entries += [(m[2], m[3], m[4]) for m in _SU.finditer(text)]
    for name, size, kind in entries:
        bounded = kind == "static" or "bounded" in kind
        before = found.get(name, Frame(0, True))
        found[name] = Frame(max(before.bytes, int(size)), before.bounded and bounded)
    return found


def worst_case(elf: Elf, reported: dict[str, Frame], excluded: frozenset[str] = frozenset()) -> Stack | None:
    """The worst case of a program; None where the file names no functions.

    `excluded`: functions that are linked but, as is known from elsewhere, never entered.
    """
    return _Graph(elf, reported, excluded).worst_case() if elf.functions else None


def reached(elf: Elf, excluded: frozenset[str] = frozenset()) -> frozenset[int]:
    """Addresses of the functions that can be entered from reset or by an exception, and of the objects they name."""
    return _Graph(elf, {}, excluded).reached()


@dataclass(frozen=True)
class _Found:
    bytes: int
    path: tuple[tuple[int, int], ...]  # (function, bytes of it on the path)


class _Graph:
    def __init__(self, elf: Elf, reported: dict[str, Frame], excluded: frozenset[str] = frozenset()) -> None:
        self.elf = elf
        self.reported = reported
        self.excluded = excluded
        self.functions = elf.functions
        self.starts = [f.address for f in self.functions]
        self.flows = [self._flow(i, f) for i, f in enumerate(self.functions)]
        self.found: dict[int, _Found] = {}
        self.active: list[int] = []
        self.recursion: set[int] = set()
        self.unbounded: set[int] = set()
        self.unresolved: set[int] = set()

    def worst_case(self) -> Stack:
        entry = self._function(self.elf.entry)
        top = self._deepest(entry) if entry is not None else _Found(0, ())
        handlers = {self._name(i): self._deepest(i).bytes for i in sorted(set(self._handlers()))}
        pushed = (_FLOAT_FRAME if self._has_float else _BASIC_FRAME) + _REALIGNED
        interrupt = max(handlers.values()) + pushed if handlers else 0
        known = entry is not None and not self.recursion and not self.unbounded
        path, below = [], 0
        for i, size in reversed(top.path):
            below += size
            path.append(Step(self._name(i), size, below))
        names = [tuple(sorted(self._name(i) for i in group)) for group in self._problems]
        by_compiler = sum(f.name in self.reported for f in self.functions)
        return Stack(
            bytes=top.bytes + interrupt if known else None,
            main=top.bytes,
            interrupt=interrupt,
            path=tuple(reversed(path)),
            handlers=handlers,
            recursion=names[0],
            unbounded=names[1],
            unresolved=names[2],
            frames_from={"compiler": by_compiler, "instructions": len(self.functions) - by_compiler},
        )

    def reached(self) -> frozenset[int]:
        words = [word for word in self._vectors()[1] if word & 1]
        entries = [self._function(self.elf.entry), *(self._pointer(word) for word in words)]
        waiting, seen = [i for i in entries if i is not None], set[int]()
        objects = set[int]()
        while waiting:
            i = waiting.pop()
            if i in seen:
                continue
            seen.add(i)
            waiting += [callee for callee, _ in self._callees(i)]
            named = (self._object(word) for word in self.flows[i].words)
            objects |= {found.address for found in named if found is not None}
            waiting += [f for f in self._taken(i) if not self._is_excluded(f)]
        return frozenset({self.starts[i] for i in seen} | objects)

    @property
    def _problems(self) -> tuple[set[int], set[int], set[int]]:
        return self.recursion, self.unbounded, self.unresolved

    @property
    def _has_float(self) -> bool:
        a: dict[str, Any] = self.elf.attributes
        return bool(a.get("TAG_FP_ARCH") or a.get("TAG_MVE_ARCH"))

    def _name(self, i: int) -> str:
        return self.functions[i].name

    def _is_excluded(self, i: int) -> bool:
        return _without_clone(self._name(i)) in self.excluded

    def _frame(self, i: int) -> int:
        """The deepest that a function goes itself."""
        by_code, by_compiler = self.flows[i].frame, self.reported.get(_without_clone(self._name(i)))
        if not (by_code is not None if by_compiler is None else by_compiler.bounded):
            self.unbounded.add(i)
        return max(by_code or 0, by_compiler.bytes if by_compiler else 0)

    def _deepest(self, i: int) -> _Found:
        if i in self.found:
            return self.found[i]
        if i in self.active:
            self.recursion |= set(self.active[self.active.index(i) :])
            return _Found(0, ())
        self.active.append(i)
        frame, own = self._frame(i), self.flows[i]
        more = frame - (own.frame or 0)  # what the compiler knows and the instructions do not show
        best = _Found(frame, ((i, frame),))
        for callee, depth in self._callees(i):
            below = self._deepest(callee)
            if depth + more + below.bytes > best.bytes:
                best = _Found(depth + more + below.bytes, ((i, depth + more), *below.path))
        self.active.pop()
        self.found[i] = best
        return best

    def _callees(self, i: int) -> list[tuple[int, int]]:
        own = self.flows[i]
        out = []
        for target, depth in (*own.calls, *own.jumps):
            callee = self._function(target)
            if callee is None:
                if target != self.functions[i].address + self.functions[i].size:  # there it is padding that follows
                    self.unresolved.add(i)
            elif callee != i or (target, depth) in own.calls:
                out.append((callee, depth))
        if own.indirect:
            reached = self._reachable(i, set())
            if not reached:
                self.unresolved.add(i)
            out += [(callee, max(own.indirect)) for callee in sorted(reached)]
        return [(callee, depth) for callee, depth in out if not self._is_excluded(callee)]

    def _reachable(self, i: int, seen: set[int]) -> set[int]:
        """Functions that a pointer which function i calls may hold."""
        if i in seen:
            return set()
        seen.add(i)
        own = self._taken(i)
        return own or {f for caller in self.callers.get(i, ()) for f in self._reachable(caller, seen)}

    def _taken(self, i: int) -> set[int]:
        """Functions whose addresses function i loads, or that stand in tables of which it loads the address."""
        taken = set()
        for word in self.flows[i].words:
            if (f := self._pointer(word)) is not None:
                taken.add(f)
            elif (table := self._object(word)) is not None:
                data = self.elf.read(table.address, table.size // 4 * 4) or b""
                entries = (int.from_bytes(data[k : k + 4], "little") for k in range(0, len(data), 4))
                taken |= {f for e in entries if (f := self._pointer(e)) is not None}
        return taken

    def _pointer(self, word: int) -> int | None:
        """The function that a word points to."""
        i = bisect_right(self.starts, word & ~1) - 1
        return i if word & 1 and i >= 0 and self.starts[i] == word & ~1 else None

    def _object(self, address: int) -> Symbol | None:
        i = bisect_right(self._objects[0], address) - 1
        if i < 0:
            return None
        found = self._objects[1][i]
        return found if address < found.address + found.size else None

    @cached_property
    def _objects(self) -> tuple[list[int], list[Symbol]]:
        """Objects with contents, but for the vector table, which is a table of another kind."""
        vectors = self._vectors()[0]
        found = [s for s in self.elf.symbols if not s.is_function and s.size and s.address != vectors]
        return [s.address for s in found], found

    @cached_property
    def callers(self) -> dict[int, set[int]]:
        """Who calls a function directly."""
        found: dict[int, set[int]] = {}
        for i, own in enumerate(self.flows):
            for target, _ in (*own.calls, *own.jumps):
                if (callee := self._function(target)) is not None:
                    found.setdefault(callee, set()).add(i)
        return found

    def _function(self, address: int) -> int | None:
        """The function that holds an address."""
        address &= ~1
        i = bisect_right(self.starts, address) - 1
        return i if i >= 0 and address < self.starts[i] + self.functions[i].size else None

    def _vectors(self) -> tuple[int, list[int]]:
        """Address and words of the vector table: what begins with a stack pointer and the entry point."""
        for s in self.elf.sections:
            for at in (0, 256):  # behind a boot stage, as on the RP2040
                if (
                    int.from_bytes(s.data[at + 4 : at + 8], "little") | 1 == self.elf.entry | 1
                    and len(s.data) > at + 64
                ):
                    symbol = next((x for x in self.elf.symbols if x.address == s.address + at and x.size > 64), None)
                    size = symbol.size if symbol else 4 * _SYSTEM_VECTORS
                    words = s.data[at : at + size]
                    return s.address + at, [int.from_bytes(words[k : k + 4], "little") for k in range(0, len(words), 4)]
        return -1, []

    def _handlers(self) -> list[int]:
        """Functions that interrupts enter."""
        words = self._vectors()[1]
        entries = (w for k, w in enumerate(words) if k > 1 and k not in _FAULTS)
        faults = {self._pointer(words[k]) for k in _FAULTS if k < len(words)}
        return [i for w in entries if (i := self._pointer(w)) is not None and i not in faults]

    def _flow(self, i: int, f: Symbol) -> Flow:
        limit = self.starts[i + 1] if i + 1 < len(self.starts) else f.address + f.size
        size = min(f.size, max(limit - f.address, 0)) if limit > f.address else f.size
        code = self.elf.read(f.address, size)
        if code is None:
            return Flow(frame=None)
        return flow(f.address, code, self._data(f.address, f.address + len(code)))

    def _data(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Stretches of data between two addresses of code."""
        marks = self.elf.data_marks
        out = []
        for k in range(max(0, bisect_right(marks, begin, key=lambda mark: mark[0]) - 1), len(marks)):
            at, is_data = marks[k]
            if at >= end:
                break
            stop = marks[k + 1][0] if k + 1 < len(marks) else end
            if is_data and stop > begin:
                out.append((max(at, begin), min(stop, end)))
        return out


def _without_clone(name: str) -> str:
    """A function's name without what GCC appends to specialised copies."""
    return re.split(r"\.(?:constprop|isra|part|cold|lto_priv)\b", name)[0]
