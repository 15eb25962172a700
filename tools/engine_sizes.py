"""Measure what firmware takes beside its network, on every board, and write zobnn_edge/audit/sizes.json.

Of every board the firmware of one small network is built several times, for speed and for size. Which functions come
with a feature follows from the call graph of an engine of nearly all of them: those that are reached only through
functions of that feature. What a feature takes that lies in the midst of functions which others enter is the difference
that it makes. The rest of a firmware of typical features is what every network has.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numpy as np

from converters.c_header import c_header
from tools.entered import DECIDING, FAST, TABLES, with_needs, without
from zobnn_edge.audit.audit import Audit, Firmware, PartRow, audit_firmware
from zobnn_edge.audit.prediction import SIZES, own_bytes
from zobnn_edge.audit.stack import reached, worst_case
from zobnn_edge.boards import Board, board, boards
from zobnn_edge.encoding import Float32
from zobnn_edge.features import FEATURES, masks
from zobnn_edge.files import write_atomic
from zobnn_edge.firmware import built_with
from zobnn_edge.model_file import Model
from zobnn_edge.network import Builder
from zobnn_edge.operations import Affine
from zobnn_edge.plan import Preference


def least_model(prefer: Preference) -> Model:
    """A network of one operation."""
    b = Builder("sketch", (1, 1, 4))
    bias = b.parameter("bias", "bias", "bias", np.ones(4), Float32())
    return Model.of(b.network(b.add(Affine("affine", b.input, "affine", None, bias))), prefer=prefer)


Own = Callable[[frozenset[str]], Counter[str]]
"""Bytes by region and role of the firmware with some features, beside the network's own."""
Groups = dict[tuple[str, ...], Counter[str]]
"""Those that come with any of some features."""
Together = tuple[tuple[str, ...], str, Counter[str]]
"""Those that come with any of some features where there is another one, too."""

_OTHER = ("max_pool", "real_pool", "copy", "dense", "concat", "pad", "thermometer", "dynamic_range", "softmax")
DIVIDE = (*_OTHER, "int8")
"""Features whose functions are in an object file that divides floats: zob_other.c, zob_int8.c."""
EVERYTHING = frozenset(FEATURES)
UNPROTECTED = EVERYTHING - {"protected"}
AMONG_OTHERS = (
    *("prelu", "clip", "add", "mul", "threshold", "low_bit", "gated_conv", "searched_limits"),
    *("code_sums", "code_fields", "bytes_apart"),
    *("ones_outside", "ones_counted", "none_outside", "table_sums"),
)
"""Features in the midst of functions that others enter; some do more where there are tables, too."""
OUTSIDE = ("ones_outside", "none_outside")
INSTEAD = {"limits": ("table_sums", "bits_conv", "table"), "intervals": ("code_sums", "sign_conv", "code_conv")}
"""Bits are decided, or sums wanted, or both. The feature of the other, one with which this is the question, and another
in whose midst more is decided."""
SUMS = ("code_sums", "code_fields")
"""Features that share a function."""
WITHOUT = {"code_fields": frozenset({"codes_12", "codes_16"})}
"""Those without which a difference is taken."""
SHARED = {"none_outside": ("none_outside", "ones_counted")}
"""Where tables take the same for another feature."""
CODED = frozenset({"codes", "codes_any", "coded_limits", "coded_scales", *(f"codes_{n}" for n in (4, 6, 8, 12, 16))})
MEASURED = frozenset({"codes", "codes_8", "coded_limits", "coded_scales"})
"""Of features of codes those whose bytes are differences."""
BARE: dict[Preference, frozenset[str]] = {
    "speed": UNPROTECTED - frozenset(AMONG_OTHERS),
    "size": UNPROTECTED - frozenset(AMONG_OTHERS) - FAST,
}
TYPICAL = frozenset({"conv", "affine", "sign", "bits_conv", "count", "real_conv"})


def header(wanted: frozenset[str], prefer: Preference = "speed") -> str:
    """The C header of the small network with features of the engine other than what it needs."""
    text = c_header(least_model(prefer))
    for name, mask in zip(("OPS", "KERNELS"), masks(wanted), strict=True):
        text = re.sub(rf"(MODEL_{name}) 0x[0-9A-F]+u", rf"\1 0x{mask:X}u", text)
    return text


def measure(name: str) -> dict[str, Any]:
    """Sizes of one board by what is preferred."""
    return {prefer: _measure(board(name), prefer) for prefer in get_args(Preference)}


