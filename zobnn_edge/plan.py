"""The plan: the records that the engine reads.

`encode` turns a network into the plan's bytes, `decode` turns them back into the same network. Both follow
docs/spec.md; the records are declared in `format.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from zobnn_edge import format as fmt
from zobnn_edge.encoding import (
    Binary,
    Clamped,
    Code,
    Encoding,
    Float16,
    Float32,
    Guarded,
    Int32,
    Protected,
    Scales,
    Uniform,
    code_of,
)
from zobnn_edge.errors import ModelError
from zobnn_edge.image import ParameterImage, Region
from zobnn_edge.layout import fuse, lay_out
from zobnn_edge.network import Network, Pixels
from zobnn_edge.operations import (
    Add,
    AddInt8,
    Affine,
    AveragePool,
    Clip,
    Concat,
    Conv,
    ConvInt8,
    Dequantize,
    DynamicRange,
    GatedConv,
    LowBit,
    MaxPool,
    Mul,
    Op,
    Pad,
    Padding,
    PRelu,
    Quantize,
    Reshape,
    Sign,
    Softmax,
    SoftmaxInt8,
    Thermometer,
    Threshold,
    Unpack,
)
from zobnn_edge.protection import Hamming, Protection, Secded, Voted
from zobnn_edge.shapes import extent, window_geometry
from zobnn_edge.tensor import Quantization, Tensor
from zobnn_edge.work import Algorithm, Work

_OPCODE_OF: dict[type, int] = {
    Conv: fmt.OPCODES["conv"],
    MaxPool: fmt.OPCODES["max_pool"],
    AveragePool: fmt.OPCODES["average_pool"],
    Affine: fmt.OPCODES["affine"],
    PRelu: fmt.OPCODES["prelu"],
    Clip: fmt.OPCODES["clip"],
    Sign: fmt.OPCODES["sign"],
    Threshold: fmt.OPCODES["threshold"],
    Unpack: fmt.OPCODES["unpack"],
    Add: fmt.OPCODES["add"],
    Softmax: fmt.OPCODES["softmax"],
    Reshape: fmt.OPCODES["reshape"],
    Mul: fmt.OPCODES["mul"],
    Concat: fmt.OPCODES["concat"],
    Pad: fmt.OPCODES["pad"],
    Thermometer: fmt.OPCODES["thermometer"],
    Quantize: fmt.OPCODES["quantize"],
    Dequantize: fmt.OPCODES["dequantize"],
    ConvInt8: fmt.OPCODES["conv_int8"],
    AddInt8: fmt.OPCODES["add_int8"],
    SoftmaxInt8: fmt.OPCODES["softmax_int8"],
    DynamicRange: fmt.OPCODES["dynamic_range"],
    LowBit: fmt.OPCODES["low_bit"],
    GatedConv: fmt.OPCODES["gated_conv"],
}
Preference = Literal["speed", "size"]
"""Whether firmware is to be fast or small, where it cannot be both."""

_NAMES = {code: name for name, code in fmt.OPCODES.items()}


def opcode(op: Op) -> str:
    """The name of an operation's code."""
    return _NAMES[_OPCODE_OF[type(op)]]


def encode(
    net: Network,
    image: ParameterImage | None = None,
    work: Mapping[str, Work] | None = None,
    prefer: Preference = "speed",
) -> bytes:
    """The plan of a network as bytes (docs/spec.md, "Plan").

    `work`: how binary convolutions are computed, by name; by default what `layout.choose` chooses. `prefer`: what
    firmware is compiled for.
    """
    image = image or ParameterImage.of(net)
    layout = lay_out(net, work)
    tensors = list(net.tensors.values())
    index = {t.name: i for i, t in enumerate(tensors)}
    parameter = {name: i for i, name in enumerate(net.parameters)}
    for count, limit, what in (
        (len(tensors), fmt.MAX_TENSORS, "tensors"),
        (len(net.ops), fmt.MAX_OPS, "operations"),
        (len(parameter), fmt.MAX_PARAMETERS, "parameters"),
    ):
        if count > limit:
            raise ModelError(f"{net.name}: {count} {what}; a model file holds at most {limit}")
    for t in tensors:
        if max(t.shape) > fmt.MAX_DIM:
            raise ModelError(f"{t.name}: shape {t.shape} has a side above {fmt.MAX_DIM}")
    records = b"".join(_tensor_record(t, layout.offsets.get(t.name, fmt.NONE)) for t in tensors)
    records += b"".join(_parameter_record(r) for r in image.regions)
    for group in layout.groups:
        for place, op in enumerate(group):
            how = layout.work.get(op.name)
            flags = (fmt.FLAG_FUSED if place else 0) | (fmt.FLAG_SMALL if prefer == "size" else 0)
            records += _op_record(net, op, flags, layout.scratch[op.name], how, index, parameter)
    header = fmt.PLAN_HEADER.pack(
        magic=fmt.PLAN_MAGIC,
        version=fmt.VERSION,
        plan_bytes=fmt.PLAN_HEADER.size + len(records),
        image_bytes=len(image.data),
        arena_bytes=layout.arena_bytes,
        tensors=len(tensors),
        parameters=len(parameter),
        ops=len(net.ops),
        input=index[net.input],
        output=index[net.output],
        pixel_scale=net.pixels.scale,
        pixel_offset=net.pixels.offset,
    )
    return header + records


