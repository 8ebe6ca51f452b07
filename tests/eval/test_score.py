"""Scoring a folder of predictions: the document, its determinism, and refusals of predictions that do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented_run import CARDS, write_lines
from sklearn.metrics import matthews_corrcoef

from artefacts.errors import UserError
from artefacts.folder import fingerprint
from eval.judge.details import details
from eval.judge.score import score
from eval.predictions import read_lines
from eval.show.content import of_task


def run(folder: Path, name: str = "metrics.json", **options: Any) -> dict[str, Any]:
    return score(folder / "records", folder / "predictions", folder / name, seed=0, **options)


def task(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(task for task in document["tasks"] if task["task"] == name)


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], Any], system: str = "llama-gene") -> None:
    """Apply `change` to the lines of a system's file."""
    path = folder / "predictions" / f"{system}.jsonl"
    lines = list(read_lines(folder / "predictions" / "llama-gene.jsonl"))
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_figures_are_those_of_the_lines(invented: Path) -> None:
    document = run(invented)
    assert json.loads((invented / "metrics.json").read_text(encoding="utf-8")) == document
    found = task(document, "bench/species")
    lines = [line for line in read_lines(invented / "predictions" / "llama-gene.jsonl") if line["task"] == "bench/species"]
    gold = [line["gold"] for line in lines]
    model = found["systems"]["llama-gene"]
    assert model["metrics"]["mcc"]["value"] == pytest.approx(matthews_corrcoef(gold, [line["predicted"] for line in lines]), abs=1e-6)
    written = matthews_corrcoef(gold, [line["parsed"] or "invalid" for line in lines])
    assert model["greedy"]["metrics"]["mcc"]["value"] == pytest.approx(written, abs=1e-6)
    assert model["greedy"]["invalid_rate"] == pytest.approx(sum(line["status"] == "invalid" for line in lines) / len(lines), abs=1e-6)
    assert model["greedy"]["refused_rate"] == pytest.approx(sum(line["status"] == "refused" for line in lines) / len(lines), abs=1e-6)
    assert found["n"] == len(lines) == 60
    assert found["n_train"] == 40
    for interval in model["metrics"].values():
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert document["provenance"]["seed"] == 0


