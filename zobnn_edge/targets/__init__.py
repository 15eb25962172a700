"""Where a network runs: the host's engine, the firmware as a process, an emulated board, a board on a serial port."""

from __future__ import annotations

from zobnn_edge.errors import InputError
from zobnn_edge.model_file import Model
from zobnn_edge.targets.base import Flip, RunResult, Target, TargetInfo

__all__ = ["Flip", "RunResult", "Target", "TargetInfo", "open_target"]


def open_target(spec: str, model: Model) -> Target:
    """Open a target with a model in it: `host`, `native`, `qemu:BOARD` or `serial:PORT`.

    PORT may be the name of a board or `auto`: then the port is found by USB ids (`zobnn_edge.ports`).

    Raises InputError for anything else, and what the target raises (ToolError, TargetError) when it does not come up.
    """
    kind, _, rest = spec.partition(":")
    if spec == "host":
        from zobnn_edge.targets.host import HostTarget

        return HostTarget(model)
    if spec == "native":
        from zobnn_edge.targets.native import NativeTarget

        return NativeTarget(model)
    if kind == "qemu" and rest:
        from zobnn_edge.targets.emulated import EmulatedTarget

        return EmulatedTarget(rest, model)
    if kind == "serial" and rest:
        from zobnn_edge.ports import resolve
        from zobnn_edge.targets.serial import SerialTarget

        return SerialTarget(resolve(rest), model)
    raise InputError(f"there is no target {spec!r}; targets are host, native, qemu:BOARD and serial:PORT")
