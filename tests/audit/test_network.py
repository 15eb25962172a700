"""What a network takes: parameters to the bit, the arena to the byte, joined with the firmware that holds it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.networks import NETWORKS, thresholds
from zobnn_edge.audit.audit import Audit, Firmware, audit_firmware
from zobnn_edge.audit.network import contents, encoding_name, read_model
from zobnn_edge.encoding import Binary, Float32, Int32, Uniform
from zobnn_edge.errors import InputError
from zobnn_edge.firmware import built
from zobnn_edge.layout import lay_out
from zobnn_edge.model_file import Model

networks = pytest.mark.parametrize("name", NETWORKS)


@networks
def test_parameters_add_up_to_the_image(name: str) -> None:
    model = Model.of(NETWORKS[name]())
    found = contents(model)
    assert sum(p.bytes for p in found.parameters) == len(model.image.data) == found.image_bytes
    assert sum(row.parameters for row in found.layers) == found.image_bytes
    for p in found.parameters:
        region = model.image.region(p.name)
        assert p.code_bits == region.count * region.encoding.bits
        assert p.lost_bits == 8 * p.bytes - p.code_bits >= 0
        assert 8 * p.bytes >= region.bits


@networks
def test_the_arena_is_what_its_blocks_need(name: str) -> None:
    """Blocks that live together do not overlap, and one reaches the arena's end."""
    model = Model.of(NETWORKS[name]())
    arena = contents(model).arena
    assert arena.bytes == model.arena_bytes == max(b.offset + b.bytes for b in arena.blocks)
    layers = len(contents(model).layers)
    owners = np.zeros((layers, arena.bytes), np.uint8)
    for b in arena.blocks:
        owners[b.first : b.last + 1, b.offset : b.offset + b.bytes] += 1
    assert owners.max() == 1
    live = owners.sum(axis=1, dtype=np.int64)
    assert live.tolist() == [row.live for row in contents(model).layers]
    assert arena.peak == live.max()
    assert contents(model).layers[int(live.argmax())].name == arena.peak_layer


@networks
def test_what_a_layer_reads_and_writes_is_live_while_it_runs(name: str) -> None:
    model = Model.of(NETWORKS[name]())
    net, layout, found = model.network, lay_out(model.network, model.work), contents(model)
    for step, group in enumerate(layout.groups):
        held = [(b.offset, b.offset + b.bytes) for b in found.arena.blocks if b.first <= step <= b.last]
        for tensor in {t for op in group for t in op.inputs} | {group[-1].output}:
            if tensor in layout.offsets:
                assert any(a <= layout.offsets[tensor] < b for a, b in held), f"{tensor} of {net.name}"


def test_a_firmware_is_joined_with_its_layers(an386: Audit, model: Model) -> None:
    """Layer, parameter, bytes in a section, region: in flash and in RAM."""
    assert an386.contents is not None
    for p in an386.contents.parameters:
        rows = [r for r in an386.parts if r.role == "parameters" and r.symbol.endswith(f": {p.name}")]
        assert {(r.region, r.section) for r in rows} == {("FLASH", ".rodata"), ("RAM", ".parameters")}
        assert {r.bytes for r in rows} == {p.bytes}
        assert {r.layer for r in rows} == {p.layer}
        assert {r.address for r in rows} == {p.ram_address, p.flash_address}


def test_a_firmware_alone_gives_the_same_network(model: Model, an386: Audit) -> None:
    """The plan has no names, but all else."""
    firmware = Firmware.read(built(model, "mps2-an386"))
    alone = audit_firmware(firmware)
    assert alone.contents is not None
    assert an386.contents is not None
    for ours, theirs in zip(alone.contents.layers, an386.contents.layers, strict=True):
        assert ours.operations == theirs.operations
        assert (ours.parameters, ours.code_bits, ours.scratch, ours.live) == (
            theirs.parameters,
            theirs.code_bits,
            theirs.scratch,
            theirs.live,
        )
    read = read_model(firmware.elf, "x")
    assert read is not None
    assert (read.plan, read.image.data) == (model.plan, model.image.data)


def test_a_firmware_of_another_network_is_refused(model: Model) -> None:
    firmware = Firmware.read(built(model, "mps2-an386"))
    with pytest.raises(InputError, match="holds another network than test; build it again"):
        audit_firmware(firmware, model=Model.of(thresholds()))


def test_encodings_have_names() -> None:
    encodings = (Float32(), Int32(), Binary(row=3), Uniform(12, 1.0, 0))
    assert [encoding_name(e) for e in encodings] == ["float32", "int32", "binary", "uniform 12"]
