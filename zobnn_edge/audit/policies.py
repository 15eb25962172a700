"""Hardening policies side by side: what each would take on a board, without building any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zobnn_edge.audit.prediction import predict
from zobnn_edge.audit.vulnerability import Mission
from zobnn_edge.boards import Board
from zobnn_edge.errors import ZobnnError
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.policy import CHOICES, Policy

AS_GIVEN = "as given"
"""The network itself: float32 if it was not hardened."""


def usual_policies() -> dict[str, Policy | None]:
    """What a network can be made into, by name: nothing, codes of 8 and of 12 bits, of 8 with redundant bits, and every
    other encoding."""
    others = (name for name in CHOICES["encoding"] if name not in ("uniform", "float32"))
    coded = {f"{bits} bit": Policy(bits) for bits in (8, 12)}
    coded["8 bit, hamming"] = Policy(8, protection="hamming")
    return {AS_GIVEN: None} | coded | {name: Policy(8, encoding=name) for name in others}


def compare_policies(
    net: Network, board: Board | None, mission: Mission | None, policies: Mapping[str, Policy | None]
) -> list[dict[str, Any]]:
    """A row a policy: bytes and bits of parameters, arena; with a board flash, RAM, stack and whether it fits; with a
    mission the upsets to be expected."""
    rows = []
    for name, policy in policies.items():
        model = Model.of(harden(net, policy) if policy is not None else net)
        bits = sum(r.code_bits for r in model.image.regions)
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
