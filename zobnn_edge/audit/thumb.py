"""What a function in Thumb code does to the stack, read from its instructions.

Only the few instructions that move the stack pointer or leave the function are decoded (Armv6-M to Armv8.1-M; Arm
ARM, DDI 0403 and DDI 0553): enough for compiled code, hand-written assembly and libraries alike, also where no
compiler's report of them is at hand. The stack pointer's depth follows the code downwards; behind a return it is what
a branch to there says, else the deepest so far, which errs on the deep side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

SP, LR, PC = 13, 14, 15
_WIDE = (0b11101, 0b11110, 0b11111)
_NOPS = (0xBF00, 0x46C0)


@dataclass
class Flow:
    """A function's use of the stack in bytes, and where control leaves it.

    `frame` is the deepest it goes itself, None where that depends on a register. `calls` and `jumps` (tail calls) are
    (target, depth there), `indirect` the depths at calls through registers. `words` are the constants it loads.
    """

    frame: int | None = 0
    calls: list[tuple[int, int]] = field(default_factory=list)
    jumps: list[tuple[int, int]] = field(default_factory=list)
    indirect: list[int] = field(default_factory=list)
    words: set[int] = field(default_factory=set)


def flow(address: int, code: bytes, data: Iterable[tuple[int, int]] = ()) -> Flow:
    """Read the function at `address`. `data`: (begin, end) of literals and tables between its instructions."""
    return _Reader(address, code, list(data)).run()


class _Reader:
    def __init__(self, address: int, code: bytes, data: list[tuple[int, int]]) -> None:
        self.base, self.code, self.data = address, code, data
        self.end = address + len(code)
        self.out = Flow()
        self.depth = 0
        self.deepest = 0
        self.at_target: dict[int, int] = {}
        self.constants: dict[int, int] = {}  # of registers
        self.popped = 0  # registers of the last pop: a Cortex-M0 returns through one of them
        self.tables = 0  # registers that began as addresses of tables in the function: a switch jumps through one
        self.over = False  # nothing falls through to the next instruction

    def run(self) -> Flow:
        for begin, end in self.data:
            for at in range(-(-begin // 4) * 4, end - 3, 4):
                self.out.words.add(self._word(at))
        returns = False
        for at, first, second in self._instructions():
            before = len(self.out.calls)
            if self.over and first in _NOPS and at not in self.at_target:
                continue  # alignment
            if self.over or at in self.at_target:
                known = self.at_target.get(at)
                self.depth = known if known is not None else self.deepest
                self.over = False
            if second is None:
                self._narrow(at, first)
            else:
                self._wide(at, first, second)
            self.deepest = max(self.deepest, self.depth)
            returns = len(self.out.calls) == before
        if not self.over and returns:  # else it ends with a call that never comes back
            self.out.jumps.append((self.end, self.depth))
        if self.out.frame is not None:
            self.out.frame = self.deepest
        return self.out

    def _instructions(self) -> Iterator[tuple[int, int, int | None]]:
        at = self.base
        while at + 2 <= self.end:
            skip = next((end for begin, end in self.data if begin <= at < end), None)
            if skip is not None:
                at = skip
                continue
            first = self._half(at)
            if first >> 11 in _WIDE and at + 4 <= self.end:
                yield at, first, self._half(at + 2)
                at += 4
            else:
                yield at, first, None
                at += 2

    def _half(self, at: int) -> int:
        return int.from_bytes(self.code[at - self.base : at - self.base + 2], "little")

    def _word(self, at: int) -> int:
        return int.from_bytes(self.code[at - self.base : at - self.base + 4], "little")

    def _narrow(self, at: int, h: int) -> None:
        if h & 0xFE00 == 0xB400:  # push
            self.depth += 4 * (h & 0x1FF).bit_count()
        elif h & 0xFE00 == 0xBC00:  # pop
            self.depth -= 4 * (h & 0x1FF).bit_count()
            self.over = bool(h & 0x100)
            self.popped = h & 0xFF
        elif h & 0xFF00 == 0xB000:  # add or sub sp, #imm
            self.depth += 4 * (h & 0x7F) * (1 if h & 0x80 else -1)
        elif h & 0xFF87 == 0x4485:  # add sp, register
            self._add(self.constants.get(h >> 3 & 15))
        elif h & 0xFF87 == 0x4685:  # mov sp, register: from a frame pointer, back up
            self.depth = 0
        elif h & 0xF800 == 0x4800:  # ldr register, [pc]
            self._load(h >> 8 & 7, (at + 4 & ~3) + 4 * (h & 0xFF))
        elif h & 0xF800 == 0xA000:  # adr
            self.tables |= 1 << (h >> 8 & 7)
        elif h & 0xFF87 in (0x4780, 0x4784):  # blx register (ns)
            self.out.indirect.append(self.depth)
        elif h & 0xFF87 in (0x4700, 0x4704):  # bx register (ns)
            self._leave(h >> 3 & 15)
        elif h & 0xFF87 == 0x4687:  # mov pc, register: by a table of addresses in the function
            self.over = True
        elif h & 0xF000 == 0xD000 and h & 0xF00 < 0xE00:  # b<c>
            self._branch(at + 4 + 2 * _signed(h & 0xFF, 8), False)
        elif h & 0xF800 == 0xE000:  # b
            self._branch(at + 4 + 2 * _signed(h & 0x7FF, 11), True)
        elif h & 0xF500 == 0xB100:  # cbz, cbnz
            self._branch(at + 4 + ((h >> 3 & 0x1F) << 1 | (h >> 9 & 1) << 6), False)

    def _wide(self, at: int, h: int, k: int) -> None:
        if h & 0xF800 == 0xF000 and k & 0x8000:
            self._wide_branch(at, h, k)
        elif h == 0xE92D:  # push.w
            self.depth += 4 * k.bit_count()
        elif h == 0xE8BD:  # pop.w
            self.depth -= 4 * k.bit_count()
            self.over = bool(k >> PC & 1)
        elif h & 0xFFBF == 0xED2D and k & 0xE00 == 0xA00:  # vpush
            self.depth += 4 * (k & 0xFF)
        elif h & 0xFFBF == 0xECBD and k & 0xE00 == 0xA00:  # vpop
            self.depth -= 4 * (k & 0xFF)
        elif h == 0xF84D and k & 0xF00 == 0xD00:  # str register, [sp, #-imm]!
            self.depth += k & 0xFF
        elif h == 0xF85D and k & 0xF00 == 0xB00:  # ldr register, [sp], #imm
            self.depth -= k & 0xFF
            self.over = k >> 12 == PC
        elif h == 0xE96D:  # strd registers, [sp, #-imm]!
            self.depth += 4 * (k & 0xFF)
        elif h == 0xE8FD:  # ldrd registers, [sp], #imm
            self.depth -= 4 * (k & 0xFF)
        elif h & 0xFF70 == 0xF850 and k >> 12 == PC:  # ldr pc: of a table of addresses in the function, or a call
            if h & 0x80 or k & 0x800:
                self.out.indirect.append(self.depth)
            self.over = True
        elif h & 0xFF7F == 0xF85F:  # ldr.w register, [pc]
            self._load(k >> 12, (at + 4 & ~3) + (k & 0xFFF) * (1 if h & 0x80 else -1))
        elif h & 0xFFF0 == 0xE8D0 and k & 0xFFE0 == 0xF000:  # tbb, tbh
            self.over = True
        elif h & 0xFBFF == 0xF20F and not k & 0x8000:  # adr.w
            self.tables |= 1 << (k >> 8 & 15)
        elif h & 0xFB70 in (0xF240, 0xF2C0) and not k & 0x8000:  # movw, movt
            self._move(h, k)
        elif k & 0x8F00 == 0x0D00:
            self._adjust(h, k)

    def _adjust(self, h: int, k: int) -> None:
        """add and sub to the stack pointer."""
        value = (h >> 10 & 1) << 11 | (k >> 12 & 7) << 8 | k & 0xFF
        if h & 0xFBEF == 0xF1AD:  # sub.w sp, sp, #const
            self.depth += _expanded(value)
        elif h & 0xFBEF == 0xF10D:
            self.depth -= _expanded(value)
        elif h & 0xFBFF == 0xF2AD:  # subw
            self.depth += value
        elif h & 0xFBFF == 0xF20D:
            self.depth -= value
        elif h & 0xFFEF == 0xEBAD:  # sub.w sp, sp, register
            constant = self.constants.get(k & 15)
            self._add(None if constant is None or k & 0x70F0 else -constant & 0xFFFFFFFF)
        elif h & 0xFFEF == 0xEB0D:
            self._add(self.constants.get(k & 15) if not k & 0x70F0 else None)

    def _wide_branch(self, at: int, h: int, k: int) -> None:
        sign = h >> 10 & 1
        if k & 0x5000 == 0x4000:  # a loop's start or end (Armv8.1-M), which stays in the function
            return
        if k & 0x5000 == 0x0000:  # b<c>.w, and instructions of the system where the condition is none
            if h >> 6 & 0xF < 0xE:
                low = (k & 1 << 11) >> 11 << 19 | (k >> 13 & 1) << 18 | (h & 0x3F) << 12 | (k & 0x7FF) << 1
                self._branch(at + 4 + _signed(sign << 20 | low, 21), False)
            return
        i1, i2 = (1 ^ (k >> 13 & 1) ^ sign), (1 ^ (k >> 11 & 1) ^ sign)
        offset = _signed(sign << 24 | i1 << 23 | i2 << 22 | (h & 0x3FF) << 12 | (k & 0x7FF) << 1, 25)
        target = at + 4 + offset
        if k & 0x4000 and not self.base < target < self.end:  # bl
            self.out.calls.append((target, self.depth))
            self.constants.clear()
            self.tables = 0
        else:  # b.w, or a bl that only reaches further than b
            self._branch(target, True)

    def _branch(self, target: int, always: bool) -> None:
        if self.base <= target < self.end:
            self.at_target.setdefault(target, self.depth)
        else:
            self.out.jumps.append((target, self.depth))
        self.over = self.over or always

    def _leave(self, register: int) -> None:
        if register != LR and not (self.popped | self.tables) >> register & 1:
            self.out.indirect.append(self.depth)
        self.over = True

    def _load(self, register: int, at: int) -> None:
        if self.base <= at and at + 4 <= self.end:
            self.constants[register] = self._word(at)
            self.out.words.add(self._word(at))

    def _move(self, h: int, k: int) -> None:
        register, value = k >> 8 & 15, (h & 15) << 12 | (h >> 10 & 1) << 11 | (k >> 12 & 7) << 8 | k & 0xFF
        if h & 0x80:  # movt
            value = value << 16 | self.constants.get(register, 0) & 0xFFFF
            self.out.words.add(value)
        self.constants[register] = value

    def _add(self, amount: int | None) -> None:
        """The stack pointer plus a constant of 32 bits; None: not known."""
        if amount is None:
            self.out.frame = None
        else:
            self.depth -= _signed(amount, 32)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 & 1 else value


def _expanded(value: int) -> int:
    """ThumbExpandImm of a constant of twelve bits."""
    low = value & 0xFF
    if value >> 10:
        by = value >> 7 & 0x1F
        unrotated = 0x80 | value & 0x7F
        return (unrotated >> by | unrotated << 32 - by) & 0xFFFFFFFF
    return (low, low << 16 | low, low << 24 | low << 8, low * 0x01010101)[value >> 8 & 3]
