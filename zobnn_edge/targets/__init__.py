"""Where a network runs: the host's engine, the firmware as a process, an emulated board, a board on a serial port,
firmware behind a debug probe."""

from __future__ import annotations

from zobnn_edge.errors import InputError
from zobnn_edge.model_file import Model
from zobnn_edge.targets.base import Flip, Options, RunResult, Target, TargetInfo

__all__ = ["Flip", "Options", "RunResult", "Target", "TargetInfo", "open_target"]


def open_target(spec: str, model: Model, options: Options = Options()) -> Target:  # noqa: B008 - it is frozen
    """Open a target with a model in it: `host`, `native`, `qemu:BOARD`, `serial:PORT`, or by a debug probe's
    server `gdb:HOST:PORT,FW.elf` or `gdb:BOARD` (emulated).

    PORT may be the name of a board or `auto`: then the port is found by USB ids (`zobnn_edge.ports`).

    Raises InputError for anything else, and what the target raises (ToolError, TargetError) when it does not come up.
    """
    kind, _, rest = spec.partition(":")
    if spec == "host":
        from zobnn_edge.targets.host import HostTarget

        return HostTarget(model)
    if spec == "native":
        from zobnn_edge.targets.native import NativeTarget

        return NativeTarget(model, options)
    if kind == "qemu" and rest:
        from zobnn_edge.targets.emulated import EmulatedTarget

        return EmulatedTarget(rest, model, options)
    if kind == "serial" and rest:
        from zobnn_edge.ports import resolve
        from zobnn_edge.targets.serial import SerialTarget

        return SerialTarget(resolve(rest), model, options)
    if kind == "gdb" and rest:
        from zobnn_edge.targets.probe import ProbeTarget

        return ProbeTarget(rest, model)
    raise InputError(f"there is no target {spec!r}; targets are host, native, qemu:BOARD, serial:PORT and gdb:PLACE")