def _tensor_record(t: Tensor, offset: int) -> bytes:
    h, w, c = t.shape
    q = t.quantization
    return fmt.TENSOR.pack(
        kind=fmt.KINDS[t.kind],
        height=h,
        width=w,
        channels=c,
        offset=offset,
        scale=q.scale,
        zero_point=q.zero_point,
    )


def _parameter_record(region: Region) -> bytes:
    e = region.encoding
    code, by = code_of(e), e.by if isinstance(e, Protected) else None
    zero_point = code.exponent if isinstance(code, Guarded) else 0
    return fmt.PARAMETER.pack(
        role=fmt.ROLES[region.role],
        encoding=fmt.ENCODINGS[type(code).__name__.lower()],
        bits=e.bits,
        rank=len(region.shape),
        protection=fmt.PROTECTIONS[type(by).__name__.lower() if by else "none"],
        voted=by.top if isinstance(by, Voted) else 0,
        scales=fmt.SCALES[code.scales] if isinstance(code, Uniform) else 0,
        reserved=0,
        scale=code.scale if isinstance(code, Uniform) else 1.0,
        zero_point=code.zero_point if isinstance(code, Uniform) else zero_point,
        low=code.low if isinstance(code, Clamped) else 0.0,
        high=code.high if isinstance(code, Clamped) else 0.0,
        offset=region.offset,
        count=region.count,
        row=e.row,
        dims=region.shape + (1,) * (4 - len(region.shape)),
    )


def _op_record(
    net: Network,
    op: Op,
    flags: int,
    scratch: int,
    work: Work | None,
    index: dict[str, int],
    parameter: dict[str, int],
) -> bytes:
    f: dict[str, Any] = {
        "opcode": _OPCODE_OF[type(op)],
        "flags": flags,
        "input": index[op.input],
        "other": fmt.NONE,
        "output": index[op.output],
        "parameter": fmt.NONE,
        "bias": fmt.NONE,
        "multiplier": fmt.NONE,
        "kernel": (0, 0),
        "stride": (0, 0),
        "pad": (0, 0),
        "padding": 0,
        "pad_value": 0,
        "groups": 0,
        "dilation": (0, 0),
        "low": 0.0,
        "high": 0.0,
        "scratch": scratch,
        "scratch_bytes": work.bytes if work else 0,
        "algorithm": fmt.ALGORITHMS[work.algorithm if work else "none"],
    }
    if isinstance(op, (Conv, GatedConv, ConvInt8, MaxPool, AveragePool)):
        kernel = op.size if isinstance(op, (MaxPool, AveragePool)) else net.parameters[op.weight].shape[1:3]
        covered = (kernel[0], kernel[1])
        if isinstance(op, (Conv, ConvInt8)):
            covered = extent(covered, op.dilation)
        _, pad = window_geometry(net.tensors[op.input].shape[:2], covered, op.stride, op.padding)
        f.update(kernel=kernel, stride=op.stride, pad=pad, padding=fmt.PADDINGS[op.padding])
    if isinstance(op, Conv):
        f.update(parameter=parameter[op.weight], pad_value=op.pad_value, groups=op.groups, dilation=op.dilation)
    elif isinstance(op, GatedConv):
        f.update(parameter=parameter[op.weight], bias=parameter[op.threshold], groups=1, dilation=(1, 1))
    elif isinstance(op, ConvInt8):
        f.update(parameter=parameter[op.weight], bias=parameter[op.bias], groups=op.groups, dilation=op.dilation)
    elif isinstance(op, Affine):
        f.update(low=op.gain)
        if op.scale is not None:
            f.update(parameter=parameter[op.scale])
        if op.bias is not None:
            f.update(bias=parameter[op.bias])
    elif isinstance(op, PRelu):
        f.update(parameter=parameter[op.slope])
    elif isinstance(op, Threshold):
        f.update(parameter=parameter[op.threshold])
    elif isinstance(op, Clip):
        f.update(low=op.low, high=op.high)
    elif isinstance(op, LowBit):
        f.update(low=op.bound)
    if isinstance(op, (Add, AddInt8, Mul, Concat, GatedConv)):
        f.update(other=index[op.other])
    if isinstance(op, Pad):
        f.update(pad=(op.rows[0], op.columns[0]), low=op.value)
    elif isinstance(op, Thermometer):
        f.update(low=op.gain)
    elif isinstance(op, DynamicRange):
        f.update(low=float(op.symmetric))
    if isinstance(op, (ConvInt8, AddInt8)):
        f.update(low=op.low, high=op.high)
    if isinstance(op, (ConvInt8, AddInt8, SoftmaxInt8)):
        f.update(multiplier=parameter[op.multiplier])
    try:
        return fmt.OP.pack(**f)
    except ValueError as error:  # a stride, a dilation, a padding that no sensible network has
        raise ModelError(f"{op.output}: a number does not fit the format: {error}") from None


