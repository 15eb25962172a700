"""Hardening policies side by side: what each would take on a board, without building any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zobnn_edge.audit.prediction import predict
from zobnn_edge.audit.vulnerability import Mission
from zobnn_edge.boards import Board
from zobnn_edge.errors import InputError, ZobnnError
from zobnn_edge.harden import Policy, harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network

POLICIES: dict[str, Callable[[Network], Network]] = {
    "as given": lambda net: net,
    "8 bit": lambda net: harden(net, Policy(8)),
    "12 bit": lambda net: harden(net, Policy(12)),
}
"""What a network can be made into, by name. The first is the network itself: float32 if it was not hardened."""


def compare_policies(
    net: Network, board: Board | None, mission: Mission | None = None, names: Sequence[str] = tuple(POLICIES)
) -> list[dict[str, Any]]:
    """A row a policy: bytes and bits of parameters, arena; with a board flash, RAM, stack and whether it fits.

    Raises InputError for a name that is no policy.
    """
    rows = []
    for name in names:
        if name not in POLICIES:
            raise InputError(f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
        model = Model.of(POLICIES[name](net))
        bits = sum(r.count * r.encoding.bits for r in model.image.regions)
        row: dict[str, Any] = {
            "policy": name,
            "parameters": len(model.image.data),
            "code_bits": bits,
            "arena": model.arena_bytes,
        }
        if board is not None:
            row |= _on_board(model, board)
        if mission is not None:
            row["upsets"] = mission.upsets(bits)
        rows.append(row)
    return rows


def _on_board(model: Model, board: Board) -> dict[str, Any]:
    try:
        audit = predict(model, board)
    except ZobnnError:
        return {"flash": None, "ram": None, "stack": None, "fits": None}
    totals = audit.totals
    return {"flash": totals["flash"], "ram": totals["ram"], "stack": totals["stack"], "fits": audit.fits}
