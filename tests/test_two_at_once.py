"""Two real commands with one output: the second says who is at work there and ends, the first loses nothing."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from samples import letters

QUESTION = "Is this DNA background, promoter? <dna>{}</dna>"


def command(words: list[str], out: Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-P", "-m", "llama_gene", *words, "--out", str(out)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", ["predict", "eval predict", "convert pack"])
def test_the_second_ends_and_the_first_is_whole(tmp_path: Path, extended_folder: Path, name: str) -> None:
    rows = [letters("ACGT", 60, seed) for seed in range(24)]
    table, records, genome = tmp_path / "in.csv", tmp_path / "records", tmp_path / "g.fa"
    table.write_text("seq_id,seq\n" + "".join(f"s{number},{row}\n" for number, row in enumerate(rows)))
    genome.write_text("".join(f">s{number}\n{row}\n" for number, row in enumerate(rows)))
    if name == "eval predict":
        from data_convert.simulate.organism import SimulateRecipe, simulate
        from data_convert.tasks.convert import TaskEntry, TasksRecipe, convert

        few = {"train": 20, "dev": 10, "test": 24}
        simulate(SimulateRecipe(out=tmp_path / "organism", promoter=few))
        convert(TasksRecipe(out=records, tasks=[TaskEntry(card="sim/promoter", source=tmp_path / "organism" / "tasks")]))
    words = {
        "predict": ["predict", str(table), "--model", str(extended_folder), "--task", "sim/promoter", "group_rows=1"],
        "eval predict": ["eval", "predict", "--model", str(extended_folder), "--records", str(records), "max_new_tokens=4"],
        "convert pack": ["convert", "pack", "--tokenizer", str(extended_folder), "block_tokens=64",
                         f"sources=[{{modality: dna, files: ['{genome}'], heldout_share: 0}}]"],
    }[name]  # fmt: skip
    out = tmp_path / ("out.csv" if name == "predict" else "out")
    first = command(words, out)
    until = time.monotonic() + 120
    while not (tmp_path / f".{out.name}.lock").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    second = command(words, out)
    said = second.communicate(timeout=120)[1]
    assert second.returncode == 2, said
    assert "at work" in said or "already exists" in said
    assert first.wait(120) == 0, first.communicate()[1]
    if name == "predict":
        assert [row["seq"] for row in csv.DictReader(out.open())] == rows
    elif name == "eval predict":
        (found,) = list(out.rglob("*.jsonl"))
        assert len({json.loads(line)["id"] for line in found.read_text().splitlines()}) == 24
    else:
        assert json.loads((out / "manifest.json").read_text())["counts"]["sources"][0]["train"]["written"] == 24