@dataclass(frozen=True)
class Names:
    """The names that a plan leaves out, in the order of its records."""

    network: str
    tensors: tuple[str, ...]
    parameters: tuple[str, ...]
    layers: tuple[str, ...]
    ops: tuple[str, ...]

    @staticmethod
    def of(net: Network) -> Names:
        """The names of a network, in the order in which `encode` writes records."""
        ops = tuple(op.name for group in fuse(net) for op in group)
        layers = tuple(p.layer for p in net.parameters.values())
        return Names(net.name, tuple(net.tensors), tuple(net.parameters), layers, ops)

    def encode(self) -> bytes:
        """Every name in UTF-8, each ended by a zero byte: network, tensors, parameters, their layers, ops."""
        names = (self.network, *self.tensors, *self.parameters, *self.layers, *self.ops)
        unfit = next((name for name in names if not name.isprintable()), None)
        if unfit is not None:
            raise ModelError(f"the name {unfit!r} holds characters that cannot be printed; rename it")
        return b"".join(name.encode() + b"\0" for name in names)

    @staticmethod
    def decode(data: bytes, tensors: int, parameters: int, ops: int) -> Names:
        """The reverse of `encode`; raises ValueError for another number of names, and for names nobody can print."""
        parts = data.decode().split("\0")
        if len(parts) != 2 + tensors + 2 * parameters + ops or parts[-1]:
            raise ValueError("the names do not match the plan")
        if not all(map(str.isprintable, parts)):
            raise ValueError("a name holds characters that cannot be printed")
        at = [1, 1 + tensors, 1 + tensors + parameters, 1 + tensors + 2 * parameters]
        a, b, c, d = at
        return Names(parts[0], tuple(parts[a:b]), tuple(parts[b:c]), tuple(parts[c:d]), tuple(parts[d:-1]))


def counts(data: bytes) -> tuple[int, int, int]:
    """(tensors, parameters, ops) of a plan; raises ValueError when its header or length is wrong."""
    h = fmt.PLAN_HEADER.unpack(data)
    if h["magic"] != fmt.PLAN_MAGIC:
        raise ValueError("the plan does not begin with ZPLN")
    if h["version"] != fmt.VERSION:
        raise ValueError(f"the plan has version {h['version']}; this tool reads {fmt.VERSION}")
    need = fmt.PLAN_HEADER.size + h["tensors"] * fmt.TENSOR.size
    need += h["parameters"] * fmt.PARAMETER.size + h["ops"] * fmt.OP.size
    if not need == h["plan_bytes"] == len(data):
        raise ValueError(f"the plan should have {need} bytes, it has {len(data)}")
    return h["tensors"], h["parameters"], h["ops"]


