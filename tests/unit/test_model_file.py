"""The model file: what is written is read back to the byte; whatever is damaged is refused in one line."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.networks import NETWORKS, Author
from zobnn_edge import format as fmt
from zobnn_edge import model_file
from zobnn_edge.engine import Engine
from zobnn_edge.errors import InputError, ModelError, ZobnnError
from zobnn_edge.model_file import Model
from zobnn_edge.plan import Names, counts


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    net = NETWORKS[name]()
    written = model_file.save(net, tmp_path / "net.zob")
    read = model_file.load(tmp_path / "net.zob")
    assert read.to_bytes() == written.to_bytes() == (tmp_path / "net.zob").read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["net.zob"]
    assert list(read.network.tensors.values()) == list(net.tensors.values())
    assert {type(op) for op in read.network.ops} == {type(op) for op in net.ops}
    for name, parameter in net.parameters.items():
        again = read.network.parameters[name]
        assert (again.layer, again.role, again.encoding) == (parameter.layer, parameter.role, parameter.encoding)
        np.testing.assert_array_equal(again.values, parameter.values)


@pytest.fixture(scope="module")
def data() -> bytes:
    return Model.of(NETWORKS["thresholds-hardened-8"]()).to_bytes()


def test_every_flipped_bit_is_noticed(data: bytes) -> None:
    """No single damaged bit, wherever it is, gives a model that differs from the one that was written."""
    rng = np.random.default_rng(0)
    header = range(8 * fmt.FILE_HEADER.size)
    for bit in [*header, *rng.integers(0, 8 * len(data), 1500).tolist()]:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        refusal = "x.zob: not a usable model file: nothing"
        try:
            assert Model.from_bytes(bytes(damaged), "x.zob").to_bytes() == data  # a gap between sections
        except ModelError as error:
            refusal = str(error)
        assert re.fullmatch(r"x\.zob: not a usable model file: .+", refusal)


@pytest.mark.parametrize("keep", [0, 1, 55, 56, 57, 500])
def test_truncated_files_are_refused(data: bytes, keep: int) -> None:
    with pytest.raises(ModelError, match="not a usable model file"):
        Model.from_bytes(data[:keep])


def test_missing_and_unwritable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        model_file.load(tmp_path / "none.zob")
    with pytest.raises(InputError, match="cannot be written"):
        model_file.save(NETWORKS["real-hardened-5"](), tmp_path / "no" / "folder.zob")


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails in the middle, the old file is still there, whole, and no other."""
    path = tmp_path / "net.zob"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zobnn_edge.files.os.fsync", full)
    with pytest.raises(InputError, match=r"net\.zob: cannot be written: No space left on device"):
        model_file.save(NETWORKS["real-hardened-5"](), path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["net.zob"]


def rebuilt(data: bytes, plan: bytes) -> bytes:
    """The model file with another plan of the same length, and every CRC right."""
    h = fmt.FILE_HEADER.unpack(data)
    out = bytearray(data)
    out[h["plan_offset"] : h["plan_offset"] + h["plan_bytes"]] = plan
    out[20:24] = zlib.crc32(plan).to_bytes(4, "little")
    out[52:56] = zlib.crc32(bytes(out[:52])).to_bytes(4, "little")
    return bytes(out)


def test_a_crafted_plan_with_right_crcs_is_refused_or_harmless(data: bytes) -> None:
    """Nobody's CRC protects from malice: random words in the plan give a clear error or a network that is its own."""
    h = fmt.FILE_HEADER.unpack(data)
    plan = data[h["plan_offset"] : h["plan_offset"] + h["plan_bytes"]]
    assert Model.from_bytes(rebuilt(data, plan)).to_bytes() == data
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(600):
        crafted = bytearray(plan)
        at = 4 * int(rng.integers(0, len(plan) // 4))
        value = int(rng.choice([0, 1, 2, 3, 7, 255, 65535, 65536, 2**31, 2**32 - 1, int(rng.integers(2**32))]))
        crafted[at : at + 4] = value.to_bytes(4, "little")
        try:
            model = Model.from_bytes(rebuilt(data, bytes(crafted)))
            Engine(model.plan)
        except ZobnnError:
            refused += 1
    assert refused > 500


def test_a_real_input_with_a_zero_point_is_refused() -> None:
    """Found by tests.fuzz: the engine refused such a plan, the reader took it."""
    data = Model.of(NETWORKS["real-hardened-5"]()).to_bytes()
    h = fmt.FILE_HEADER.unpack(data)
    plan = bytearray(data[h["plan_offset"] : h["plan_offset"] + h["plan_bytes"]])
    at = fmt.PLAN_HEADER.size
    record = fmt.TENSOR.unpack(bytes(plan), at)
    plan[at : at + fmt.TENSOR.size] = fmt.TENSOR.pack(**{**record, "zero_point": 3211264})
    with pytest.raises(ModelError, match="input: real, but with a scale or a zero point; only int8 has them"):
        Model.from_bytes(rebuilt(data, bytes(plan)))


def test_a_padding_beyond_the_format_is_refused() -> None:
    """Found by tests.fuzz: a dilation so large that half its extent does not fit the record."""
    net = Author((8, 8, 4)).conv(4, 5, padding="half", weight=None, dilation=(36092, 19553)).network()
    with pytest.raises(ModelError, match="conv1: a number does not fit the format"):
        Model.of(net)


def test_names_that_cannot_be_printed_are_refused() -> None:
    """Found by tests.fuzz: a line break in a name made a refusal two lines long."""
    net = NETWORKS["real-hardened-5"]()
    for name in ("two\nlines", "zero\0", "\x1b[2J"):
        with pytest.raises(ModelError, match="holds characters that cannot be printed; rename it"):
            Model.of(replace(net, name=name)).to_bytes()
    data = Model.of(replace(net, name="X" * 9)).to_bytes()
    h = fmt.FILE_HEADER.unpack(data)
    with pytest.raises(ValueError, match="a name holds characters that cannot be printed"):
        Names.decode(data[h["names_offset"] :].replace(b"X" * 9, b"two\nlines"), *counts(Model.of(net).plan))


def test_codes_in_rows_are_refused(data: bytes) -> None:
    """Found by tests.fuzz: the engine refused such a plan, the reader took it."""
    h = fmt.FILE_HEADER.unpack(data)
    plan = bytearray(data[h["plan_offset"] : h["plan_offset"] + h["plan_bytes"]])
    first = fmt.PLAN_HEADER.size + counts(bytes(plan))[0] * fmt.TENSOR.size
    for at in range(first, first + counts(bytes(plan))[1] * fmt.PARAMETER.size, fmt.PARAMETER.size):
        record = fmt.PARAMETER.unpack(bytes(plan), at)
        if record["encoding"] == fmt.ENCODINGS["uniform"] and record["count"] % 8 == 0:
            plan[at : at + fmt.PARAMETER.size] = fmt.PARAMETER.pack(**{**record, "row": 8})
            break
    with pytest.raises(ModelError, match="only binary weights have rows"):
        Model.from_bytes(rebuilt(data, bytes(plan)))