def _measure(target: Board, prefer: Preference) -> dict[str, Any]:
    model = least_model(prefer)

    def own(wanted: frozenset[str]) -> Counter[str]:
        """What firmware with these features takes beside the network's own bytes."""
        return _own(audit_firmware(firmware(wanted), target, model), model)

    def firmware(wanted: frozenset[str]) -> Firmware:
        return Firmware.read(built_with(header(wanted, prefer), target))

    bare, typical, whole = firmware(BARE[prefer]), firmware(TYPICAL), firmware(EVERYTHING)
    groups = _groups(bare, audit_firmware(bare, target, model), model, typical, prefer)
    together = [*_differences(own, groups, prefer), *_decided(own, groups, prefer), *_of_codes(own, groups, prefer)]
    groups[("protected",)] = own(EVERYTHING) - own(UNPROTECTED)
    groups[()] = own(TYPICAL)
    # Where something divides, libgcc's multiplication of floats comes in one section with its division.
    dividing = own(TYPICAL | {"softmax"})["FLASH library"] - groups[()]["FLASH library"]
    dividing -= sum(n["FLASH library"] for when, n in groups.items() if "softmax" in when and not TYPICAL & set(when))
    if dividing > 0:
        groups[DIVIDE] = Counter({"FLASH library": dividing})
    for when, taken in groups.items():
        if TYPICAL & set(when):
            groups[()].subtract(taken)
    listed: list[dict[str, Any]] = [
        {"when": list(when), "bytes": dict(sorted(n.items()))} for when, n in sorted(groups.items())
    ]
    listed += [{"when": list(when), "and": more, "bytes": dict(sorted(n.items()))} for when, more, n in together]
    return {"groups": listed, "stack": _stacks(whole, prefer)}


def _differences(own: Own, groups: Groups, prefer: Preference) -> list[Together]:
    """Add what the features in the midst of others take; returns what they take with another one."""
    together: list[Together] = []
    for feature in AMONG_OTHERS:
        most = BARE[prefer] - WITHOUT.get(feature, frozenset()) | with_needs(feature, prefer)
        if feature == "ones_counted":
            most |= {"none_outside"}  # what both take is counted there
        takes = _sum([own(most)], [own(most - {feature})])
        if feature in OUTSIDE and prefer == "speed":
            alone = own(most - TABLES) - own(most - TABLES - {feature})
            together.append((SHARED.get(feature, (feature,)), "table", takes - alone))
            takes = alone
        if feature in OUTSIDE:
            together.append(((feature,), "count", takes))
        else:
            groups[(feature,)] = takes
    most = (BARE[prefer] | {"code_conv"}) - WITHOUT["code_fields"]
    groups[SUMS] = _sum([groups[(feature,)] for feature in SUMS] + [own(most)], [own(most | set(SUMS))])
    for feature in SUMS:
        groups[(feature,)].subtract(groups[SUMS])
    return together


def _decided(own: Own, groups: Groups, prefer: Preference) -> list[Together]:
    """Add what it takes to decide bits, which functions do that are bare of sums; returns what it takes with more."""
    together: list[Together] = []
    for feature, (sums, having_it, more) in INSTEAD.items():
        of = (BARE[prefer] | {sums}) - {"coded_limits"}
        few = _amidst(own, feature, of - TABLES - {more}, groups)
        many = _sum([_amidst(own, feature, of, groups)], [few])
        for when, n in ((feature, few), (having_it, _sum([], [few])), (more, _sum([], [many]))):
            groups[(when,)] = _sum([groups.get((when,), Counter()), n])
        together.append(((feature,), more, many))
    return together


def _sum(added: Iterable[Counter[str]], taken: Iterable[Counter[str]] = ()) -> Counter[str]:
    """Of bytes by region and role; nothing is lost that is less than 0."""
    total = Counter[str]()
    for n in added:
        total.update(n)
    for n in taken:
        total.subtract(n)
    return total


def _amidst(own: Own, feature: str, of: frozenset[str], groups: Groups) -> Counter[str]:
    """What a feature takes in the midst of functions that others enter: beside its own, which groups have."""
    only = [
        n
        for when, n in groups.items()
        if feature in when and all(feature in with_needs(f, "speed") for f in of & set(when))
    ]
    return _sum([own(of)], [own(of - {feature}), *only])


