"""Hardening policies: which parameter is stored how. A policy is a small TOML file that people write and reports quote:

    bits = 8
    range = "error"

    [[rules]]
    types = ["L"]
    place = ["last"]
    bits = 12

What stands at the top holds for every real-valued parameter; of the rules that select a parameter, each changes what it
names, the last one having the last word.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from zobnn_edge import protection
from zobnn_edge.encoding import Clamped, Code, Float16, Guarded, Protected, Scales, Uniform
from zobnn_edge.errors import InputError
from zobnn_edge.files import read_bytes
from zobnn_edge.protection import Protection
from zobnn_edge.tensor import Parameter

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHOICES: dict[str, tuple[str, ...]] = {
    "encoding": ("uniform", "float32", "float16", "guarded", "clamped"),
    "range": ("error", "minmax", "symmetric", "percentile", "damage", "power"),
    "codes": ("affine", "symmetric"),
    "scales": ("flash", "ram", "tmr"),
}
"""The words that a key of a coding may have."""
SCORES = ("kept", "ranked")
"""What becomes of the scores."""


@dataclass(frozen=True)
class Coding:
    """How one parameter is stored.

    `bits` of a code, 2 to 16; its `range` (docs/method.md, "Ranges"); `codes` with a zero point of their own, or
    symmetric about 0; the central share of the values that range "percentile" reaches, in percent; the fault rate that
    range "damage" is designed for; where `scales` and zero points lie; `encoding`: uniform codes, or a float;
    `protection` of its bits: none, hamming, secded or voted:N.
    """

    bits: int = 8
    range: str = "error"
    codes: str = "affine"
    percentile: float = 99.0
    fault_rate: float = 1e-3
    scales: str = "flash"
    encoding: str = "uniform"
    protection: str = "none"

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise InputError(f"codes of {self.bits} bits; a code has 2 to 16")
        for key, known in CHOICES.items():
            _demand_one_of(key, getattr(self, key), known)
        if not 0 < self.percentile <= 100:
            raise InputError(f"percentile = {self.percentile:g}; it must be above 0 and at most 100")
        if not 0 <= self.fault_rate < 1:
            raise InputError(f"fault_rate = {self.fault_rate:g}; it must be at least 0 and below 1")

        self._protection()

    def wrong_bits(self) -> NDArray[np.float64]:
        """The probabilities (bits,) that bits of a code are read wrongly at the design fault rate."""
        by = self._protection()
        return by.wrong(self.bits, self.fault_rate) if by else np.full(self.bits, self.fault_rate)

    def stored(self, p: Parameter) -> Parameter:
        """A parameter that has its codes, or is float32, as it lies in memory; raises InputError where it cannot."""
        by = self._protection()
        code = p.encoding
        if isinstance(code, Uniform):
            code = replace(code, scales=cast(Scales, self.scales))
        elif self.encoding == "float16":
            code = Float16()
        elif self.encoding in ("guarded", "clamped"):
            code = Guarded.of(p.values) if self.encoding == "guarded" else Clamped.of(p.values)
        try:
            return p.encoded(Protected(cast(Code, code), by) if by else code)
        except ValueError as error:
            raise InputError(f"{p.name}: {error}; give it another protection, or other bits") from None

    def _protection(self) -> Protection | None:
        try:
            return protection.parse(self.protection)
        except ValueError as error:
            raise InputError(str(error)) from None


@dataclass(frozen=True)
class Selection:
    """A choice of parameters: by layer (patterns as of file names), role, type, and whether the weights are the first
    or the last layer's. None chooses all; a parameter is chosen that is chosen by each."""

    layers: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    place: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for key, known in _SELECTORS.items():
            for value in getattr(self, key) or ():
                if value not in known:
                    raise InputError(f"{key} = [{value!r}]: there are {_listed(known)}")

    def holds(self, p: Parameter, place: str) -> bool:
        """Whether it chooses a parameter; `place`: first, last or inner."""
        layers = self.layers is None or any(fnmatchcase(p.layer, pattern) for pattern in self.layers)
        pairs = ((self.roles, p.role), (self.types, p.type), (self.place, place))
        return layers and all(chosen is None or value in chosen for chosen, value in pairs)


_SELECTORS = {
    "roles": ("weight", "scale", "bias", "slope", "threshold"),
    "types": ("L", "S"),
    "place": ("first", "last", "inner"),
}


