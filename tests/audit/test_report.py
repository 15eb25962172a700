"""`zobnn audit`: what it prints and writes, what it holds against baseline and budget, its exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.networks import Author, thresholds
from zobnn_edge import model_file, zoo
from zobnn_edge.audit import compare, report
from zobnn_edge.audit.audit import Audit
from zobnn_edge.audit.page import write_page
from zobnn_edge.cli.main import run
from zobnn_edge.errors import ZobnnError
from zobnn_edge.firmware import COMPANIONS, built
from zobnn_edge.model_file import Model

SCHEMA = json.loads(report.SCHEMA.read_text())
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a network and its firmware."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "net.zob").write_bytes(model.to_bytes())
    elf = built(model, "mps2-an386")
    for suffix in (".elf", *COMPANIONS):
        shutil.copy(elf.with_suffix(suffix), tmp_path / f"fw{suffix}")
    return tmp_path


def printed_json(capsys: Capture) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    return data


@pytest.mark.parametrize(
    "arguments",
    [
        ["fw.elf"],
        ["fw.elf", "--net", "net.zob", "--fit", "600"],
        ["fw.elf", "--baseline", "fw.elf"],
        ["net.zob"],
        ["net.zob", "--board", "microbit", "--policies", "--fit", "600", "--hours", "1e5"],
    ],
)
def test_json_keeps_to_its_schema(arguments: list[str], folder: Path, capsys: Capture) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert run(["audit", *arguments, "--json"]) == 0
    assert printed_json(capsys)["name"]


@pytest.mark.parametrize("by", ["role", "section", "object", "source", "symbol", "layer"])
def test_the_table_says_what_the_data_says(by: str, folder: Path, capsys: Capture) -> None:
    assert run(["audit", "fw.elf", "--net", "net.zob", "--by", by]) == 0
    out = capsys.readouterr().out
    assert re.search(r"RAM +[\d,]+ +4,194,304", out)
    assert "stack, worst case" in out
    assert "zob_run" in out
    expected = {"role": "link buffers", "section": ".rodata", "object": "zob_run", "source": "engine/zob_run.c"}
    assert (expected | {"symbol": "zob_run", "layer": "conv1"})[by] in out


def test_all_that_is_written_agrees(folder: Path, an386: Audit, capsys: Capture) -> None:
    outputs = ["-o", "page.html", "--csv", "parts.csv", "--markdown", "pr.md"]
    assert run(["audit", "fw.elf", "--net", "net.zob", *outputs, "--json"]) == 0
    data = printed_json(capsys)
    assert data == json.loads(json.dumps(report.as_json(an386))) | {"changes": [], "over_budget": []}
    rows = list(csv.DictReader(io.StringIO((folder / "parts.csv").read_text())))
    assert sum(int(row["bytes"]) for row in rows) == data["totals"]["flash"] + data["totals"]["ram"]
    text = (folder / "pr.md").read_text()
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    assert len(tables) == 2
    assert all(len({line.replace(r"\|", "").count("|") for line in t.splitlines()}) == 1 for t in tables)
    for region in data["regions"]:
        assert f"| {region['name']} | {region['used']:,} | {region['capacity']:,} |" in text


def test_a_baseline_shows_what_changed(folder: Path, capsys: Capture) -> None:
    """Against itself nothing; against a smaller network its parameters, in both memories, by every column."""
    assert run(["audit", "fw.elf", "--net", "net.zob", "--json"]) == 0
    (folder / "before.json").write_text(capsys.readouterr().out)
    assert run(["audit", "fw.elf", "--net", "net.zob", "--baseline", "before.json", "--json"]) == 0
    assert printed_json(capsys)["changes"] == []
    other = built(Model.of(thresholds()), "mps2-an386")
    assert run(["audit", str(other), "--baseline", "before.json", "--json"]) == 0
    after = printed_json(capsys)
    changes = {(d["column"], d["region"], d["name"]): d["change"] for d in after["changes"]}
    before = json.loads((folder / "before.json").read_text())
    grown = after["totals"]["parameters"] - before["totals"]["parameters"]
    assert grown != 0
    assert changes["role", "RAM", "parameters"] == changes["role", "FLASH", "parameters"] == grown
    assert changes["total", "", "arena"] == after["totals"]["arena"] - before["totals"]["arena"]
    for region in ("FLASH", "RAM"):
        whole = changes["region", region, region]
        assert whole == sum(c for (column, r, _), c in changes.items() if column == "section" and r == region)
        assert whole == sum(c for (column, r, _), c in changes.items() if column == "symbol" and r == region)
    assert run(["audit", str(other), "--baseline", "before.json", "--markdown", "pr.md"]) == 0
    assert "### Changes" in (folder / "pr.md").read_text()


def test_a_budget_that_is_kept_says_nothing(folder: Path, capsys: Capture) -> None:
    (folder / "budget.toml").write_text(
        "flash = 1_000_000\nstack = 4096\n[region]\nRAM = 65536\n[layer]\nconv1 = 4096\n"
    )
    assert run(["audit", "fw.elf", "--net", "net.zob", "--budget", "budget.toml"]) == 0
    assert capsys.readouterr().err == ""


def test_a_budget_that_is_not_kept_is_exit_code_1_with_what_and_how_much(folder: Path, capsys: Capture) -> None:
    (folder / "budget.toml").write_text("arena = 600\nram = 100_000\n[region]\nFLASH = 1000\n[layer]\nconv1 = 600\n")
    assert run(["audit", "fw.elf", "--net", "net.zob", "--budget", "budget.toml", "--json"]) == 1
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    flash, arena = data["totals"]["flash"], data["totals"]["arena"]
    assert f"over budget: arena: {arena:,} bytes, {arena - 600:,} over the 600 allowed" in captured.err
    assert f"over budget: region FLASH: {flash:,} bytes, {flash - 1000:,} over the 1,000 allowed" in captured.err
    assert "layer conv1: 608 bytes, 8 over the 600 allowed" in captured.err
    assert [e["what"] for e in data["over_budget"]] == ["arena", "region FLASH", "layer conv1"]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("flash = -1", "flash: a budget is a whole number of bytes"),
        ("flash = 'much'", "flash: a budget is a whole number of bytes"),
        ("disk = 5", "there is no budget for disk; there are flash, ram"),
        ("flash = ", "not a usable budget"),
        ("[region]\nCCM = 5", "there is no region CCM; there are FLASH, RAM"),
        ("[layer]\nfirst = 5", "there is no layer first; there are conv1"),
        ("region = 5", "region: a budget is a whole number of bytes"),
    ],
)
def test_a_budget_that_is_none_is_one_line(budget: str, message: str, folder: Path, capsys: Capture) -> None:
    (folder / "budget.toml").write_text(budget)
    assert run(["audit", "fw.elf", "--net", "net.zob", "--budget", "budget.toml", "-o", "page.html"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (folder / "page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.elf"], "missing.elf: there is no such file"),
        (["pr.txt"], "pr.txt"),
        (["net.zob", "--board", "no"], "there is no board no"),
        (["net.zob", "--net", "net.zob"], "--net, --map and --call-graph go with an ELF file"),
        (["fw.elf", "--policies"], "give --net NET, too"),
        (["fw.elf", "--baseline", "net.zob"], "not an audit; write one with zobnn audit --json"),
        (["fw.elf", "--fit", "-1"], "--fit and --hours"),
        (["fw.elf", "--journal", "none.db"], "none.db: there is no such file"),
    ],
)
def test_bad_use_is_exit_code_2_with_one_line(
    arguments: list[str], message: str, folder: Path, capsys: Capture
) -> None:
    assert run(["audit", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_network_that_does_not_fit_is_exit_code_1(folder: Path, capsys: Capture) -> None:
    model_file.save(Author((1, 1, 1200)).dense(200).network(), folder / "large.zob")
    assert run(["audit", "large.zob", "--board", "stm32vldiscovery"]) == 1
    assert re.search(r"test does not fit: RAM by [\d,]+ bytes", capsys.readouterr().err)


@pytest.mark.study
def test_the_largest_network_is_audited_in_two_seconds(folder: Path) -> None:
    """Of a processor's time, from the start of Python on: ResNet-8 in float32, 311 KB of parameters."""
    try:
        model = Model.of(zoo.load("resnet8"))
    except ZobnnError as error:
        pytest.skip(str(error))
    elf = built(model, "mps2-an386")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "zobnn_edge.cli.main", "audit", str(elf)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:.2f} s")
    assert seconds < 2