def test_labels_per_token_stand_beside_the_raw_ones(invented: Path) -> None:
    """Of labels of 1, 2, 4 tokens and so on, the likeliest per token, by hand; regression and systems without lengths have none."""

    def lengths(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["label_tokens"] = [2**place for place in range(len(line["choices"]))] if line["logprobs"] else None

    rewrite(invented, lengths)
    document = run(invented)
    found = task(document, "bench/species")["systems"]["llama-gene"]
    lines = [line for line in read_lines(invented / "predictions" / "llama-gene.jsonl") if line["task"] == "bench/species"]
    gold, said = [line["gold"] for line in lines], []
    for line in lines:
        best = None
        for place, choice in enumerate(line["choices"]):
            per_token = line["logprobs"][place] / 2**place
            if best is None or per_token > best[0]:
                best = per_token, choice
        said.append(best[1])
    own = found["normalised"]["metrics"]
    assert set(own) == {"accuracy", "balanced_accuracy", "mcc", "macro_f1"}
    assert own["accuracy"]["value"] == pytest.approx(sum(map(str.__eq__, gold, said)) / len(gold), abs=1e-6)
    assert own["mcc"]["value"] == pytest.approx(matthews_corrcoef(gold, said), abs=1e-6)
    assert own["mcc"]["low"] <= own["mcc"]["value"] <= own["mcc"]["high"]
    assert own["mcc"] != found["metrics"]["mcc"]
    assert f"| llama-gene, per token | {own['accuracy']['value']:.3f} [" in "".join(
        of_task(one, "llama-gene")["All metrics"].markdown() for one in document["tasks"]
    )
    for one in document["tasks"]:
        if one["kind"] not in ("binary", "multiclass"):
            assert "normalised" not in one["systems"]["llama-gene"]

    def without(lines: list[dict[str, Any]]) -> None:
        lengths(lines)
        lines[0]["label_tokens"] = None

    rewrite(invented, without)
    again, first = run(invented, "again.json"), next(read_lines(invented / "records" / "test.jsonl"))["task"]
    assert "normalised" in task(document, first)["systems"]["llama-gene"]
    assert "normalised" not in task(again, first)["systems"]["llama-gene"], "a line without lengths"


def test_the_same_inputs_give_the_same_bytes(invented: Path) -> None:
    run(invented, "one.json")
    run(invented, "two.json")
    assert (invented / "one.json").read_bytes() == (invented / "two.json").read_bytes()


def test_the_order_of_prediction_lines_does_not_matter(invented: Path) -> None:
    before = run(invented)["tasks"]
    rewrite(invented, lambda lines: lines.reverse())
    assert run(invented, "again.json")["tasks"] == before


def test_a_system_may_leave_out_a_task_but_not_a_record(invented: Path) -> None:
    def texts_only(lines: list[dict[str, Any]]) -> None:
        lines[:] = [line for line in lines if line["task"] == "sim/function"]

    rewrite(invented, texts_only, "other")
    document = run(invented)
    assert "other" in task(document, "sim/function")["systems"]
    assert "other" not in task(document, "sim/promoter")["systems"]


def test_differences_are_positive_where_the_model_is_better(invented: Path) -> None:
    def spoil(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line.update(text=None, parsed=None, status=None)
            if line["kind"] == "regression":
                line["predicted"] = 1 - line["gold"]
            else:
                line["predicted"] = None

    rewrite(invented, spoil, "worse")
    cards = json.loads((invented / "records" / "cards.json").read_text(encoding="utf-8"))
    next(card for card in cards if card["id"] == "sim/stability")["primary_metric"] = "mae"
    (invented / "records" / "cards.json").write_text(json.dumps(cards), encoding="utf-8")
    document = run(invented)
    for found in document["tasks"]:
        assert found["differences"]["worse"]["low"] > 0, found["task"]
        assert "greedy" not in found["systems"]["worse"]
    assert task(document, "sim/promoter")["systems"]["worse"]["unanswered_rate"] == 1


def test_auroc_without_probabilities_is_named_as_not_computed(invented: Path) -> None:
    def drop(lines: list[dict[str, Any]]) -> None:
        lines[0]["logprobs"] = None

    rewrite(invented, drop)
    model = task(run(invented), "sim/promoter")["systems"]["llama-gene"]
    assert model["not_computed"] == ["auroc", "auprc", "ece", "brier"]
    assert not {"auroc", "auprc", "ece", "brier"} & model["metrics"].keys()


def test_all_metrics_of_the_kind_are_there_and_the_cards_own_come_first(invented: Path) -> None:
    found = task(run(invented), "sim/promoter")
    assert found["metrics"] == ["accuracy", "mcc", "macro_f1", "auroc", "balanced_accuracy", "auprc", "ece", "brier"]
    assert found["primary_metric"] == "mcc"
    model = found["systems"]["llama-gene"]
    assert list(model["metrics"]) == found["metrics"]
    # probabilities are the predictions', so the written answers have none
    assert set(found["metrics"]) - set(model["greedy"]["metrics"]) == {"auroc", "auprc", "ece", "brier"}


def second_run(folder: Path, name: str, change: Callable[[list[dict[str, Any]]], Any]) -> Path:
    """Another folder of predictions of the same system."""
    lines = list(read_lines(folder / "predictions" / "llama-gene.jsonl"))
    change(lines)
    (folder / name).mkdir()
    (folder / name / "llama-gene.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder / name


def all_right(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        line["predicted"] = line["gold"]


def all_wrong(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        line["predicted"] = None


def test_several_folders_of_one_system_are_its_training_runs(invented: Path) -> None:
    (alone,) = [found for found in run(invented, "alone.json")["tasks"] if found["task"] == "sim/promoter"]
    folders = [invented / "predictions", second_run(invented, "seed1", all_right), second_run(invented, "seed2", all_wrong)]
    document = score(invented / "records", folders, invented / "metrics.json", seed=0)
    model = task(document, "sim/promoter")["systems"]["llama-gene"]
    one = alone["systems"]["llama-gene"]["metrics"]["accuracy"]
    runs = [one["value"], 1.0, 0.0]
    assert [found["metrics"]["accuracy"] for found in model["runs"]] == pytest.approx(runs, abs=1e-6)
    assert [found["run"] for found in model["runs"]] == ["predictions", "seed1", "seed2"]
    together = model["metrics"]["accuracy"]
    assert together["value"] == pytest.approx(np.mean(runs), abs=1e-6)
    assert together["sd"] == pytest.approx(np.std(runs, ddof=1), abs=1e-6)
    assert together["high"] - together["low"] > 2 * (one["high"] - one["low"])
    assert model["unanswered_rate"] == pytest.approx(1 / 3, abs=0.02)
    assert "sd" not in one


def test_clusters_that_the_split_names_are_drawn_whole(invented: Path) -> None:
    independent = task(run(invented, "independent.json"), "sim/promoter")
    names = [record["id"] for record in read_lines(invented / "records" / "test.jsonl")]
    rows = [f"{name}\tg{place % 6}" for place, name in enumerate(names)]
    (invented / "records" / "groups.tsv").write_text("\n".join(["id\tgroup", *rows]) + "\n", encoding="utf-8")
    found = task(run(invented), "sim/promoter")
    assert (independent["n_clusters"], found["n_clusters"]) == (None, 6)
    one, other = (which["systems"]["llama-gene"]["metrics"]["accuracy"] for which in (independent, found))
    assert one["value"] == other["value"]
    assert (one["low"], one["high"]) != (other["low"], other["high"])
    (invented / "records" / "groups.tsv").write_text("id\tgroup\nno tab here\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"groups.tsv:2: not a row"):
        run(invented, "again.json")


def test_another_system_may_be_the_reference(invented: Path) -> None:
    def right(lines: list[dict[str, Any]]) -> None:
        all_right(lines)

    rewrite(invented, right, "oracle")
    document = run(invented, reference="oracle")
    for found in document["tasks"]:
        assert list(found["differences"]) == ["llama-gene"]
        assert found["differences"]["llama-gene"]["value"] > 0
    assert document["provenance"]["reference"] == "oracle"


def test_controls_are_systems_of_a_known_kind(invented: Path) -> None:
    rewrite(invented, all_wrong, "llama-gene@shuffled")
    found = task(run(invented), "sim/promoter")
    assert found["differences"]["llama-gene@shuffled"]["value"] > 0
    rewrite(invented, all_wrong, "llama-gene@mirrored")
    with pytest.raises(UserError, match="'mirrored' is no control; known after the @: shuffled, removed, permuted"):
        run(invented, "again.json")


def test_details_are_counts_of_the_same_lines(invented: Path) -> None:
    model = task(run(invented), "sim/promoter")["systems"]["llama-gene"]
    counts = np.array(model["details"]["confusion"]["counts"])
    assert counts.sum() == 60
    assert np.trace(counts) / 60 == pytest.approx(model["metrics"]["accuracy"]["value"], abs=1e-6)
    bins = model["details"]["reliability"]
    assert sum(row["n"] for row in bins) == 60
    error = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / 60
    assert error == pytest.approx(model["metrics"]["ece"]["value"], abs=1e-3)
    lengths = model["details"]["length"]["rows"]
    assert sum(row["n"] for row in lengths) == 60
    assert sum(row["n"] * row["value"] for row in lengths) / 60 == pytest.approx(model["metrics"]["accuracy"]["value"], abs=1e-4)
    lines = [line for line in read_lines(invented / "predictions" / "llama-gene.jsonl") if line["task"] == "sim/promoter"]
    unread = [line["text"] for line in lines if line["status"] != "valid"]
    assert model["details"]["unread"]["answers"] == len(unread) > 0
    assert {row["text"] for row in model["details"]["unread"]["shown"]} == set(unread)


def test_of_many_classes_the_worst_confusions_are_named() -> None:
    names = [f"c{i:03d}" for i in range(150)]
    fields = {"kind": "multiclass", "choices": names, "logprobs": None, "status": None, "text": None, "id": "x"}
    lines = [{"gold": name, "predicted": names[0] if place < 9 else name, **fields} for place, name in enumerate(names * 2)]
    found = details(lines, None, seed=0)["confusion"]
    assert "counts" not in found
    assert found["classes"] == 150
    assert ["c003", "c000", 1] in found["most_confused"]


def remove_first(lines: list[dict[str, Any]]) -> None:
    del lines[0]


def repeat_first(lines: list[dict[str, Any]]) -> None:
    lines.append(lines[0])


def add_foreign(lines: list[dict[str, Any]]) -> None:
    lines.append({**lines[0], "id": "sim/promoter/test/999"})


def change_gold(lines: list[dict[str, Any]]) -> None:
    lines[0]["gold"] = "background" if lines[0]["gold"] == "promoter" else "promoter"


def invent_label(lines: list[dict[str, Any]]) -> None:
    lines[0]["predicted"] = "terminator"


def forget_field(lines: list[dict[str, Any]]) -> None:
    del lines[0]["status"]


def other_choices(lines: list[dict[str, Any]]) -> None:
    lines[0]["choices"] = [*lines[0]["choices"], "terminator"]


def short_logprobs(lines: list[dict[str, Any]]) -> None:
    lines[0]["logprobs"] = [-1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove_first, "1 of 60 test records have no prediction, the first is 'sim/promoter/test/0'"),
        (repeat_first, "'sim/promoter/test/0' is predicted twice"),
        (add_foreign, "'sim/promoter/test/999'"),
        (change_gold, "predict again from these records"),
        (invent_label, "'terminator' is none of the choices"),
        (forget_field, r"llama-gene.jsonl:1: a prediction without 'status'"),
        (other_choices, "or other choices"),
        (short_logprobs, "1 logprobs for 2 choices"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(invented: Path, change: Callable[[list[dict[str, Any]]], None], message: str) -> None:
    rewrite(invented, change)
    with pytest.raises(UserError, match=message):
        run(invented)
    assert not (invented / "metrics.json").exists()


def test_an_existing_output_is_kept_unless_overwritten(invented: Path) -> None:
    (invented / "metrics.json").write_text("mine", encoding="utf-8")
    for overwrite, message in ((False, "already exists"), (True, "so --overwrite does not remove it")):
        with pytest.raises(UserError, match=message):
            run(invented, overwrite=overwrite)
    assert (invented / "metrics.json").read_text(encoding="utf-8") == "mine"
    (invented / "metrics.json").unlink()
    run(invented)
    (invented / "metrics.json").write_text("mine", encoding="utf-8")
    run(invented, overwrite=True)
    assert (invented / "metrics.json").read_text(encoding="utf-8") != "mine"


def test_no_predictions_and_broken_lines_are_user_errors(invented: Path) -> None:
    path = invented / "predictions" / "llama-gene.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "{broken\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"llama-gene.jsonl:241: not a JSON line"):
        run(invented)
    path.unlink()
    with pytest.raises(UserError, match="no predictions"):
        run(invented)


def test_predictions_from_other_records_are_refused(invented: Path) -> None:
    """The same ids and labels, other sequences: only the fingerprint knows."""
    path = invented / "predictions" / "manifest.json"
    path.write_text(json.dumps({"inputs": {"records": fingerprint(invented / "records")}}), encoding="utf-8")
    run(invented)
    records = list(read_lines(invented / "records" / "test.jsonl"))
    records[0]["inputs"][0]["letters"] = "ACGT"
    write_lines(invented / "records" / "test.jsonl", records)
    with pytest.raises(UserError, match="predicted from other records"):
        run(invented, "again.json")


def test_predictions_of_a_part_of_the_records_are_scored_where_the_records_are_the_same(invented: Path, tmp_path: Path) -> None:
    records, part = invented / "records", tmp_path / "part"
    shutil.copytree(records, part)
    ours = [line for line in read_lines(records / "test.jsonl") if line["task"] == CARDS[0]["id"]]
    write_lines(part / "test.jsonl", ours)
    for path in (invented / "predictions").glob("*.jsonl"):
        write_lines(path, [line for line in read_lines(path) if line["task"] == CARDS[0]["id"]])
    manifest = invented / "predictions" / "manifest.json"
    manifest.write_text(json.dumps({"inputs": {"records": fingerprint(part)}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"predicted from other records.*name those in parts="):
        run(invented)
    document = score(records, invented / "predictions", invented / "parts.json", seed=0, parts=[part])
    assert [found["task"] for found in document["tasks"] if found["systems"]] == [CARDS[0]["id"]]
    ours[3]["inputs"][0]["letters"] = "ACGT"
    write_lines(part / "test.jsonl", ours)
    with pytest.raises(UserError, match=f"'{ours[3]['id']}': .* has another record of that id; predict again"):
        score(records, invented / "predictions", invented / "again.json", seed=0, parts=[part])
    ours[3]["id"] = "foreign"
    write_lines(part / "test.jsonl", ours)
    with pytest.raises(UserError, match=r"'foreign': .* has no record of that id"):
        score(records, invented / "predictions", invented / "again.json", seed=0, parts=[part])


def test_records_that_disagree_with_their_card_or_repeat_an_id_are_refused(invented: Path) -> None:
    cards = json.loads((invented / "records" / "cards.json").read_text(encoding="utf-8"))
    cards[0]["labels"] = {"1": {"name": "promoter", "meaning": ""}, "0": {"name": "terminator", "meaning": ""}}
    (invented / "records" / "cards.json").write_text(json.dumps(cards), encoding="utf-8")
    with pytest.raises(UserError, match=r"'sim/promoter/test/0' has .*its card binary and \['promoter', 'terminator'\]"):
        run(invented)
    cards[0]["labels"] = {"1": {"name": "promoter", "meaning": ""}, "0": {"name": "background", "meaning": ""}}
    (invented / "records" / "cards.json").write_text(json.dumps(cards), encoding="utf-8")
    run(invented)
    records = list(read_lines(invented / "records" / "test.jsonl"))
    write_lines(invented / "records" / "test.jsonl", [*records, records[0]])
    with pytest.raises(UserError, match="id 'sim/promoter/test/0' stands in the file twice"):
        run(invented, "again.json")
