"""A network as one C header: its parameters, readable, typed and in place; its plan; their sizes and CRC-32s.

The header compiles alone, as C99 and as C++98. It holds a struct with one array a parameter, whose bytes are the
parameter image (the header checks every offset), and the plan as words: what `zob_load` and `zob_run` take.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from zobnn_edge.encoding import Binary, Float32, Int32, Uniform, row_bits
from zobnn_edge.errors import ModelError
from zobnn_edge.features import features, masks
from zobnn_edge.image import ParameterImage, Region
from zobnn_edge.model_file import Model

# Words of C99 and C++20, macros that compilers predefine, and what the header itself includes.
_WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long register
restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
alignas alignof and and_eq asm bitand bitor bool catch char8_t char16_t char32_t class co_await co_return co_yield
compl concept const_cast consteval constexpr constinit decltype delete dynamic_cast explicit export false friend
mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public reinterpret_cast
requires static_assert static_cast template this thread_local throw true try typeid typename using virtual wchar_t
xor xor_eq linux unix i386 arm NULL offsetof size_t ptrdiff_t uint8_t uint16_t uint32_t
"""
_KEYWORDS = frozenset(_WORDS.split())
_SIZES = {"uint8_t": 1, "uint16_t": 2, "uint32_t": 4, "float": 4}


@dataclass(frozen=True)
class _Member:
    """One array of the struct: `size` bytes of the image from `offset` on, as elements of `c_type`."""

    name: str
    c_type: str
    offset: int
    size: int
    comment: str


