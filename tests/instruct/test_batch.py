"""`llama-gene predict`: LucaOne's columns, evaluation's figures, bad rows kept apart, and the same bytes after a kill."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from artefacts.errors import UserError
from data_convert.tasks.cards import load_card
from data_convert.tasks.prompts import render
from eval.ask.answer import predictions
from instruct.talk.batch import BatchRecipe, Task, predict
from instruct.talk.session import Session

PROMOTER, SPLICE = load_card("sim/promoter"), load_card("sim/splice")


def letters(seed: int, size: int = 40, alphabet: str = "ACGT") -> str:
    return "".join(random.Random(seed).choices(alphabet, k=size))


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, str]]:
    assert b"\r" not in path.read_bytes()
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def run(model: Path, out: Path, file: Path, task: str, **more: Any) -> list[dict[str, str]]:
    predict(BatchRecipe(model=model, files=[file], task=task, out=out, **more))
    return read(out)


@pytest.fixture(scope="module")
def expected(extended_folder: Path) -> Any:
    """What `eval predict` finds for a sequence."""
    session = Session(extended_folder)

    def find(card: Any, inputs: dict[str, str]) -> list[float]:
        prompt = [{"role": "user", "content": render(card, inputs, card.prompts.eval)}]
        record = {"id": "1", "task": card.id, "split": "test", "kind": card.kind, "label": "", "choices": card.choices, "prompt": prompt}
        found = next(predictions(session.model, session.tokenizer, [record]))["logprobs"]
        weights = [math.exp(value - max(found)) for value in found]
        return [weight / sum(weights) for weight in weights]

    return find


def test_a_table_of_two_classes(extended_folder: Path, tmp_path: Path, expected: Any) -> None:
    rows = [f"r{number},{letters(number, 30 + number)},{number % 2}" for number in range(9)]
    file = write(tmp_path / "in.csv", "id,sequence,label", rows)
    found = run(extended_folder, tmp_path / "out.csv", file, "sim/promoter", ground_truth="label", group_rows=4)
    assert list(found[0]) == ["seq_id", "seq", "prob", "label", "ground_truth"]
    assert [(row["seq_id"], row["seq"], row["ground_truth"]) for row in found] == [tuple(row.split(",")) for row in rows]
    for row in found:
        second = expected(PROMOTER, {"sequence": row["seq"]})[1]
        assert float(row["prob"]) == pytest.approx(second, abs=1e-4)
        assert row["label"] == ("promoter" if second >= 0.5 else "background")
    for threshold, label in ((0.0, "promoter"), (1.0, "background")):
        other = run(extended_folder, tmp_path / f"{label}.csv", file, "sim/promoter", threshold=threshold)
        assert {row["label"] for row in other} == {label}
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.csv", "out.csv.manifest.json"]
    manifest = json.loads((tmp_path / "out.csv.manifest.json").read_text())
    assert manifest["counts"]["rows"] == {"read": 9, "written": 9, "rejected": 0, "reasons": {}, "examples": {}}


def test_what_a_spreadsheet_would_run_gets_an_apostrophe_where_asked(extended_folder: Path, tmp_path: Path) -> None:
    names = ["=1+1", "+cmd|' /C calc'!A0", "@sum(a)", "-2.5", "-x", "plain", "1e-3"]
    rows = [f'"{name}",{letters(number)}' for number, name in enumerate(names)] + ["=bad,ACGT!!"]
    file = write(tmp_path / "in.csv", "id,sequence", rows)
    kept = run(extended_folder, tmp_path / "kept.csv", file, "sim/promoter", max_broken=0.5)
    assert [row["seq_id"] for row in kept] == names
    safe = run(extended_folder, tmp_path / "safe.csv", file, "sim/promoter", max_broken=0.5, formulas="prefix")
    assert [row["seq_id"] for row in safe] == ["'=1+1", "'+cmd|' /C calc'!A0", "'@sum(a)", "-2.5", "'-x", "plain", "1e-3"]
    assert [{**row, "seq_id": ""} for row in safe] == [{**row, "seq_id": ""} for row in kept]
    assert [read(tmp_path / f"{name}.rejected.csv")[0]["id"] for name in ("kept", "safe")] == ["=bad", "'=bad"]


def test_lucaones_columns_fasta_and_the_likeliest_labels(extended_folder: Path, tmp_path: Path, expected: Any) -> None:
    table = write(tmp_path / "in.csv", "seq_id,seq_type,seq", [f"r{number},gene,{letters(number, 80).lower()}" for number in range(3)])
    fasta = tmp_path / "in.fa"
    fasta.write_text("".join(f">r{number} of somewhere\n{letters(number, 80)[:50]}\n{letters(number, 80)[50:]}\n" for number in range(3)))
    found = run(extended_folder, tmp_path / "a.csv", table, "sim/splice", topk=2)
    assert list(found[0]) == ["seq_id", "seq", "top1_prob", "top1_label", "top2_probs", "top2_labels"]
    for number, row in enumerate(found):
        shares = dict(zip(SPLICE.choices, expected(SPLICE, {"sequence": letters(number, 80)}), strict=True))
        best = sorted(shares, key=lambda name: -shares[name])[:2]
        assert row["top1_label"] == best[0]
        assert row["top2_labels"] == str(best)
        assert json.loads(row["top2_probs"]) == pytest.approx([shares[name] for name in best], abs=1e-4)
        assert float(row["top1_prob"]) == json.loads(row["top2_probs"])[0]
    same = run(extended_folder, tmp_path / "b.csv", fasta, "sim/splice", topk=2)
    assert [{**row, "seq": ""} for row in same] == [{**row, "seq": ""} for row in found]


def test_pairs_values_and_words(extended_folder: Path, tmp_path: Path) -> None:
    pair = f"{letters(1)},{letters(2, 20, 'MKVLWDE')}"
    one = write(tmp_path / "one.csv", "id,gene,protein", [f"p,{pair}"])
    two = write(tmp_path / "two.csv", "seq_id_a,seq_id_b,seq_type_a,seq_type_b,seq_a,seq_b", [f"g,p,gene,prot,{pair}"])
    found = run(extended_folder, tmp_path / "a.csv", one, "sim/gene_protein")[0]
    other = run(extended_folder, tmp_path / "b.csv", two, "sim/gene_protein")[0]
    assert list(found) == ["seq_id", "seq_a", "seq_b", "prob", "label"]
    assert list(other) == ["seq_id_a", "seq_id_b", "seq_a", "seq_b", "prob", "label"]
    assert {**found, "seq_id": ""} == {**{name: value for name, value in other.items() if not name.startswith("seq_id")}, "seq_id": ""}
    single = write(tmp_path / "single.csv", "sequence", [letters(3, 30, "MKVLWDE")])
    value = run(extended_folder, tmp_path / "c.csv", single, "sim/stability")[0]
    assert value["seq_id"] == "line2"
    assert 0 <= float(value["prob"]) <= 1
    assert value["label"] == value["prob"]
    words = run(extended_folder, tmp_path / "d.csv", single, "sim/function", max_new_tokens=5)[0]
    assert list(words) == ["seq_id", "seq", "prob", "label", "status"]
    assert words["prob"] == ""
    assert words["status"] in ("valid", "invalid", "refused")


def test_bad_rows_stand_in_a_file_of_their_own(extended_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = letters(1)
    rows = [f"a,{good}", "b,ACGE", f"a,{good}", "c,", f",{good}", f"d,{good},x", f"e,{good * 9}", f"f,{good}"]
    file = write(tmp_path / "in.csv", "id,sequence", rows)
    found = run(extended_folder, tmp_path / "out.csv", file, "sim/promoter", group_rows=1, max_broken=0.8)
    assert [row["seq_id"] for row in found] == ["a", "f"]
    rejected = read(tmp_path / "out.rejected.csv")
    assert [(row["where"].rsplit(":", 1)[1], row["id"], row["reason"].split(" (")[0]) for row in rejected] == [
        ("3", "b", "letter outside dna"),
        ("4", "a", "duplicated id"),
        ("5", "c", "empty sequence"),
        ("6", "", "no id"),
        ("7", "", "more or fewer fields than the header has"),
        ("8", "e", "longer than 120 letters"),
    ]
    said = capsys.readouterr().err
    assert f"{file}: read 8, written 2, set aside 6 (" in said
    assert f"list: {tmp_path / 'out.rejected.csv'}" in said
    counts = json.loads((tmp_path / "out.csv.manifest.json").read_text())["counts"]["rows"]
    assert (counts["read"], counts["written"], counts["rejected"]) == (8, 2, 6)


def test_a_prompt_too_long_for_the_model_is_set_aside(talker: Path, tmp_path: Path) -> None:
    """Its context is 512 tokens; the card takes what fits the card."""
    card = tmp_path / "long.yaml"
    text = (Path("configs/tasks/sim/promoter.yaml")).read_text().replace("id: sim/promoter", "id: long").replace("120", "5000")
    card.write_text(text)
    file = write(tmp_path / "in.csv", "id,sequence", [f"a,{letters(1)}", f"b,{'N' * 600}"])
    found = run(talker, tmp_path / "out.csv", file, str(card))
    assert [row["seq_id"] for row in found] == ["a"]
    assert read(tmp_path / "out.rejected.csv")[0]["reason"].startswith("too long for the model (")


@pytest.mark.parametrize(
    ("header", "rows", "task", "more", "message"),
    [
        (
            "id,letters",
            ["a,ACGT"],
            "sim/promoter",
            {},
            "in.csv:1: no column sequence or seq for the dna of sim/promoter; found: id, letters",
        ),
        ("id,sequence", ["a,ACGE"], "sim/promoter", {}, "not one usable row: letter outside dna: 1"),
        ("id,sequence", ["a,ACGT"], "sim/promoter", {"ground_truth": "y"}, "no column 'y' for the ground truth"),
        (">a", ["ACGT"], "sim/gene_protein", {}, "pairs cannot be read from FASTA"),
        ("id,sequence", ["a,ACGT"], "lucaone/genus_tax", {}, "only its label.txt knows the labels; give --records"),
        ("id,sequence", ["a,ACGT"], "sim/promotor", {}, "did you mean 'sim/promoter'?"),
        ("id,sequence", ["a,ACGT"], "lab_bench/seqqa", {}, "0 sequences and the texts question, ideal, distractors a row"),
        ("id,sequence", ["a,ACGT"], "opi/go", {}, "1 sequences and the texts instruction a row"),
    ],
)
def test_mistakes_are_refused_and_leave_nothing(
    extended_folder: Path, tmp_path: Path, header: str, rows: list[str], task: str, more: Any, message: str
) -> None:
    file = write(tmp_path / "in.csv", header, rows)
    with pytest.raises(UserError) as caught:
        run(extended_folder, tmp_path / "out.csv", file, task, **more)
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(extended_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"r{number},{letters(number, 20 + 7 * (number % 13))}" for number in range(120)] + ["bad,ACGE"]
    file = write(tmp_path / "in.csv", "id,sequence", rows)
    settings: dict[str, Any] = {"group_rows": 5, "batch_tokens": 2048}
    run(extended_folder, tmp_path / "whole.csv", file, "sim/promoter", **settings)
    out = tmp_path / "out.csv"
    pieces = tmp_path / "out.csv.partial" / "pieces"

    def done() -> int:
        return pieces.read_bytes().count(b"\n") if pieces.is_file() else 0

    command = [sys.executable, "-m", "llama_gene", "predict", str(file), "--model", str(extended_folder), "--task", "sim/promoter"]
    command += ["--out", str(out), "group_rows=5", "batch_tokens=2048"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and done() < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = done()
    assert 3 <= kept < 24
    assert not out.exists()
    with pieces.open("ab") as handle:
        handle.write(b"half a li")  # what a kill in the middle of a write leaves
    with pytest.raises(UserError, match=r"out\.csv\.partial: was made with threshold=0\.5, now it is 0\.4; .*remove that folder"):
        run(extended_folder, out, file, "sim/promoter", **{**settings, "threshold": 0.4})
    made: list[int] = []
    group = Task.predict
    monkeypatch.setattr(Task, "predict", lambda self, samples: made.append(len(samples)) or group(self, samples))
    run(extended_folder, out, file, "sim/promoter", **settings)
    assert len(made) == 24 - kept, "groups that were done are not predicted again"
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.csv", "out.csv.manifest.json", "out.rejected.csv"]


def test_several_files_without_ids_and_a_clean_run_after_a_bad_one(extended_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    files = [write(tmp_path / name, "sequence", [letters(seed), letters(seed + 1)]) for seed, name in enumerate(["in.csv", "b/in.csv"])]
    recipe = BatchRecipe(model=extended_folder, files=files, task="sim/promoter", out=tmp_path / "out.csv", max_broken=0.5)
    write(files[1], "sequence", [letters(1), "ACGE"])
    predict(recipe)
    assert [row["seq_id"] for row in read(recipe.out)] == [f"{files[0]}:line2", f"{files[0]}:line3", f"{files[1]}:line2"]
    assert [row["id"] for row in read(tmp_path / "out.rejected.csv")] == [f"{files[1]}:line3"]
    write(files[1], "sequence", [letters(1), letters(2)])
    predict(recipe, overwrite=True)
    assert len(read(recipe.out)) == 4
    assert not (tmp_path / "out.rejected.csv").exists(), "what an earlier run rejected is no part of this one"