def test_names_with_markup_do_no_harm(an386: Audit, tmp_path: Path) -> None:
    evil = "<script>x</script>|[red]"
    audit = replace(an386, name=evil, parts=tuple(replace(p, symbol=evil) for p in an386.parts), notes=(evil,))
    write_page(audit, tmp_path / "page.html")
    assert "<script>x" not in (tmp_path / "page.html").read_text()
    assert "<script" not in report.as_markdown(audit)
    assert compare.differences(report.as_json(an386), report.as_json(audit))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw the page with")
def test_the_page_is_drawn(an386: Audit, tmp_path: Path) -> None:
    """In a browser without errors: treemaps of flash and RAM, names and sizes as text, the arena."""
    page = tmp_path / "page.html"
    write_page(an386, page)
    assert "http://" not in re.sub(r"http://www\.w3\.org[^\"']*", "", page.read_text().split("<script")[0])
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,1750"]
    command += [f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr", "--virtual-time-budget=8000"]
    drawn = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in drawn.stderr
    assert drawn.stdout.count('class="trace treemap"') + drawn.stdout.count('class="treemaplayer"') >= 2
    shown = set(re.findall(r"<text[^>]*>(.*?)</text>", drawn.stdout, re.S))
    words = {re.sub(r"<[^>]+>", " ", t).strip() for t in shown}
    for word in ("engine", "parameters", "stack", "link buffers"):
        assert any(w.startswith(word) for w in words), f"{word} is not to be read"
    assert any("zob_steps.c" in w or ("zob_run.c" in w and "B" in w) for w in words)
    assert any(w.startswith("Arena: ") for w in words)
    sizes = [float(s) for s in re.findall(r"<text[^>]*font-size: ([\d.]+)px", drawn.stdout)]
    assert sizes
    assert min(sizes) >= 9