def _of_codes(own: Own, groups: Groups, prefer: Preference) -> list[Together]:
    """Add what decoding and limits take where all codes are bytes, and what each takes more for codes of any width;
    returns what both take together, and long rows with real convolutions."""
    most = BARE[prefer] - {"real_conv"}
    none, limits = most - CODED | {"limits"}, {"coded_limits"}
    of_bytes = none | ({"codes", "codes_8"} & most)
    of_any = of_bytes | {"codes_any"}
    takes = own(of_bytes) - own(none)
    few, more = own(of_bytes | limits) - own(of_bytes), own(of_any | limits) - own(of_any)
    scales = own(of_bytes | {"coded_scales"}) - own(of_bytes)
    for when in [when for when in groups if set(when) <= CODED and set(when) & MEASURED]:
        del groups[when]
    groups |= {("codes",): takes, ("codes_any",): own(of_any) - own(of_bytes)}
    groups |= {("coded_limits",): few, ("coded_scales",): scales}
    coded = TYPICAL | {"codes", "codes_8"}
    wide = _sum([own(coded), own(TYPICAL - {"real_conv"})], [own(TYPICAL), own(coded - {"real_conv"})])
    return [(("codes_any",), "coded_limits", more - few), (("codes_8",), "real_conv", wide)]


def _stacks(whole: Firmware, prefer: Preference) -> dict[str, Any]:
    """The worst case of networks of each single feature, and of an interrupt."""
    main = {}
    for feature in FEATURES:
        found = worst_case(whole.elf, whole.frames, without(with_needs(feature, prefer)))
        assert found is not None
        assert found.bytes is not None, (found.recursion, found.unbounded)
        main[feature], interrupt = found.main, found.interrupt
    return {"main": main, "interrupt": interrupt}


def _others(audit: Audit, model: Model) -> Iterator[PartRow]:
    """Parts that are not the network's own."""
    own = {place for place in own_bytes(model) if place[1] != "static"} | {("RAM", "stack"), ("RAM", "padding")}
    for p in audit.parts:
        aligns = p.section == ".rodata" and p.role == "padding"
        if (p.region, p.role) not in own and p.symbol != "scores" and not aligns:
            yield p


def _own(audit: Audit, model: Model) -> Counter[str]:
    """Bytes by region and role of what every network has."""
    sums = Counter[str]()
    for p in _others(audit, model):
        sums[f"{p.region} {p.role}"] += p.bytes
    return sums


def _groups(firmware: Firmware, audit: Audit, model: Model, typical: Firmware, prefer: Preference) -> Groups:
    """Bytes by region and role of what comes with some features of a bare firmware; padding goes with what it follows.
    What one of `typical` features holds without being reached (in libgcc) does not."""
    everything, always = input_sections(firmware), input_sections(firmware, without(frozenset()))
    by_feature = {f: input_sections(firmware, _graph(with_needs(f, prefer))) for f in FEATURES if f in BARE[prefer]}
    held = {(s.object, s.name) for s in typical.map.sections}
    counting = without(with_needs("count", prefer))
    trying = without(with_needs("intervals", prefer))
    by_feature["searched_limits"] = by_feature["intervals"] - input_sections(firmware, trying | {"find_changes"})
    if prefer == "speed":
        by_feature["table_sums"] = by_feature["count"] - input_sections(firmware, counting | {"zob_emit_block"})
    sums: Groups = {}
    before: int | None = None
    for p in _others(audit, model):
        section = firmware.map.at(p.address)
        if p.role != "padding":
            before = section.address if section else None
        if before in everything - always:
            when = tuple(feature for feature, found in by_feature.items() if before in found)
            place = firmware.map.at(before)
            if place and not TYPICAL & set(when) and (place.object, place.name) in held:
                continue
            sums.setdefault(when, Counter())[f"{p.region} {p.role}"] += p.bytes
    return sums


def _graph(wanted: frozenset[str]) -> frozenset[str]:
    """Functions left out, where those that decide belong to the midst of what they decide in."""
    return without(wanted) - {function for function, (_, more) in DECIDING.items() if more in wanted}


def input_sections(firmware: Firmware, excluded: frozenset[str] = frozenset()) -> frozenset[int]:
    """Addresses of the linker's input sections with anything in them that is reached, which it keeps as a whole."""
    found = [s for address in reached(firmware.elf, excluded) if (s := firmware.map.at(address)) is not None]
    objects = {s.object for s in found}
    nameless = (s for s in firmware.map.sections if s.name == ".rodata" and s.object in objects)  # of libgcc
    return frozenset(s.address for s in (*found, *nameless))


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("boards", nargs="*", help="boards to measure anew; by default all")
    names = parser.parse_args().boards or [n for n, b in boards().items() if b.toolchain == "arm-none-eabi"]
    with ThreadPoolExecutor(2) as pool:
        measured = dict(zip(names, pool.map(measure, names), strict=True))
    before = json.loads(SIZES.read_text())["boards"] if SIZES.exists() else {}
    kept = {name: before[name] for name in before if name in boards()}
    write_atomic(SIZES, json.dumps({"boards": dict(sorted((kept | measured).items()))}, indent=1) + "\n")
    print(f"{SIZES}: {len(measured)} boards")


if __name__ == "__main__":
    main()