def decode(data: bytes, names: Names, image_data: bytes) -> Network:
    """The network of a plan, its names and its image; raises ModelError or ValueError when they do not fit together."""
    n_tensors, n_parameters, n_ops = counts(data)
    h = fmt.PLAN_HEADER.unpack(data)
    at = fmt.PLAN_HEADER.size
    if h["image_bytes"] != len(image_data):
        raise ValueError(f"the plan wants an image of {h['image_bytes']} bytes, there are {len(image_data)}")
    kinds = {code: kind for kind, code in fmt.KINDS.items()}
    tensors: list[Tensor] = []
    for i in range(n_tensors):
        r = fmt.TENSOR.unpack(data, at)
        at += fmt.TENSOR.size
        kind = _named(kinds, r["kind"], "kind of tensor")
        shape, q = (r["height"], r["width"], r["channels"]), Quantization(r["scale"], r["zero_point"])
        tensors.append(Tensor(names.tensors[i], shape, kind, q))  # type: ignore[arg-type]
    regions: list[Region] = []
    for i in range(n_parameters):
        regions.append(_region(fmt.PARAMETER.unpack(data, at), names.parameters[i], names.layers[i], len(image_data)))
        at += fmt.PARAMETER.size
    image = ParameterImage(tuple(regions), image_data)
    ops: list[Op] = []
    for i in range(n_ops):
        ops.append(_op(fmt.OP.unpack(data, at), names.ops[i], tensors, regions))
        at += fmt.OP.size
    return Network(
        names.network,
        _item(tensors, h["input"], "tensor").name,
        _item(tensors, h["output"], "tensor").name,
        {t.name: t for t in tensors},
        tuple(ops),
        {r.name: image.parameter(r.name) for r in regions},
        Pixels(h["pixel_scale"], h["pixel_offset"]),
    ).validate()


def _op_records(data: bytes) -> list[dict[str, Any]]:
    n_tensors, n_parameters, n_ops = counts(data)
    at = fmt.PLAN_HEADER.size + n_tensors * fmt.TENSOR.size + n_parameters * fmt.PARAMETER.size
    return [fmt.OP.unpack(data, at + i * fmt.OP.size) for i in range(n_ops)]


def preference(data: bytes) -> Preference:
    """What a plan's firmware is compiled for."""
    return "size" if all(r["flags"] & fmt.FLAG_SMALL for r in _op_records(data)) else "speed"


def work(data: bytes, names: Names) -> dict[str, Work]:
    """How a plan computes its binary convolutions, by name; raises ValueError where it names no algorithm."""
    algorithms = {code: name for name, code in fmt.ALGORITHMS.items()}
    return {
        name: Work(cast(Algorithm, _named(algorithms, r["algorithm"], "algorithm")), r["scratch_bytes"])
        for name, r in zip(names.ops, _op_records(data), strict=True)
        if r["algorithm"] != fmt.ALGORITHMS["none"]
    }


def _named(table: dict[int, str], code: int, what: str) -> str:
    if code not in table:
        raise ValueError(f"{code} is no {what}")
    return table[code]


def _item(items: list[Any], index: int, what: str) -> Any:
    if index >= len(items):
        raise ValueError(f"there is no {what} {index}")
    return items[index]


def _region(r: dict[str, Any], name: str, layer: str, image_bytes: int) -> Region:
    role = _named({code: role for role, code in fmt.ROLES.items()}, r["role"], "role")
    encoding = _encoding(r)
    if encoding.bits != r["bits"] or encoding.row != r["row"] or not 1 <= r["rank"] <= 4:
        raise ValueError(f"the record of {name} contradicts itself")
    if r["row"] and not isinstance(encoding, Binary):
        raise ValueError(f"{name}: only binary weights have rows")
    shape = tuple(r["dims"][: r["rank"]])
    if min(shape) < 1 or max(shape) > fmt.MAX_DIM or int(np.prod(shape, dtype=np.int64)) != r["count"]:
        raise ValueError(f"{name} of shape {shape} does not have {r['count']} elements")
    type_ = "binary" if isinstance(encoding, Binary) else "L" if role == "weight" else "S"
    region = Region(name, layer, role, type_, shape, encoding, r["offset"])
    if region.offset + region.bytes > image_bytes:
        raise ValueError(f"{name} runs past the end of the image")
    return region


