"""The messages of the link, declared once (docs/spec.md, "Link").

`tools/generate.py` writes `firmware/agent/messages.h` and the tables of the specification from this module. Every
message is a frame header, a fixed record and, for some, a tail of further bytes; the frame ends with a CRC-32.
"""

from __future__ import annotations

from dataclasses import dataclass

from zobnn_edge.records import Field, Record

PROTOCOL_VERSION = 2
"""Major version: the one in every frame; boards and hosts of different ones do not understand each other."""
PROTOCOL_MINOR = 0
"""Minor version: what is new in one is told by a capability; both sides say theirs and keep to the lower one."""
GENERATOR_VERSION = 1
CAPABILITIES = {
    "memory": (1 << 0, "FLIP_MEMORY and READ_MEMORY: any byte of SRAM"),
    "arm": (1 << 1, "ARM: flips in the middle of an inference"),
    "plan_in_ram": (1 << 2, "the plan lies in SRAM and RESTORE restores it, too"),
    "watchdog": (1 << 3, "RUN's `limit`: an inference that takes longer is ended by a reset"),
}
"""What a board can do beyond the rest of the protocol, by name: bit in HELLO and meaning."""
MAX_PAYLOAD = 1024
"""Most bytes of record and tail in one frame, both ways; a small board takes less, which it says in HELLO."""
MAX_RANGES = 32
"""Most bit ranges in one INJECT."""
REPLY = 0x80
"""A reply's type is its request's type with this bit set."""

FRAME_HEADER = Record(
    "frame_header",
    "The first bytes of every frame, before COBS.",
    (
        Field("version", "u8", "protocol version (major), 2"),
        Field("type", "u8", "message type"),
        Field("sequence", "u16", "number of the request; a reply repeats it"),
        Field("length", "u16", "bytes of record and tail that follow"),
        Field("reserved", "u16", "0"),
    ),
)
CRC_BYTES = 4

ERRORS = {
    "version": (1, "a frame of another protocol version"),
    "type": (2, "an unknown request"),
    "length": (3, "a record or tail of the wrong length"),
    "sequence": (4, "neither the next request nor a repetition of the last one"),
    "address": (5, "an address or range outside the parameters, the image, the input buffer or SRAM"),
    "argument": (6, "a count or format that makes no sense or does not fit"),
    "engine": (7, "the engine refused to run; detail is its status"),
    "session": (8, "no session: HELLO comes first"),
}


@dataclass(frozen=True)
class Message:
    """A request and its reply: type, records, and what follows them."""

    name: str
    type: int
    doc: str
    request: Record
    reply: Record
    request_tail: str = ""
    reply_tail: str = ""


