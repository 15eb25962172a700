"""The worst case of the stack: what the instructions do, what GCC reports, and what a painted stack shows."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

from tests.audit.checks import ram_is_what_hello_says, stack_is_bounded
from tests.audit.conftest import Compile
from tests.audit.paint import use
from zobnn_edge.audit import stack
from zobnn_edge.audit.audit import Audit, Firmware, audit_firmware
from zobnn_edge.audit.stack import frames, worst_case
from zobnn_edge.audit.thumb import flow
from zobnn_edge.boards import board
from zobnn_edge.firmware import built
from zobnn_edge.model_file import Model

RUN = ["microbit", "mps2-an386", "mps3-an547"]
"""An M0, an M4 and an M55; all boards are in the study (test_zoo.py)."""


def test_instructions_and_compiler_agree_about_frames(firmware: Firmware) -> None:
    """But for functions that keep arguments on the stack, which GCC leaves out: 8 bytes at most."""
    graph = stack._Graph(firmware.elf, {})
    pairs = [
        (f.name, graph.flows[i].frame, firmware.frames[f.name].bytes)
        for i, f in enumerate(graph.functions)
        if f.name in firmware.frames
    ]
    assert len(pairs) > 100
    assert all(ours is not None and 0 <= ours - theirs <= 8 for _, ours, theirs in pairs), pairs
    assert sum(ours != theirs for _, ours, theirs in pairs) <= 0.05 * len(pairs)


def test_calls_are_those_that_objdump_lists(firmware: Firmware) -> None:
    """Every bl of the disassembly is an edge, and there is no other."""
    out = subprocess.run(["arm-none-eabi-objdump", "-d", firmware.path], capture_output=True, text=True, check=True)
    graph = stack._Graph(firmware.elf, {})
    listed: dict[int, list[int]] = {}
    for m in re.finditer(r"^\s*([0-9a-f]+):\t[0-9a-f ]+\tbl\t([0-9a-f]+) <", out.stdout, re.M):
        caller = graph._function(int(m[1], 16))
        target = int(m[2], 16)
        if caller is not None and graph._function(target) != caller:
            listed.setdefault(caller, []).append(target)
    ours = {i: [t for t, _ in f.calls if graph._function(t) != i] for i, f in enumerate(graph.flows)}
    assert {i: sorted(calls) for i, calls in ours.items() if calls} == {i: sorted(c) for i, c in listed.items()}


def test_the_worst_case_of_every_board_is_bounded_and_resolved(firmware: Firmware, audited: Audit) -> None:
    assert audited.stack is not None
    assert (audited.stack.recursion, audited.stack.unbounded, audited.stack.unresolved) == ((), (), ())
    path = [step["function"] for step in audited.stack.path]
    assert path[0] == "reset_handler"
    assert "zob_run" in path, "through the pointers of commands_do and board_count"
    assert audited.stack.main == audited.stack.path[0]["below"] == sum(s["bytes"] for s in audited.stack.path)
    assert audited.stack.worst is not None
    assert audited.stack.worst <= (audited.stack.reserved or 0)


@pytest.mark.parametrize("name", RUN)
def test_a_running_board_keeps_to_the_audit(name: str, model: Model, inputs: np.ndarray) -> None:
    """RAM is what its firmware reports, the stack that it uses is within the worst case."""
    audit = audit_firmware(Firmware.read(built(model, name)), board(name), model)
    found = use(model, name, inputs)
    ram_is_what_hello_says(audit, found.hello)
    stack_is_bounded(audit, found.stack)


RECURSION = """
__attribute__((noinline)) int down(volatile int *x, int n) { return *x + (n ? down(x, n - 1) + 1 : 0); }
int main(int n, char **v) { volatile int x = n; return down(&x, n); }
"""
POINTER = """
typedef int (*function)(int);
__attribute__((noinline)) int deep(int x) { volatile int y[100]; y[x] = 1; return y[x]; }
__attribute__((noinline)) int flat(int x) { return x + 1; }
static const function table[] = {deep, flat};
__attribute__((noinline)) int call(function f, int x) { return f(x) + 1; }
int main(int n, char **v) { return call(table[n], n); }
"""
UNKNOWN = """
int (*hook)(int);
int main(int n, char **v) { return hook(n) + 1; }
"""
DYNAMIC = """
int main(int n, char **v) { volatile char x[n]; x[0] = 1; return x[0]; }
"""


def of_program(compile_c: Compile, source: str, *options: str) -> stack.Stack:
    firmware = Firmware.read(compile_c(source, "-Wl,-emain", *options))
    found = worst_case(firmware.elf, firmware.frames)
    assert found is not None
    return found


def test_recursion_has_no_bound_and_is_named(compile_c: Compile) -> None:
    found = of_program(compile_c, RECURSION)
    assert found.bytes is None
    assert found.recursion == ("down",)


def test_a_call_through_a_table_reaches_its_deepest_function(compile_c: Compile) -> None:
    found = of_program(compile_c, POINTER)
    assert [step.function for step in found.path] == ["main", "call", "deep"]
    assert found.bytes is not None
    assert found.bytes >= 400
    assert found.unresolved == ()


def test_a_pointer_from_nowhere_is_reported(compile_c: Compile) -> None:
    found = of_program(compile_c, UNKNOWN)
    assert found.unresolved == ("main",)
    assert found.bytes is not None, "a lower bound"


def test_a_frame_that_grows_has_no_bound(compile_c: Compile) -> None:
    assert of_program(compile_c, DYNAMIC).unbounded == ("main",)


@pytest.mark.parametrize("option", ["-fstack-usage", "-fcallgraph-info=su,da"])
def test_reports_of_the_compiler_are_read(compile_c: Compile, option: str) -> None:
    def reported(source: str) -> dict[str, stack.Frame]:
        folder = compile_c(source, option).parent
        [report] = [p for p in folder.iterdir() if p.suffix in (".su", ".ci")]
        return frames(report.read_text())

    found = reported(POINTER)
    assert found.keys() == {"deep", "flat", "call", "main"}
    assert found["deep"].bytes >= 400
    assert found["flat"].bytes == 0
    assert all(frame.bounded for frame in found.values())
    assert not reported(DYNAMIC)["main"].bounded


@pytest.mark.parametrize(
    ("code", "frame"),
    [
        ("00b5 00bd", 4),  # push {lr}; pop {pc}
        ("2de9f04f bde8f08f", 36),  # push.w {r4-r11, lr}; pop.w {r4-r11, pc}
        ("2ded048b bdec048b 7047", 16),  # vpush {d8, d9}; vpop {d8, d9}; bx lr
        ("82b0 02b0 7047", 8),  # sub sp, #8; add sp, #8; bx lr
        ("adf5005d 0df5005d 7047", 0x2000),  # sub.w sp, sp, #0x2000; add.w sp, sp, #0x2000; bx lr
        ("adf2044d 0df2044d 7047", 0x404),  # subw sp, sp, #0x404; addw sp, sp, #0x404; bx lr
        ("4df8047d 5df8047b 7047", 4),  # str r7, [sp, #-4]!; ldr r7, [sp], #4; bx lr
        ("014b 9d44 7047 c046 f8feffff", 0x108),  # ldr r3, =-0x108; add sp, r3; bx lr
        ("9d44 7047", None),  # add sp, r3, whatever that is
    ],
)
def test_instructions_that_move_the_stack_pointer(code: str, frame: int | None) -> None:
    raw = bytes.fromhex(code.replace(" ", ""))
    data = [(8, 12)] if raw.endswith(b"\xff\xff") else []
    assert flow(0, raw, data).frame == frame


def test_a_return_in_the_middle_does_not_hide_what_follows() -> None:
    """push {r4, lr}; cbz r0, 1f; pop {r4, pc}; 1: push {r5}; ..."""
    raw = bytes.fromhex("10b5 00b1 10bd 20b4 20bc 10bd".replace(" ", ""))
    assert flow(0, raw).frame == 12
