"""The map file of GNU ld: the regions of the linker script, and which object file every input section is from."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import PurePosixPath

from zobnn_edge.boards import Memory

_REGION = re.compile(r"^(\S+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)(?:\s+[a-zA-Z!]+)?$")
# A long name stands on a line of its own; then what belongs to it is indented on the next.
_SECTION = re.compile(r"^ (\S+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) (\S.*)$", re.M)


@dataclass(frozen=True)
class InputSection:
    """A piece of an object file as the linker placed it: where it begins, its bytes, its name and its object."""

    address: int
    bytes: int
    name: str
    object: str


@dataclass(frozen=True)
class LinkMap:
    """Regions by name, and the input sections that take memory, in ascending order of address."""

    regions: dict[str, Memory]
    sections: tuple[InputSection, ...]

    def at(self, address: int) -> InputSection | None:
        """The input section that holds an address; None where the linker filled up or there is none."""
        i = bisect_right(self.sections, address, key=lambda s: s.address) - 1
        if i < 0 or address >= self.sections[i].address + self.sections[i].bytes:
            return None
        return self.sections[i]


EMPTY = LinkMap({}, ())


def parse(text: str) -> LinkMap:
    """Read a map file; whatever is not understood is passed over."""
    head, _, body = text.partition("Linker script and memory map")
    _, _, table = head.partition("Memory Configuration")
    regions = {}
    for line in table.splitlines():
        if (found := _REGION.match(line.strip())) and found[1] != "*default*":
            regions[found[1]] = Memory(int(found[2], 16), int(found[3], 16))
    body, _, _ = body.partition("Cross Reference Table")
    sections = [
        InputSection(int(address, 16), int(size, 16), name, _short(place))
        for name, address, size, place in _SECTION.findall(re.sub(r"^( \S+)\n\s+0x", r"\1 0x", body, flags=re.M))
        if int(size, 16) and not name.startswith("*") and not name.startswith((".debug", ".comment", ".ARM.attributes"))
    ]
    return LinkMap(regions, tuple(sorted(sections, key=lambda s: s.address)))


def _short(place: str) -> str:
    """An object's name without the folders it lies in: `zob_run.c.obj`, `libgcc.a(_udivmoddi4.o)`."""
    archive, bracket, member = place.partition("(")
    return PurePosixPath(archive.strip()).name + bracket + member