HELLO = Message(
    "hello",
    1,
    "Who is there? With a new nonce it begins a session: its sequence number becomes the last one seen.",
    Record(
        "hello_request",
        "",
        (
            Field("nonce", "u32", "any number, another one for each session; the reply repeats it"),
            Field("minor", "u16", "minor protocol version of the host"),
            Field("reserved", "u16", "0"),
        ),
    ),
    Record(
        "hello_reply",
        "",
        (
            Field("nonce", "u32", "as in the request"),
            Field("minor", "u16", "minor protocol version of the board"),
            Field("generator", "u16", "version of the fault generator"),
            Field("capabilities", "u32", "bits of the table of capabilities"),
            Field("max_payload", "u32", "most bytes of record and tail in one frame that this board takes"),
            Field("window", "u32", "most requests that may be under way at once"),
            Field("plan_crc", "u32", "CRC-32 of the plan"),
            Field("image_crc", "u32", "CRC-32 of the flash copy of the image"),
            Field("image_bytes", "u32", "length of the image"),
            Field("memory_crc", "u32", "CRC-32 of the image in SRAM, now"),
            Field("memory_address", "u32", "where the image lies in SRAM"),
            Field("ram_address", "u32", "where SRAM begins"),
            Field("ram_bytes", "u32", "length of SRAM"),
            Field("plan_address", "u32", "where the plan lies"),
            Field("arena_address", "u32", "where the working memory for inference lies"),
            Field("arena_bytes", "u32", "length of the working memory"),
            Field("input_count", "u32", "elements of one input"),
            Field("output_count", "u32", "scores of one input"),
            Field("input_bytes", "u32", "size of the input buffer"),
            Field("clock_hz", "u32", "nominal core clock"),
            Field("boots", "u32", "boots since power-on, this one included"),
            Field("counter", "u32", "what instruction counts come from: 0 nothing, 1 instructions, 2 cycles"),
            Field("board", "u8", "name of the board, padded with zeros", 24),
        ),
    ),
)
PUT_INPUTS = Message(
    "put_inputs",
    2,
    "Write into the input buffer.",
    Record("put_inputs_request", "", (Field("offset", "u32", "byte offset in the input buffer"),)),
    Record("put_inputs_reply", "", (Field("bytes", "u32", "bytes written"),)),
    request_tail="the bytes",
)
RUN = Message(
    "run",
    3,
    "Run the network on inputs in the buffer.",
    Record(
        "run_request",
        "",
        (
            Field("first", "u32", "index of the first input"),
            Field("count", "u32", "number of inputs; 1, or as many as their scores fit one reply"),
            Field("format", "u32", "format of the inputs: 0 float32, 1 uint8"),
            Field(
                "limit", "u32", "most that one inference may count, see `counter`; 1 ms where that is 0; 0: no limit"
            ),
        ),
    ),
    Record(
        "run_reply",
        "",
        (
            Field("count", "u32", "number of inputs run"),
            Field("instructions", "u32", "count of the last inference, see `counter` in HELLO"),
        ),
    ),
    reply_tail="count x output_count scores, float32; none if one input's scores do not fit a reply: SCORES reads them",
)
FLIP = Message(
    "flip",
    4,
    "Invert bits of the image in SRAM; all or, if any address is refused, none.",
    Record("flip_request", "", (Field("count", "u32", "number of bits"),)),
    Record("flip_reply", "", (Field("count", "u32", "number of bits flipped"),)),
    request_tail="count bit addresses, u32",
    reply_tail="count records `flip_done`, in the order of the request",
)
FLIP_DONE = Record(
    "flip_done",
    "What one flip did.",
    (
        Field("address", "u32", "bit address; of FLIP_MEMORY the address of the byte"),
        Field("old", "u8", "the byte before"),
        Field("new", "u8", "the byte after"),
        Field("reserved", "u16", "0"),
    ),
)
INJECT = Message(
    "inject",
    5,
    "Flip every bit of some ranges with a given probability.",
    Record(
        "inject_request",
        "",
        (
            Field("rate_q64", "u64", "probability of a flip, times 2^64"),
            Field("seed", "u64", "seed of the generator"),
            Field("ranges", "u32", "number of ranges; 0: every parameter"),
            Field("reserved", "u32", "0"),
        ),
    ),
    Record(
        "inject_reply",
        "",
        (
            Field("flips", "u32", "bits flipped"),
            Field("memory_crc", "u32", "CRC-32 of the image in SRAM afterwards"),
        ),
    ),
    request_tail="the ranges, each first bit and number of bits, u32; each inside one parameter",
)
RESTORE = Message(
    "restore",
    6,
    "Copy the image from flash to SRAM.",
    Record("restore_request", "", ()),
    Record("restore_reply", "", (Field("memory_crc", "u32", "CRC-32 of the image in SRAM afterwards"),)),
)
READ = Message(
    "read",
    7,
    "Read the image in SRAM.",
    Record(
        "read_request",
        "",
        (Field("offset", "u32", "first byte"), Field("bytes", "u32", "how many; they must fit one reply")),
    ),
    Record("read_reply", "", (Field("bytes", "u32", "how many follow"),)),
    reply_tail="the bytes",
)
STATUS = Message(
    "status",
    8,
    "State of memory and link.",
    Record("status_request", "", ()),
    Record(
        "status_reply",
        "",
        (
            Field("memory_crc", "u32", "CRC-32 of the image in SRAM"),
            Field("instructions", "u32", "count of the last inference"),
            Field("frames", "u32", "good frames received since boot"),
            Field("bad_frames", "u32", "frames dropped since boot: COBS, CRC or length wrong"),
            Field("repeats", "u32", "requests answered again without being carried out again"),
            Field("strays", "u32", "requests refused for their version or sequence number"),
            Field("overruns", "u32", "bytes lost by the UART"),
            Field("corrected", "u32", "cells with redundant bits of the image in SRAM that are put right when read"),
            Field("lost", "u32", "such cells that are known to be wrong and cannot be put right"),
            Field("boots", "u32", "boots since power-on, this one included"),
        ),
    ),
)
RESET = Message(
    "reset",
    9,
    "Restart the firmware after the reply is sent.",
    Record("reset_request", "", ()),
    Record("reset_reply", "", (Field("boots", "u32", "boots since power-on so far"),)),
)