def _encoding(r: dict[str, Any]) -> Encoding:
    """The encoding of a parameter's record."""
    kind = _named({code: kind for kind, code in fmt.ENCODINGS.items()}, r["encoding"], "encoding")
    by = _named({code: name for name, code in fmt.PROTECTIONS.items()}, r["protection"], "protection")
    scales = cast(Scales, _named({code: name for name, code in fmt.SCALES.items()}, r["scales"], "place of scales"))
    if kind == "binary":
        return Binary(row=r["row"])
    if kind == "int32":
        return Int32()
    code: Code
    if kind == "uniform":
        code = Uniform(r["bits"], r["scale"], r["zero_point"], row=r["row"], scales=scales)
    elif kind == "guarded":
        code = Guarded(r["zero_point"])
    elif kind == "clamped":
        code = Clamped(r["low"], r["high"])
    else:
        code = Float16() if kind == "float16" else Float32()
    protections: dict[str, Protection] = {"hamming": Hamming(), "secded": Secded(), "voted": Voted(r["voted"])}
    return Protected(code, protections[by]) if by != "none" else code


def _op(r: dict[str, Any], name: str, tensors: list[Tensor], regions: list[Region]) -> Op:
    codes = {code: cls for cls, code in _OPCODE_OF.items()}
    if r["opcode"] not in codes:
        raise ValueError(f"{r['opcode']} is no operation")
    cls = codes[r["opcode"]]
    source, target = _item(tensors, r["input"], "tensor"), _item(tensors, r["output"], "tensor")
    x, y = source.name, target.name

    def parameter(index: int) -> str:
        return str(_item(regions, index, "parameter").name)

    def other(index: int) -> str:
        return str(_item(tensors, index, "tensor").name)

    def border(axis: int) -> tuple[int, int]:
        before = r["pad"][axis]
        return before, target.shape[axis] - source.shape[axis] - before

    def optional(index: int) -> str | None:
        return None if index == fmt.NONE else parameter(index)

    padding = cast(Padding, _named({code: p for p, code in fmt.PADDINGS.items()}, r["padding"], "padding"))
    build: dict[type, Callable[[], Op]] = {
        Conv: lambda: Conv(
            *(name, x, y, parameter(r["parameter"]), r["stride"], padding, r["pad_value"], r["groups"], r["dilation"])
        ),
        MaxPool: lambda: MaxPool(name, x, y, r["kernel"], r["stride"], padding),
        AveragePool: lambda: AveragePool(name, x, y, r["kernel"], r["stride"], padding),
        Affine: lambda: Affine(name, x, y, optional(r["parameter"]), optional(r["bias"]), r["low"]),
        PRelu: lambda: PRelu(name, x, y, parameter(r["parameter"])),
        Clip: lambda: Clip(name, x, y, r["low"], r["high"]),
        Sign: lambda: Sign(name, x, y),
        LowBit: lambda: LowBit(name, x, y, r["low"]),
        GatedConv: lambda: GatedConv(
            *(name, x, y, other(r["other"]), parameter(r["parameter"]), parameter(r["bias"]), r["stride"], padding)
        ),
        Threshold: lambda: Threshold(name, x, y, parameter(r["parameter"])),
        Unpack: lambda: Unpack(name, x, y),
        Add: lambda: Add(name, x, y, other(r["other"])),
        Mul: lambda: Mul(name, x, y, other(r["other"])),
        Concat: lambda: Concat(name, x, y, other(r["other"])),
        Pad: lambda: Pad(name, x, y, border(0), border(1), r["low"]),
        Thermometer: lambda: Thermometer(name, x, y, target.shape[2] // max(1, source.shape[2]), r["low"]),
        Softmax: lambda: Softmax(name, x, y),
        DynamicRange: lambda: DynamicRange(name, x, y, bool(r["low"])),
        Reshape: lambda: Reshape(name, x, y, target.shape),
        Quantize: lambda: Quantize(name, x, y, target.quantization),
        Dequantize: lambda: Dequantize(name, x, y),
        ConvInt8: lambda: ConvInt8(
            *(name, x, y, parameter(r["parameter"]), parameter(r["bias"]), parameter(r["multiplier"])),
            to=target.quantization,
            low=int(r["low"]),
            high=int(r["high"]),
            stride=r["stride"],
            padding=padding,
            groups=r["groups"],
            dilation=r["dilation"],
        ),
        AddInt8: lambda: AddInt8(
            *(name, x, y, other(r["other"]), parameter(r["multiplier"])),
            to=target.quantization,
            low=int(r["low"]),
            high=int(r["high"]),
        ),
        SoftmaxInt8: lambda: SoftmaxInt8(name, x, y, parameter(r["multiplier"])),
    }
    return build[cls]()
