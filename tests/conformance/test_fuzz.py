"""A corrupt plan is refused, never followed: mutated plans and random images under AddressSanitizer and UBSan."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.networks import NETWORKS
from zobnn_edge.model_file import Model

ROOT = Path(__file__).parents[2]
ROUNDS = 20_000


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "fuzz_plan"
    sources = [Path(__file__).with_name("fuzz_plan.c"), *(ROOT / "firmware/engine").glob("*.c")]
    flags = ["-std=c99", "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["gcc", *flags, f"-I{ROOT / 'firmware/engine'}", *sources, "-o", program], check=True)
    return program


@pytest.mark.parametrize(
    "name",
    ["binary_chain-8", "thresholds-hardened-8", "residual-hardened-12", "real-hardened-5", "bytes_in-hardened-8"],
)
def test_mutated_plans(name: str, fuzzer: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    plan.write_bytes(Model.of(NETWORKS[name]()).plan)
    run = subprocess.run([fuzzer, plan, str(ROUNDS), "1"], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    loaded = int(run.stdout)
    assert 1 <= loaded < 0.5 * ROUNDS, "the first plan is the original; most mutants must be refused"
