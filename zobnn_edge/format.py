"""The binary forms of a model: the `.zob` file's header and the plan's records, declared once (docs/spec.md).

`tools/generate.py` writes `firmware/engine/zob_format.h` and the tables of the specification from this module.
"""

from __future__ import annotations

from zobnn_edge.records import Field, Record

FILE_MAGIC = 0x4E424F5A  # "ZOBN"
PLAN_MAGIC = 0x4E4C505A  # "ZPLN"
VERSION = 4
NONE = 0xFFFFFFFF

MAX_TENSORS = 4096
MAX_OPS = 4096
MAX_PARAMETERS = 4096
MAX_DIM = 65535
MAX_STEPS = 8
ALIGN = 8

OPCODES = {
    "conv": 1,
    "max_pool": 2,
    "average_pool": 3,
    "affine": 4,
    "prelu": 5,
    "clip": 6,
    "sign": 7,
    "threshold": 8,
    "unpack": 9,
    "add": 10,
    "softmax": 11,
    "reshape": 12,
    "mul": 13,
    "concat": 14,
    "pad": 15,
    "thermometer": 16,
    "quantize": 17,
    "dequantize": 18,
    "conv_int8": 19,
    "add_int8": 20,
    "softmax_int8": 21,
    "dynamic_range": 22,
    "low_bit": 23,
    "gated_conv": 24,
}
ROLES = {"weight": 0, "scale": 1, "bias": 2, "slope": 3, "threshold": 4}
KINDS = {"real": 0, "binary": 1, "int8": 2}
ENCODINGS = {"float32": 0, "binary": 1, "uniform": 2, "int32": 3, "float16": 4, "guarded": 5, "clamped": 6}
PROTECTIONS = {"none": 0, "hamming": 1, "voted": 2, "secded": 3}
SCALES = {"flash": 0, "ram": 1, "tmr": 2}
PADDINGS = {"valid": 0, "same": 1, "half": 2}
ALGORITHMS = {"none": 0, "count": 1, "table": 2}
KERNELS = {
    "real_conv": 1 << 0,  # convolutions over floats, but those of `dense`
    "code_conv": 1 << 1,  # convolutions over int8 with weights of codes
    "sign_conv": 1 << 2,  # convolutions over int8 with binary weights
    "count": 1 << 3,  # convolutions over bits that are ever carried out by counting
    "table": 1 << 4,  # convolutions over bits by tables
    "int8": 1 << 5,  # int8 results
    "protected": 1 << 6,  # parameters that are not plain (docs/spec.md, "Protection")
    "codes": 1 << 7,  # plain codes
    "coded_limits": 1 << 8,  # plain codes as thresholds of sums of bits
    "codes_4": 1 << 9,  # plain codes of so many bits, which are unpacked by eights
    "codes_8": 1 << 10,
    "codes_12": 1 << 11,
    "codes_16": 1 << 12,
    "searched_limits": 1 << 13,  # limits of sums of bits that are found by trial
    "halves": 1 << 14,  # tables of taps of at most 16 channels
    "code_sums": 1 << 15,  # sums over int8 that integers do not decide
    "real_pool": 1 << 16,  # pools over floats
    "copy": 1 << 17,  # groups that begin with an operation that works element by element
    "coded_scales": 1 << 18,  # plain codes as scales that sums of bits are multiplied with
    "dense": 1 << 19,  # convolutions over floats with one output pixel, every filter of which reads all of the input
    "ones_outside": 1 << 20,  # convolutions over bits that read +1 outside their input
    "none_outside": 1 << 21,  # convolutions over bits that read nothing outside their input
    "codes_any": 1 << 22,  # plain codes that are not bytes
    "bytes_apart": 1 << 23,  # convolutions over int8 with groups, or with columns of the kernel that are apart
    "codes_6": 1 << 24,
    "ones_counted": 1 << 25,  # tables of whole kernels that count apart what is +1 outside the input
    "table_sums": 1 << 26,  # tables whose sums become more than the bits that limits decide
    "bits_conv": 1 << 27,  # convolutions over bits
    "limits": 1 << 28,  # convolutions over bits whose bits limits decide, or whose gates
    "intervals": 1 << 29,  # convolutions over int8 whose bits integers decide
    "code_fields": 1 << 30,  # convolutions over int8 with codes that are not bytes to be read four at a time
}
"""Bits of ZOB_KERNELS: what a firmware's plan needs of the engine."""
INPUT_FORMATS = {"float32": 0, "uint8": 1}
FLAG_FUSED, FLAG_SMALL = 1, 2

FILE_HEADER = Record(
    "file_header",
    "The first bytes of a .zob file.",
    (
        Field("magic", "u32", "`ZOBN` (0x4E424F5A)"),
        Field("version", "u32", f"format version, {VERSION}"),
        Field("file_bytes", "u32", "length of the whole file"),
        Field("plan_offset", "u32", "where the plan begins, a multiple of 8"),
        Field("plan_bytes", "u32", "length of the plan"),
        Field("plan_crc", "u32", "CRC-32 of the plan"),
        Field("image_offset", "u32", "where the parameter image begins, a multiple of 8"),
        Field("image_bytes", "u32", "length of the image"),
        Field("image_crc", "u32", "CRC-32 of the image"),
        Field("names_offset", "u32", "where the names begin, a multiple of 8"),
        Field("names_bytes", "u32", "length of the names"),
        Field("names_crc", "u32", "CRC-32 of the names"),
        Field("reserved", "u32", "0"),
        Field("header_crc", "u32", "CRC-32 of the header's bytes before this field"),
    ),
)

