"""Which functions of the engine come with a feature of a network, and which features with others."""

from __future__ import annotations

from zobnn_edge.plan import Preference

_BYTES = ("code_conv", "sign_conv")
ENTERED_BY: dict[str, tuple[str, ...]] = {
    "zob_conv_binary": ("bits_conv",),
    "zob_block_count": ("count",),
    "zob_compares": ("limits",),
    "zob_emit_block": ("count", "table_sums", "gated_conv"),
    "zob_put_bits": ("limits",),
    "zob_conv_gated": ("gated_conv",),
    "zob_block_table": ("table",),
    "put_gated": ("gated_conv",),
    "zob_conv_real": ("real_conv",),
    "zob_dense": ("dense",),
    "zob_missing": ("none_outside", "ones_counted"),
    "zob_reads_outside": ("ones_outside",),
    "zob_emit_sums": ("code_sums",),
    "zob_conv_bytes": _BYTES,
    "zob_block_of_signs": ("sign_conv",),
    "zob_block_of_codes": ("code_conv",),
    "zob_decides": ("intervals",),
    "zob_find_intervals": ("intervals",),
    "zob_put_pixel_bits": ("intervals",),
    "zob_splits": ("limits", "intervals"),
    "sum_codes": ("code_sums", "code_fields"),
    "zob_weight_bits": ("sign_conv", "code_fields"),
    "widen_any": ("code_fields",),
    "widen_12": ("codes_12",),
    "widen_16": ("codes_16",),
    "widen_few": ("code_fields",),
    "search_limits": ("searched_limits",),
    "zob_add_halves": ("halves",),
    "zob_copy": ("copy",),
    "zob_fp_prelu": ("prelu",),
    "zob_fp_below": ("threshold",),
    "zob_fp_low": ("low_bit",),
    "read_int8": ("int8", *_BYTES),
    "decode_codes": ("codes",),
    "multiply_rest": ("codes",),
    **{f"unpack_{bits}": (f"codes_{bits}",) for bits in (4, 8, 12, 16)},
    **{f"zob_fp_of_codes_{bits}": (f"codes_{bits}",) for bits in (4, 6, 8, 12, 16)},
    "limits_of_codes": ("coded_limits",),
    "fixed_ceilings": ("coded_limits",),
    "zob_soft_of_sums": ("coded_scales",),
    "zob_soft_of_bytes": ("codes_8",),
    "zob_int8": ("int8",),
    "zob_pool_binary": ("max_pool",),
    "zob_pool_real": ("real_pool",),
    "zob_softmax": ("softmax",),
    "zob_thermometer": ("thermometer",),
    "zob_dynamic_range": ("dynamic_range",),
    "zob_concat": ("concat",),
    "zob_pad": ("pad",),
}
"""Functions of the engine that are entered only for networks with one of some features (ZOB_HAS in its sources). Tests
hold it against the firmware of each core (tests/audit/checks.py)."""
DECIDING = {"zob_decide_bytes": ("intervals", "code_conv"), "zob_signs": ("limits", "table")}
ENTERED_BY_BOTH = {"zob_fp_of_codes_8_wide": ("codes_8", "real_conv"), **DECIDING}
"""The same of those with all of some features."""
NEEDS: dict[str, tuple[str, ...]] = {
    "count": ("bits_conv",),
    "table": ("bits_conv",),
    "halves": ("table", "count"),
    "gated_conv": ("table_sums", "limits"),
    "limits": ("bits_conv",),
    "coded_limits": ("limits",),
    "coded_scales": ("bits_conv",),
    "searched_limits": ("limits",),
    "ones_outside": ("bits_conv",),
    "none_outside": ("bits_conv",),
    "ones_counted": ("ones_outside",),
    "table_sums": ("table",),
    "code_sums": ("code_conv",),
    "code_fields": ("code_conv",),
    "codes_any": ("codes",),
    "bytes_apart": ("code_conv",),
    **{f"codes_{bits}": ("codes",) for bits in (4, 6, 8, 12, 16)},
}
"""A feature that comes with others."""
TABLES = frozenset({"table", "halves", "table_sums"})
FAST = frozenset({"table", "halves", *(f"codes_{bits}" for bits in (4, 6, 8, 12, 16))})
"""Features that no network has which prefers size."""


def without(wanted: frozenset[str]) -> frozenset[str]:
    """Functions of the engine that networks with these features do not enter."""
    some = {function for function, needed in ENTERED_BY.items() if not wanted & set(needed)}
    return frozenset(some | {function for function, needed in ENTERED_BY_BOTH.items() if not wanted >= set(needed)})


def with_needs(feature: str, prefer: Preference) -> frozenset[str]:
    """A feature with what it needs."""
    found = frozenset({feature}).union(*(with_needs(needed, prefer) for needed in NEEDS.get(feature, ())))
    return found if prefer == "speed" else found - FAST - TABLES