def c_header(model: Model, name: str = "model") -> str:
    """The header of a model. `name` begins every identifier: `<name>_image`, `<name>_plan`, `<NAME>_IMAGE_BYTES` ...

    Raises ModelError for a network without parameters, and for a `name` that is no C identifier.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in _KEYWORDS:
        raise ModelError(f"{name!r} cannot begin C identifiers; take letters, digits and underscores")
    if not model.image.regions:
        raise ModelError(f"{model.network.name}: has no parameters; there is nothing to put in a header")
    members = _members(model.image)
    guard = f"{name.upper()}_H"
    parts = [
        f"/* {_comment(model.network.name)}: parameters and plan, written by zobnn-edge.\n *\n"
        f" * The bytes of {name}_image are the parameter image, on every little-endian machine; copy them to RAM,\n"
        f" * aligned to 4 bytes, or let zob_run read them where they are. {name}_plan is what zob_load takes. */",
        f"#ifndef {guard}\n#define {guard}\n\n#include <stddef.h>\n#include <stdint.h>",
        _macros(model, name.upper()),
        _struct(members, name),
        _checks(members, name, len(model.image.data)),
        _instance(members, name, model.image.data),
        _plan(model.plan, name),
        "#endif\n",
    ]
    return "\n\n".join(parts)


def identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """A C and C++ identifier for each name, in order: no two equal, none equal to a keyword or one of `taken`."""
    used = set(taken) | _KEYWORDS
    out = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "parameter"
        if base[0].isdigit():
            base = f"p_{base}"
        candidate, n = base, 2
        while candidate in used:
            candidate, n = f"{base}_{n}", n + 1
        used.add(candidate)
        out.append(candidate)
    return out


def _members(image: ParameterImage) -> list[_Member]:
    """The regions, and the gaps between them, in order of address."""
    types = [_c_type(image, region) for region in image.regions]
    if not {"uint32_t", "float"} & set(types):
        types[0] = "uint32_t"  # the struct must be aligned to 4 bytes, so one member has to be
    members: list[_Member] = []
    end = 0
    pads = 0
    names = identifiers((region.name for region in image.regions), _pad_names(len(image.regions) + 1))
    ends = [region.offset for region in image.regions[1:]] + [len(image.data)]
    for region, name, c_type, next_offset in zip(image.regions, names, types, ends, strict=True):
        unit = _SIZES[c_type]
        size = -(-region.bytes // unit) * unit
        members.append(_Member(name, c_type, region.offset, size, _describe(region, c_type)))
        end = region.offset + size
        if end < next_offset:
            members.append(_Member(f"pad_{pads}", "uint8_t", end, next_offset - end, ""))
            pads += 1
    return members


def _pad_names(count: int) -> Iterator[str]:
    return (f"pad_{i}" for i in range(count))


def _c_type(image: ParameterImage, region: Region) -> str:
    encoding = region.encoding
    if isinstance(encoding, Float32):
        return "float" if np.isfinite(image.values(region.name)).all() else "uint32_t"
    if encoding.row or isinstance(encoding, Int32):
        return "uint32_t"
    return "uint16_t" if encoding.bits == 16 else "uint8_t"


def _describe(region: Region, c_type: str) -> str:
    encoding = region.encoding
    shape = " x ".join(map(str, region.shape))
    if isinstance(encoding, Uniform):
        low, high = encoding.range
        kind = (
            f"{encoding.bits}-bit codes q in [{low:.6g}, {high:.6g}], "
            f"value = {np.float32(encoding.scale):.9g} * (q - {encoding.zero_point})"
        )
    elif isinstance(encoding, Binary):
        kind = "binary, 1 bit: 0 is +1, 1 is -1"
    elif isinstance(encoding, Int32):
        kind = "int32 in two's complement"
    else:
        kind = "float32" if c_type == "float" else "float32 as bit patterns, since some are not finite"
    rows = f"; rows of {encoding.row} elements in {row_bits(encoding) // 32} words" if encoding.row else ""
    return f"layer {region.layer}, {region.role}, {shape}: {kind}{rows}; {region.bits} bits"


def _macros(model: Model, prefix: str) -> str:
    h, w, c = model.network.input_shape
    ops, kernels = masks(features(model))
    macros: list[tuple[str, str]] = [
        ("NAME", _c_string(model.network.name)),
        ("PLAN_BYTES", f"{len(model.plan)}u"),
        ("PLAN_CRC", f"0x{zlib.crc32(model.plan):08X}u"),
        ("IMAGE_BYTES", f"{len(model.image.data)}u"),
        ("IMAGE_CRC", f"0x{model.image.crc:08X}u"),
        ("ARENA_BYTES", f"{model.arena_bytes}u"),
        ("OPS", f"0x{ops:08X}u"),
        ("KERNELS", f"0x{kernels:08X}u"),
        ("SMALL", f"0x{int(model.prefer == 'size'):X}u"),
        ("INPUT_HEIGHT", f"{h}u"),
        ("INPUT_WIDTH", f"{w}u"),
        ("INPUT_CHANNELS", f"{c}u"),
        ("INPUT_COUNT", f"{h * w * c}u"),
        ("OUTPUT_COUNT", f"{model.network.outputs}u"),
    ]
    return "\n".join(f"#define {prefix}_{key} {value}" for key, value in macros)


def _struct(members: list[_Member], name: str) -> str:
    lines = [f"struct {name}_parameters {{"]
    for m in members:
        comment = f" /* {_comment(m.comment)} */" if m.comment else " /* 0 */"
        lines.append(f"    {m.c_type} {m.name}[{m.size // _SIZES[m.c_type]}];{comment}")
    return "\n".join([*lines, "};"])


def _checks(members: list[_Member], name: str, size: int) -> str:
    struct = f"struct {name}_parameters"
    lines = ["/* The build stops here when a compiler lays the struct out in another way than the image. */"]
    lines.append(f"typedef char {name}_check_size[sizeof({struct}) == {size} ? 1 : -1];")
    for i, m in enumerate(members):
        lines.append(f"typedef char {name}_check_{i}[offsetof({struct}, {m.name}) == {m.offset} ? 1 : -1];")
    return "\n".join(lines)


def _instance(members: list[_Member], name: str, data: bytes) -> str:
    rows = []
    for m in members:
        raw = data[m.offset : m.offset + m.size]
        rows.append(f"    {{ /* {m.name} */\n{_numbers(raw, m.c_type)}\n    }}")
    return f"static const struct {name}_parameters {name}_image = {{\n" + ",\n".join(rows) + "\n};"


def _plan(plan: bytes, name: str) -> str:
    return f"static const uint32_t {name}_plan[{len(plan) // 4}] = {{\n{_numbers(plan, 'uint32_t')}\n}};"


def _numbers(raw: bytes, c_type: str) -> str:
    """The elements as C constants, about a hundred columns a line."""
    if c_type == "float":
        texts = [_c_float(value) for value in np.frombuffer(raw, "<f4")]
    else:
        size = _SIZES[c_type]
        texts = [f"0x{value:0{2 * size}X}u" for value in np.frombuffer(raw, f"<u{size}").tolist()]
    per_line = {"uint8_t": 16, "uint16_t": 12}.get(c_type, 8)
    lines = [", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)]
    return ",\n".join(f"        {line}" for line in lines)


def _c_float(value: np.float32) -> str:
    """A finite float32 as a C constant that stands for exactly it: nine digits are enough."""
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _comment(text: str) -> str:
    """Text that cannot end the comment it stands in, nor splice its line with the next."""
    printable = "".join(ch if ch.isprintable() and ch not in "\\?" else "_" for ch in text)
    return printable.replace("*/", "* /").replace("/*", "/ *")


def _c_string(text: str) -> str:
    """A string literal of the UTF-8 bytes; all but plain characters as octal escapes."""
    plain = re.compile(rb"[A-Za-z0-9 _.,:;/()+-]")
    return '"' + "".join(chr(b) if plain.match(bytes([b])) else f"\\{b:03o}" for b in text.encode()) + '"'