PLAN_HEADER = Record(
    "plan_header",
    "The first bytes of a plan; tensor, parameter and op records follow without gaps, in that order.",
    (
        Field("magic", "u32", "`ZPLN` (0x4E4C505A)"),
        Field("version", "u32", f"format version, {VERSION}"),
        Field("plan_bytes", "u32", "length of the plan"),
        Field("image_bytes", "u32", "length of the parameter image"),
        Field("arena_bytes", "u32", "length of the arena"),
        Field("tensors", "u32", "number of tensor records"),
        Field("parameters", "u32", "number of parameter records"),
        Field("ops", "u32", "number of op records"),
        Field("input", "u32", "index of the input tensor"),
        Field("output", "u32", "index of the output tensor (real)"),
        Field("pixel_scale", "f32", "an 8-bit input p stands for p * pixel_scale + pixel_offset"),
        Field("pixel_offset", "f32", "see pixel_scale"),
    ),
)

TENSOR = Record(
    "tensor",
    "An activation of one image.",
    (
        Field("kind", "u32", "0 real (float32), 1 binary (packed, every pixel begins a new word), 2 int8"),
        Field("height", "u32", "rows"),
        Field("width", "u32", "columns"),
        Field("channels", "u32", "channels"),
        Field("offset", "u32", "byte offset in the arena, a multiple of 8; 0xFFFFFFFF: never stored (fused away)"),
        Field("scale", "f32", "int8: value of one step; else 1"),
        Field("zero_point", "i32", "int8: the number that stands for 0, -128 to 127; else 0"),
    ),
)

PARAMETER = Record(
    "parameter",
    "A parameter: a region of the image and its encoding.",
    (
        Field("role", "u8", "0 weight, 1 scale, 2 bias, 3 slope, 4 threshold"),
        Field("encoding", "u8", "0 float32, 1 binary, 2 uniform, 3 int32, 4 float16, 5 guarded, 6 clamped"),
        Field("bits", "u8", "bits of a code"),
        Field("rank", "u8", "number of dimensions, 1 to 4"),
        Field("protection", "u8", "0 none, 1 hamming, 2 voted, 3 secded"),
        Field("voted", "u8", "voted: bits of a code that are stored three times; else 0"),
        Field("scales", "u8", "uniform: scale and zero point lie 0 here, 1 in the image, 2 there three times; else 0"),
        Field("reserved", "u8", "0"),
        Field("scale", "f32", "uniform: value of one step; else 1"),
        Field("zero_point", "i32", "uniform: the code that stands for 0; guarded: the largest exponent; else 0"),
        Field("low", "f32", "clamped: lower bound; else 0"),
        Field("high", "f32", "clamped: upper bound; else 0"),
        Field("offset", "u32", "byte offset in the image, a multiple of 4"),
        Field("count", "u32", "number of elements"),
        Field("row", "u32", "elements a row, each row beginning a new 32-bit word; 0: no rows"),
        Field("dims", "u32", "sizes of the dimensions, 1 where there is none", 4),
    ),
)

OP = Record(
    "op",
    "One operation; fields it does not use are 0 (indices 0xFFFFFFFF).",
    (
        Field("opcode", "u16", "see the table of operations"),
        Field(
            "flags",
            "u16",
            "bit 0: fused, continues the operation before it on the same element; bit 1: size is preferred",
        ),
        Field("input", "u32", "index of the tensor read"),
        Field("other", "u32", "add, mul, concat, add_int8: index of the second tensor"),
        Field("output", "u32", "index of the tensor written"),
        Field("parameter", "u32", "weight, slope or threshold; affine: scale"),
        Field("bias", "u32", "affine, conv_int8: bias"),
        Field("multiplier", "u32", "conv_int8, add_int8, softmax_int8: multipliers and shifts"),
        Field("kernel", "u16", "height and width of the window", 2),
        Field("stride", "u16", "vertical and horizontal stride", 2),
        Field("pad", "u16", "rows above and columns left of the input; pad: of the border", 2),
        Field("padding", "u8", "0 valid, 1 same, 2 half (informative; `pad` and the shapes decide)"),
        Field("pad_value", "u8", "conv: what is read outside the input, 0 or 1"),
        Field("groups", "u16", "conv: groups of channels"),
        Field("dilation", "u16", "conv: vertical and horizontal distance of the kernel's elements", 2),
        Field(
            "low",
            "f32",
            "clip, *_int8: lower bound; affine, thermometer: gain; pad: border; dynamic_range: 1 symmetric; low_bit",
        ),
        Field("high", "f32", "clip, conv_int8, add_int8: upper bound"),
        Field("scratch", "u32", "byte offset in the arena of the decoded parameters, a multiple of 8"),
        Field("scratch_bytes", "u32", "conv, binary input: bytes of the arena to work in"),
        Field("algorithm", "u32", "conv, binary input: 1 count, 2 table; else 0"),
    ),
)

PLAN_RECORDS = (PLAN_HEADER, TENSOR, PARAMETER, OP)