@dataclass(frozen=True)
class Rule:
    """What is otherwise for some parameters: keys and values of a Coding."""

    where: Selection
    changes: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Policy(Coding):
    """How to harden a network: the coding of its real-valued parameters, and rules for some of them.

    `byte_inputs`: let inputs stay bytes where the first layer can compute in integers (`rewrite.on_bytes`); then
    float32 inputs are rounded to what pixels stand for. `scores`: kept as they are, or ranked: a positive factor that
    all of them share at the end is left out, so that their order stays and their unit does not.
    """

    byte_inputs: bool = True
    scores: str = "kept"
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _demand_one_of("scores", self.scores, SCORES)

    def coding(self, p: Parameter, place: str = "inner") -> Coding:
        """How a parameter is stored; `place`: whether it is the weights of the first or the last layer."""
        changes: dict[str, Any] = {}
        for rule in self.rules:
            if rule.where.holds(p, place):
                changes.update(rule.changes)
        return replace(Coding(**{f.name: getattr(self, f.name) for f in fields(Coding)}), **changes)

    def check(self, layers: Collection[str]) -> None:
        """Raise InputError for a rule about layers that a network does not have."""
        for number, rule in enumerate(self.rules, 1):
            for pattern in rule.where.layers or ():
                if not any(fnmatchcase(layer, pattern) for layer in layers):
                    known = ", ".join(dict.fromkeys(layers))
                    raise InputError(f"policy, rule {number}: there is no layer {pattern}; there are {known}")

    def text(self) -> str:
        """The policy as TOML; `parse` gives it back."""
        lines = [f"{f.name} = {_toml(getattr(self, f.name))}" for f in fields(self) if f.name != "rules"]
        for rule in self.rules:
            chosen = [(key, getattr(rule.where, key)) for key in _keys(Selection)]
            lines += ["", "[[rules]]"]
            lines += [f"{key} = {_toml(list(value))}" for key, value in chosen if value is not None]
            lines += [f"{key} = {_toml(value)}" for key, value in rule.changes]
        return "\n".join(lines) + "\n"

    @staticmethod
    def parse(text: str, where: str = "policy") -> Policy:
        """The policy of a TOML text; raises InputError naming `where`, the key and what it may be."""
        try:
            table: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{where}: {error}") from None
        rules = table.pop("rules", [])
        try:
            if not isinstance(rules, list):
                raise InputError("rules are written [[rules]]")
            top = _checked(table, (*_keys(Coding), "byte_inputs", "scores"))
            made = [_rule(rule, f"rule {number}") for number, rule in enumerate(rules, 1)]
            return Policy(**top, rules=tuple(made))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None


def load(name: str) -> Policy:
    """The policy of a TOML file, or one that comes with the package, by name."""
    path = Path(name)
    if path.suffix != ".toml" and name in shipped():
        path = _FOLDER / f"{name}.toml"
    elif path.suffix != ".toml":
        raise InputError(f"there is no policy {name}; give a .toml file, or one of {_listed(shipped())}")
    return Policy.parse(read_bytes(path).decode(errors="replace"), str(path if path.parent != _FOLDER else name))


def shipped() -> tuple[str, ...]:
    """The names of the policies that come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


_FOLDER = Path(__file__).parent / "policies"


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    try:
        checked = _checked(table, (*_keys(Selection), *_keys(Coding)))
        chosen = {key: tuple(checked.pop(key)) for key in _keys(Selection) if key in checked}
        Coding(**checked)  # each value on its own must be possible
        return Rule(Selection(**chosen), tuple(checked.items()))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _checked(table: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """The table, its keys and the kinds of its values being known."""
    for key, value in table.items():
        if key not in known:
            raise InputError(f"there is no key {key!r}; there are {_listed(known)}")
        kind, what = _KINDS.get(key, (str, "a word"))
        whole = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or whole or (kind is list and not all(isinstance(v, str) for v in value)):
            raise InputError(f"{key} = {value!r} must be {what}")
    return dict(table)


_KINDS: dict[str, tuple[Any, str]] = {
    "bits": (int, "a whole number"),
    "percentile": ((int, float), "a number"),
    "fault_rate": ((int, float), "a number"),
    "byte_inputs": (bool, "true or false"),
    **dict.fromkeys(("layers", "roles", "types", "place"), (list, "a list of words")),
}


def _demand_one_of(key: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise InputError(f"there is no {key} {value!r}; there are {_listed(known)}")


def _keys(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cast(Any, cls)))


def _listed(words: Collection[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _toml(value: Any) -> str:
    """A word, number, truth value or list of words as TOML: JSON writes these the same way."""
    return json.dumps(value, ensure_ascii=False)