SCORES = Message(
    "scores",
    10,
    "Read scores of the last inference.",
    Record(
        "scores_request",
        "",
        (Field("first", "u32", "index of the first score"), Field("count", "u32", "how many; they must fit one reply")),
    ),
    Record("scores_reply", "", (Field("count", "u32", "how many follow"),)),
    reply_tail="count scores, float32",
)

MEMORY_BIT = Record(
    "memory_bit",
    "One bit of SRAM.",
    (Field("address", "u32", "address of the byte"), Field("bit", "u32", "0 the least significant to 7")),
)
FLIP_MEMORY = Message(
    "flip_memory",
    11,
    "Invert bits anywhere in SRAM, those of this firmware included; all or, if any address is refused, none.",
    Record("flip_memory_request", "", (Field("count", "u32", "number of bits"),)),
    Record("flip_memory_reply", "", (Field("count", "u32", "number of bits flipped"),)),
    request_tail="count records `memory_bit`",
    reply_tail="count records `flip_done`, in the order of the request",
)
READ_MEMORY = Message(
    "read_memory",
    12,
    "Read SRAM.",
    Record(
        "read_memory_request",
        "",
        (Field("address", "u32", "first byte"), Field("bytes", "u32", "how many; they must fit one reply")),
    ),
    Record("read_memory_reply", "", (Field("bytes", "u32", "how many follow"),)),
    reply_tail="the bytes",
)
ARM = Message(
    "arm",
    13,
    "Arm a flip in the middle of an inference: when operation `op` begins, bits of SRAM are inverted. Replaces what "
    "was armed before; RESTORE and a count of 0 disarm.",
    Record(
        "arm_request",
        "",
        (
            Field("op", "u32", "index of an operation that is not fused with the one before"),
            Field("every", "u32", "0: in the next inference only; 1: in every one"),
            Field("count", "u32", "number of bits"),
        ),
    ),
    Record("arm_reply", "", (Field("count", "u32", "number of bits armed"),)),
    request_tail="count records `memory_bit`; as many as fit a frame are taken",
)

MESSAGES = (
    HELLO,
    PUT_INPUTS,
    RUN,
    FLIP,
    INJECT,
    RESTORE,
    READ,
    STATUS,
    RESET,
    SCORES,
    FLIP_MEMORY,
    READ_MEMORY,
    ARM,
)

READY_TYPE = 0x70
READY = Record(
    "ready",
    "Sent once by the firmware, unasked, when it can take requests after a boot (sequence 0).",
    (
        Field("boots", "u32", "boots since power-on, this one included"),
        Field("exception", "u32", "0, or what ended the run before: 2 NMI, 3 HardFault, ..., 15 the watchdog"),
        Field("status", "u32", "configurable fault status register then"),
        Field("address", "u32", "data address that faulted, if `status` says it is valid"),
        Field(
            "registers", "u32", "r0 to r12, sp, lr, pc, xpsr then; r0-r3, r12, lr, pc, xpsr 0 if the stack was lost", 17
        ),
    ),
)
ERROR_TYPE = 0xFF
ERROR = Record(
    "error",
    "The reply to a request that was refused; nothing was changed.",
    (
        Field("code", "u16", "see the table of errors"),
        Field("request", "u16", "type of the request"),
        Field("detail", "u32", "index, status or value that was refused"),
    ),
)
