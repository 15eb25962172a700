"""Serial ports of boards, found by the USB ids of the probes on them."""

from __future__ import annotations

from dataclasses import dataclass

from zobnn_edge.boards import board, boards
from zobnn_edge.errors import InputError

AUTO = "auto"


@dataclass(frozen=True)
class Port:
    """A serial port of a USB device; `serial_number` is that of the device."""

    device: str
    vendor: int
    product: int
    name: str
    serial_number: str

    def __str__(self) -> str:
        name = self.name or f"{self.vendor:04x}:{self.product:04x}"
        return f"{self.device} ({name}, serial number {self.serial_number})"

    def is_called(self, text: str) -> bool:
        """Whether a name or serial number, or a part of one, means this device."""
        return any(text.lower() in word.lower() for word in (self.device, self.name, self.serial_number))


def usb_ports() -> list[Port]:
    """The serial ports of all USB devices, by name of the port."""
    from serial.tools import list_ports  # only who looks for a port waits for it

    found = (p for p in list_ports.comports() if p.vid is not None)
    return sorted(
        (Port(p.device, p.vid, p.pid, p.product or "", p.serial_number or "?") for p in found), key=lambda p: p.device
    )


def candidates(board_name: str | None = None) -> list[Port]:
    """The ports of boards of that name, or of any board."""
    chosen = [board(board_name)] if board_name else boards().values()
    ids = {usb_id for b in chosen if b.probe for usb_id in b.probe.usb}
    return [port for port in usb_ports() if (port.vendor, port.product) in ids]


def find(board_name: str | None = None, called: str | None = None) -> Port:
    """The one port of a board, of any when None; of several the one whose name or serial number contains `called`.

    Raises InputError when there is none, and when there are several: the line lists them.
    """
    what = board_name or "a board"
    found = [port for port in candidates(board_name) if called is None or port.is_called(called)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{len(found)} ports may be {what}'s; name one: {', '.join(map(str, found))}")
    if board_name:
        probe = board(board_name).probe
        if probe is None or not probe.usb:
            raise InputError(f"{what} has no serial port on USB of its own; name the adapter's: serial:/dev/ttyUSB0")
    others = ", ".join(map(str, usb_ports())) or "none"
    wanted = f" called {called}" if called else ""
    raise InputError(f"no serial port of {what}{wanted} found; is it plugged in? USB serial ports: {others}")


def resolve(text: str) -> str:
    """The name of the port that TEXT of `serial:TEXT` means: `auto` and a board's name are looked up, others are it."""
    if text == AUTO:
        return find().device
    return find(text).device if text in boards() else text
