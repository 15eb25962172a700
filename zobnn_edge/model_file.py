"""The model file (.zob): a plan, its parameter image and its names, with lengths and CRC-32s (docs/spec.md)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from zobnn_edge import format as fmt
from zobnn_edge import plan as planner
from zobnn_edge.errors import ModelError
from zobnn_edge.files import read_bytes, write_atomic
from zobnn_edge.image import ParameterImage
from zobnn_edge.layout import choose
from zobnn_edge.network import Network
from zobnn_edge.work import Work


@dataclass(frozen=True)
class Model:
    """A network ready to run: what the engine gets (plan, image) and what people see (network)."""

    network: Network
    plan: bytes
    image: ParameterImage

    @staticmethod
    def of(net: Network, arena_limit: int | None = None, prefer: planner.Preference = "speed") -> Model:
        """Lay out a network; raises ModelError when it is inconsistent or too large for the format.

        `arena_limit`: bytes of arena up to which binary convolutions may trade memory for speed (`layout.choose`).
        `prefer`: "size" has firmware compiled for few bytes of code, and convolutions work in the least arena.
        """
        image = ParameterImage.of(net.validate())
        work = choose(net, 0 if prefer == "size" else arena_limit)
        return Model(net, planner.encode(net, image, work, prefer), image)

    @property
    def prefer(self) -> planner.Preference:
        """Whether firmware is to be fast or small."""
        return planner.preference(self.plan)

    @property
    def work(self) -> dict[str, Work]:
        """How the plan computes its binary convolutions, by name."""
        return planner.work(self.plan, planner.Names.of(self.network))

    @property
    def arena_bytes(self) -> int:
        """Bytes of working memory that one inference needs."""
        return int(fmt.PLAN_HEADER.unpack(self.plan)["arena_bytes"])

    def to_bytes(self) -> bytes:
        """The contents of a .zob file."""
        names = planner.Names.of(self.network).encode()
        sections = {"plan": self.plan, "image": self.image.data, "names": names}
        fields: dict[str, int] = {}
        body = bytearray(fmt.FILE_HEADER.size)
        for name, data in sections.items():
            body += bytes(-len(body) % fmt.ALIGN)
            fields[f"{name}_offset"] = len(body)
            fields[f"{name}_bytes"] = len(data)
            fields[f"{name}_crc"] = zlib.crc32(data)
            body += data
        header = fmt.FILE_HEADER.pack(
            magic=fmt.FILE_MAGIC, version=fmt.VERSION, file_bytes=len(body), reserved=0, header_crc=0, **fields
        )
        body[: len(header)] = header[:-4] + zlib.crc32(header[:-4]).to_bytes(4, "little")
        return bytes(body)

    @staticmethod
    def from_bytes(data: bytes, where: str = "model") -> Model:
        """Read the contents of a .zob file; raises ModelError naming `where` and what is wrong."""
        try:
            return _parse(data)
        except (ValueError, UnicodeDecodeError, ModelError) as error:
            raise ModelError(f"{where}: not a usable model file: {error}") from None


def save(net: Network, path: Path, arena_limit: int | None = None, prefer: planner.Preference = "speed") -> Model:
    """Write a network as a .zob file, whole or not at all; returns the model. Options are those of `Model.of`."""
    model = Model.of(net, arena_limit, prefer)
    write_atomic(path, model.to_bytes())
    return model


def load(path: Path) -> Model:
    """Read a .zob file; raises InputError or ModelError with one clear line."""
    return Model.from_bytes(read_bytes(path), str(path))


def _parse(data: bytes) -> Model:
    if len(data) < fmt.FILE_HEADER.size:
        raise ValueError(f"{len(data)} bytes are too few for a header; is the file complete?")
    h = fmt.FILE_HEADER.unpack(data)
    if h["magic"] != fmt.FILE_MAGIC:
        raise ValueError("it does not begin with ZOBN")
    if zlib.crc32(data[: fmt.FILE_HEADER.size - 4]) != h["header_crc"]:
        raise ValueError("the header is damaged (CRC-32)")
    if h["version"] != fmt.VERSION:
        raise ValueError(f"its format version is {h['version']}; this tool reads {fmt.VERSION}")
    if h["file_bytes"] != len(data):
        raise ValueError(f"it should have {h['file_bytes']} bytes, it has {len(data)}; is it truncated?")
    sections = {}
    for name in ("plan", "image", "names"):
        start, size = h[f"{name}_offset"], h[f"{name}_bytes"]
        section = data[start : start + size]
        if len(section) != size:
            raise ValueError(f"the {name} runs past the end")
        if zlib.crc32(section) != h[f"{name}_crc"]:
            raise ValueError(f"the {name} is damaged (CRC-32)")
        sections[name] = section
    names = planner.Names.decode(sections["names"], *planner.counts(sections["plan"]))
    network = planner.decode(sections["plan"], names, sections["image"])
    image = ParameterImage.of(network)
    work, prefer = planner.work(sections["plan"], names), planner.preference(sections["plan"])
    if image.data != sections["image"] or planner.encode(network, image, work, prefer) != sections["plan"]:
        raise ValueError("plan and image contradict each other")
    return Model(network, sections["plan"], image)
