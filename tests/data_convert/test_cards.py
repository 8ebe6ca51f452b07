"""Task cards: every card of the project loads and its prompts render; mistakes are named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from toy_cards import CARD

from artefacts.errors import UserError
from data_convert.tasks.cards import TASKS, find_cards, load_card
from data_convert.tasks.prompts import render
from sequences.alphabets import ALPHABETS


def write(tmp_path: Path, **changes) -> Path:
    path = tmp_path / "x" / "toy.yaml"
    path.parent.mkdir(exist_ok=True)
    card = {key: value for key, value in {**CARD, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return path


PATHS = sorted(TASKS.rglob("*.yaml"))


def test_there_are_cards():
    assert {"gue/prom_core_all", "gue/splice", "gue/tf_0", "lucaone_type/ncrnafam_nrc", "lucaone_type/protstab_tape"} <= {
        card.id for card in find_cards(["*"])
    }


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(TASKS).with_suffix("").as_posix())
def test_every_card_loads_and_its_prompts_render(path):
    card = load_card(path)
    assert card == load_card(path.relative_to(TASKS).with_suffix("").as_posix())
    assert card.simulated == card.id.startswith(("sim/", "sim_opaque/"))
    if card.texts or card.options:
        with pytest.raises(UserError, match="its prompts show a row's own text"):
            render(card, {}, card.prompts.eval)
        return  # test_tasks_round_trip.py renders them
    letters = {item.name: ALPHABETS[item.modality].letters[:5] for item in card.inputs}
    for template in [*card.prompts.train, card.prompts.eval]:
        prompt = render(card, letters, template, random.Random(0))
        for item in card.inputs:
            assert prompt.count(f"<{item.modality}>{letters[item.name]}</{item.modality}>") >= 1
        if "{choices}" in template:
            assert all(choice in prompt for choice in card.choices)
        assert "{" not in prompt
    assert len(set(card.choices)) == len(card.choices)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_published_figures_are_in_natural_scale_and_have_a_source(path):
    for figure in load_card(path).published:
        assert -1 <= figure.value <= 1
        assert figure.source


def test_label_values_are_text_and_keep_their_order(tmp_path):
    card = load_card(write(tmp_path))
    assert list(card.labels) == ["0", "1"]
    assert card.choices == ["off", "on"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": ["mcc", "acuracy"]}, "metric 'acuracy' is not known for binary tasks; did you mean 'accuracy'?"),
        ({"metrics": ["mcc", "spearman"]}, "metric 'spearman' is not known for binary"),
        ({"primary_metric": "auroc"}, "primary_metric 'auroc' is not among the metrics"),
        ({"published": [{"model": "m", "metric": "f1", "value": 1, "source": "s"}]}, "did you mean 'macro_f1'?"),
        ({"labels": {0: {"name": "off", "meaning": ""}}}, "needs exactly two labels; found 1"),
        ({"labels": {0: {"name": "a", "meaning": ""}, 1: {"name": "a", "meaning": ""}}}, "same name"),
        ({"labels": {0: {"name": "a, b", "meaning": ""}, 1: {"name": "c", "meaning": ""}}}, "no comma"),
        ({"kind": "regression"}, "labels are for classification"),
        ({"kind": "regression", "labels": None}, "needs a grid"),
        ({"grid": {"low": 0, "high": 1, "step": 0.1}}, "a grid is not for binary"),
        ({"kind": "regression", "labels": None, "grid": {"low": 0, "high": 1, "step": 0.3}}, "whole number of steps"),
        ({"prompts": {"train": ["{sequence} {choice}"], "eval": "{sequence}"}}, "unknown field '{choice}'; known here: sequence, choices"),
        ({"prompts": {"train": ["{choices}"], "eval": "{sequence}"}}, "never shows {sequence}"),
        ({"prompts": {"train": ["{sequence"], "eval": "{sequence}"}}, "write a literal brace twice"),
        ({"prompts": {"train": ["{sequence:>9}"], "eval": "{sequence}"}}, "plain names"),
        ({"prompts": {"train": ["{sequence}"], "eval": "{sequence}"}}, "prompts.eval is one of prompts.train"),
        ({"label": None}, "name the column that holds the label"),
        ({"format": "fasta"}, "header line is the label"),
        ({"files": {"dev": "dev.csv"}}, "name a train file"),
        ({"inputs": [{"column": "seq", "modality": "rna", "name": "sequence"}], "strand_symmetric": True}, "all dna"),
        ({"symmetric": True}, "symmetric is for tasks with two inputs of the same modality"),
        (
            {"symmetric": True, "inputs": [{"modality": "dna", "name": "a"}, {"modality": "rna", "name": "b"}]}
            | {"prompts": {"train": ["{a}{b} {choices}"], "eval": "{a}{b}"}},
            "symmetric is for tasks with two inputs of the same modality",
        ),
        ({"files": {"train": "a.csv", "test": "a.csv"}, "split_where": {"test": {"x": "1"}}}, "which rows are train"),
        ({"inputs": None}, "name the sequences of a row, or in texts"),
        ({"texts": ["sequence"]}, "different names"),
        ({"texts": ["question"]}, "never shows {question}"),
        ({"options": ["ideal"]}, "options are for classification"),
        ({"task_per": "assay"}, "no file has a field '{assay}'"),
        ({"inputs": [{"column": "seq", "modality": "dna", "name": "sequence", "inside": "[ACGT]+"}]}, "one group, the letters; found 0"),
        ({"inputs": [{"column": "seq", "modality": "dna", "name": "sequence", "inside": "("}]}, "is no regular expression"),
        ({"crop": "left"}, "crop"),
        ({"max_leters": 5}, "did you mean 'max_letters'?"),
        ({"id": "x/toys"}, "its id 'x/toys' is not its path"),
        ({"n": {"train": 5}}, "'n' is counted"),
    ],
)
def test_mistakes_are_named(tmp_path, changes, words):
    path = write(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        load_card(path)
    assert words in str(error.value)
    assert "toy.yaml" in str(error.value)


def test_unknown_ids_and_patterns():
    with pytest.raises(UserError, match="did you mean 'gue/splice'"):
        load_card("gue/splices")
    with pytest.raises(UserError, match=r"matches no card; known: .*gue/tf_0"):
        find_cards(["gue/*", "gu/*"])
    assert [card.id for card in find_cards(["gue/spl*", "gue/splice"])] == ["gue/splice"]
