"""The C header: it compiles alone as C and C++, and its bytes are the parameter image and the plan."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converters.c_header import c_header, identifiers
from tests.networks import NETWORKS, Author, real, residual, thresholds
from zobnn_edge.encoding import Float32, Uniform
from zobnn_edge.errors import ModelError
from zobnn_edge.model_file import Model
from zobnn_edge.network import Builder, Network
from zobnn_edge.operations import Affine, AveragePool

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
NASTY = ["float", "3d/weight", "a-b", "a/b", "a_b", "été", "pad_0", "", "*/ #error", "linux", "x\\", "uint8_t", "a_b_2"]


def compile_as(language: str, standard: str, header: str, folder: Path) -> None:
    (folder / "model.h").write_text(header)
    command = ["gcc", "-x", language, f"-std={standard}", *WARNINGS, "-fsyntax-only", "model.h"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def loaded(header: str, folder: Path) -> Callable[[str], bytes]:
    """What the compiled header holds: the bytes of one of its objects, by name."""
    names = ("image", "plan")
    source = '#include "model.h"\n' + "".join(
        f"const void *{n}(void) {{ return &model_{n}; }}\nunsigned {n}_bytes(void) {{ return sizeof model_{n}; }}\n"
        for n in names
    )
    (folder / "model.h").write_text(header)
    (folder / "model.c").write_text(source)
    library = folder / "model.so"
    command = ["gcc", "-std=c99", *WARNINGS, "-shared", "-fPIC", "model.c", "-o", str(library)]
    subprocess.run(command, cwd=folder, check=True)
    c = ctypes.CDLL(str(library))

    def contents(name: str) -> bytes:
        getattr(c, name).restype = ctypes.c_void_p
        return ctypes.string_at(getattr(c, name)(), getattr(c, f"{name}_bytes")())

    return contents


def nasty_network() -> Network:
    """Names that are no identifiers, keywords, or the same once cleaned; a name that would end a comment."""
    b = Builder('nasty */ "name" \\ ??/ é', (1, 1, 3))
    x = b.input
    for i, name in enumerate(NASTY):
        p = b.parameter(name, "layer */\n", "bias", np.arange(3), Uniform.of_range(0.0, 2.0, 2 + i))
        x = b.add(Affine(f"op{i}", x, f"t{i}", bias=p))
    return b.network(x)


def special_floats() -> Network:
    """Every float32 that printing could lose: extremes, subnormals, signed zero, NaN with a payload, infinities."""
    b = Builder("special", (1, 1, 4))
    finite = np.array([-0.0, 1e-45, 3.4028235e38, 1 / 3], np.float32)
    bits = np.array([0x7FC00001, 0xFF800000, 0x7F800000, 0x80000000], np.uint32).view(np.float32)
    scale = b.parameter("a/scale", "a", "scale", finite, Float32())
    bias = b.parameter("a/bias", "a", "bias", bits, Float32())
    return b.network(b.add(Affine("a", b.input, "a", scale, bias)))


def codes_of_all_widths() -> Network:
    """Every width of code, in numbers of elements that leave gaps between regions."""
    b = Builder("widths", (1, 1, 5))
    x = b.input
    for bits in range(2, 17):
        p = b.parameter(f"a{bits}/bias", f"a{bits}", "bias", np.arange(5), Uniform.of_range(0.0, 4.0, bits))
        x = b.add(Affine(f"a{bits}", x, f"a{bits}", bias=p))
    return b.network(x)


def only_bytes() -> Network:
    """No parameter whose natural type would align the struct to 4 bytes."""
    return Author((1, 1, 3)).affine(8, scale=False).network()


ALL = {
    **NETWORKS,
    "thresholds": thresholds,
    "nasty": nasty_network,
    "special": special_floats,
    "widths": codes_of_all_widths,
    "only_bytes": only_bytes,
}


@pytest.mark.parametrize("name", ALL)
def test_the_compiled_header_holds_exactly_image_and_plan(name: str, tmp_path: Path) -> None:
    model = Model.of(ALL[name]())
    contents = loaded(c_header(model), tmp_path)
    assert contents("image") == model.image.data
    assert contents("plan") == model.plan


@pytest.mark.parametrize(("language", "standard"), [("c", "c99"), ("c", "gnu11"), ("c++", "c++98"), ("c++", "c++20")])
@pytest.mark.parametrize("name", ["nasty", "special", "widths", "only_bytes", "thresholds", "integer"])
def test_the_header_compiles_alone_without_a_warning(name: str, language: str, standard: str, tmp_path: Path) -> None:
    compile_as(language, standard, c_header(Model.of(ALL[name]())), tmp_path)


def test_the_image_is_aligned_to_words_even_when_all_parameters_are_bytes(tmp_path: Path) -> None:
    check = "\nstruct probe { char c; struct model_parameters p; };\n"
    check += "typedef char aligned_check[offsetof(struct probe, p) % 4 == 0 ? 1 : -1];\n"
    compile_as("c", "c99", c_header(Model.of(only_bytes())) + check, tmp_path)


def test_sizes_and_crcs_are_those_of_the_model() -> None:
    model = Model.of(real())
    macros = dict(re.findall(r"#define MODEL_(\w+) (\S+)", c_header(model)))
    assert int(macros["IMAGE_CRC"].rstrip("u"), 16) == model.image.crc
    assert int(macros["IMAGE_BYTES"].rstrip("u")) == len(model.image.data)
    assert int(macros["PLAN_BYTES"].rstrip("u")) == len(model.plan)
    assert int(macros["ARENA_BYTES"].rstrip("u")) == model.arena_bytes
    assert int(macros["INPUT_COUNT"].rstrip("u")) == 6 * 5 * 2
    assert int(macros["OUTPUT_COUNT"].rstrip("u")) == 4


def test_every_parameter_has_a_typed_member_that_says_what_it_is() -> None:
    text = c_header(Model.of(thresholds()))
    assert re.search(
        r"uint32_t conv3_weight\[576\]; /\* layer conv3, weight, 64 x 3 x 3 x 32: binary.*18432 bits", text
    )
    assert re.search(r"uint8_t threshold4_threshold\[64\]; /\* .*8-bit codes q in \[.*512 bits", text)
    text = c_header(Model.of(residual()))
    assert re.search(r"float affine2_scale\[16\]; /\* layer affine2, scale, 16: float32; 512 bits", text)


def test_two_headers_of_different_prefix_live_in_one_file(tmp_path: Path) -> None:
    a, b = (c_header(Model.of(net), name) for name, net in (("real", real()), ("residual", residual())))
    compile_as("c", "c99", a + b, tmp_path)


@pytest.mark.parametrize("prefix", ["", "3d", "a-b", "int", 'x"\n#error'])
def test_a_prefix_that_is_no_identifier_is_refused(prefix: str) -> None:
    with pytest.raises(ModelError, match="cannot begin C identifiers"):
        c_header(Model.of(only_bytes()), prefix)


def test_a_network_without_parameters_is_refused() -> None:
    b = Builder("pool", (2, 2, 1))
    net = b.network(b.add(AveragePool("pool", b.input, "pool", (2, 2), (2, 2))))
    with pytest.raises(ModelError, match="pool: has no parameters"):
        c_header(Model.of(net))


def test_identifiers_never_collide_with_each_other_or_with_taken_names() -> None:
    out = identifiers(NASTY, ["a_b"])
    assert len(set(out)) == len(NASTY)
    assert "a_b" not in out
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) for name in out)


def test_tightly_packed_binary_weights_are_bytes() -> None:
    text = c_header(Model.of(Author((3, 3, 3)).conv(5, 3).affine().network()))
    assert "uint8_t conv1_weight[17];" in text
    assert "uint8_t pad_0[3];" in text
