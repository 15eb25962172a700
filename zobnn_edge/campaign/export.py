"""A journal's trials as a table for other programs: CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zobnn_edge.campaign.journal import Journal
from zobnn_edge.errors import InputError
from zobnn_edge.files import write_atomic

COLUMNS = (
    *("number", "amount", "seed", "part", "flips", "addresses", "layer", "role", "bit", "outcome", "changed"),
    *("deviation", "corrected", "correct", "inputs", "accuracy", "instructions", "target", "detail"),
)


def export(journal: Journal, path: Path) -> None:
    """Write all trials to `path`, whole or not at all; its suffix (.csv, .parquet) says how.

    Raises InputError for another suffix, and when Parquet is wanted but pyarrow is not installed.
    """
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(_records(journal))
        write_atomic(path, text.getvalue())
    elif path.suffix == ".parquet":
        write_atomic(path, _parquet(journal))
    else:
        raise InputError(f"{path}: trials are written as .csv or .parquet")


def _records(journal: Journal) -> Iterator[dict[str, Any]]:
    strata = journal.strata
    for row in journal.rows():
        hit = strata[row.stratum][0] if row.stratum is not None else None
        yield {
            "number": row.number,
            "amount": row.amount,
            "seed": row.seed,
            "part": row.part,
            "flips": row.flips,
            "addresses": None if row.addresses is None else " ".join(map(str, row.addresses)),
            "layer": hit.layer if hit else None,
            "role": hit.role if hit else None,
            "bit": hit.bit if hit else None,
            "outcome": row.outcome.value,
            "changed": row.changed,
            "deviation": row.deviation,
            "corrected": row.corrected,
            "correct": row.correct,
            "inputs": row.inputs,
            "accuracy": row.accuracy,
            "instructions": row.instructions,
            "target": row.target,
            "detail": row.detail,
        }


def _parquet(journal: Journal) -> bytes:
    """The header is in the file's metadata, under its keys."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:  # missing, or of a version that does not fit NumPy's
        raise InputError(f"Parquet needs pyarrow ({error}); pip install 'zobnn-edge[parquet]'") from None
    kinds = {
        "number": pyarrow.int64(), "amount": pyarrow.float64(), "seed": pyarrow.int64(), "part": pyarrow.int32(),
        "flips": pyarrow.int64(), "bit": pyarrow.int32(), "changed": pyarrow.int32(),
        "deviation": pyarrow.float64(), "corrected": pyarrow.int32(), "correct": pyarrow.int32(),
        "inputs": pyarrow.int32(), "accuracy": pyarrow.float64(), "instructions": pyarrow.int64(),
    }  # fmt: skip
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in COLUMNS])
    table = pyarrow.Table.from_pylist(list(_records(journal)), schema)
    metadata = {"zobnn": json.dumps({**journal.header, "digest": journal.digest()})}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), sink)
    return bytes(sink.getvalue())
