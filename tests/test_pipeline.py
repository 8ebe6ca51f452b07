"""Recipes of several steps: checked as a whole before any step, resumed where they stopped, ended cleanly."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import llama_gene
from artefacts.errors import UserError
from artefacts.recipe import load
from configs import CONFIGS
from data_convert.tasks.cards import load_card
from pipeline import main, read

RECIPES = [
    pytest.param(path, [f"task={task}"] if task else [], id=f"{path.stem} {task}".strip())
    for path in sorted((CONFIGS / "recipes").glob("*.yaml"))
    for task in yaml.safe_load(path.read_text(encoding="utf-8")).get("tasks", [""])
]
"""Shipped recipes, each with every task that it knows."""

SMALL = """\
title: Three small steps
out: OUT
seed: 3
steps:
  first:
    run: tokenizer train
    recipe: {alphabet: dna, vocab_size: 16, files: [FASTA], out: "{out}/first.json", seed: "{seed}"}
  second:
    run: convert simulate
    recipe:
      out: "{out}/second"
      train_chromosomes: 1
      heldout_chromosomes: 1
      genes_per_chromosome: 60
      train_documents: 3
      heldout_documents: 2
      promoter: {train: 2, dev: 1, test: 1}
      splice: {train: 3, dev: 3, test: 3}
      gene_protein: {train: 2, dev: 2, test: 2}
      interaction: {train: 4, dev: 4, test: 4}
      stability: {train: 2, dev: 1, test: 1}
      function: {train: 2, dev: 1, test: 1}
  third:
    run: tokenizer train
    recipe: {alphabet: dna, vocab_size: 20, files: ["{out}/second/genome/train.fa"], out: "{out}/third.json", seed: "{seed}"}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    draw = random.Random(0)
    (tmp_path / "in.fa").write_text(">a\n" + "".join(draw.choices("ACGT", k=3000)) + "\n", encoding="utf-8")
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("OUT", str(tmp_path / "run")).replace("FASTA", str(tmp_path / "in.fa")), encoding="utf-8")
    return path


def go(capfd: pytest.CaptureFixture[str], path: Path, *arguments: str) -> tuple[int, dict[str, str]]:
    """Run in this process, the steps in their own. Returns the exit code and what became of each step."""
    code = 0
    try:
        main(["--recipe", str(path), *arguments], llama_gene.verb)
    except SystemExit as end:
        code = int(str(end.code))
    printed = "".join(capfd.readouterr())
    steps = {}
    for name, rest in re.findall(r"^\[\d/\d\] (\w+): (.*)$", printed, re.MULTILINE):
        steps[name] = "kept" if rest == "done already" else "failed" if rest.startswith("failed") else "ran"
    return code, steps


@pytest.mark.parametrize(("path", "task"), RECIPES)
def test_every_shipped_recipe_is_valid_in_all_its_steps(path: Path, task: list[str], tmp_path: Path) -> None:
    overrides = [f"data={tmp_path}"] if "{data}" in path.read_text(encoding="utf-8") else []
    pipeline, recipes = read(path, [*task, *overrides, "seed=5", f"out={tmp_path / 'run'}"], llama_gene.verb)
    assert recipes.keys() == pipeline.steps.keys()
    for name, recipe in recipes.items():
        assert str(recipe.out).startswith(str(tmp_path / "run")), name  # type: ignore[attr-defined]
        assert getattr(recipe, "seed", 5) == 5, f"{name} has a seed that does not follow the recipe's"
        assert "{" not in recipe.model_dump_json().replace('{"', "").replace("{}", ""), f"{name}: a placeholder was not filled"
    outputs = [str(recipe.out) for recipe in recipes.values()]  # type: ignore[attr-defined]
    assert len(set(outputs)) == len(outputs)


@pytest.mark.parametrize(("path", "task"), RECIPES)
def test_steps_read_only_what_earlier_steps_write(path: Path, task: list[str], tmp_path: Path) -> None:
    """A path below {out} that no earlier step makes would stop a run of minutes in its middle."""
    pipeline, recipes = read(path, [*task, f"data={tmp_path}"], llama_gene.verb)
    made: list[str] = []
    for name, recipe in recipes.items():
        values = recipe.model_dump(mode="json")
        # a value may name two: model+adapter
        for used in re.findall(f'["+]({re.escape(str(pipeline.out))}/[^"+]+)', json.dumps(values)):
            assert used == values["out"] or any(used == there or used.startswith(there + "/") for there in made), f"{name} reads {used}"
        made.append(values["out"])
    for line in pipeline.next:
        assert llama_gene.verb(line.split()[1]), line
        assert set(re.findall(rf"{re.escape(str(pipeline.out))}/\S+", line)) <= set(made), f"`{line}` names what no step makes"


@pytest.mark.parametrize(("path", "task"), RECIPES)
def test_what_is_scored_was_predicted_from_the_records_it_is_scored_on(path: Path, task: list[str], tmp_path: Path) -> None:
    """`eval score` refuses other records, and says so only once everything before it has run."""
    _, found = read(path, [*task, f"data={tmp_path}"], llama_gene.verb)
    recipes = [recipe.model_dump(mode="json") for recipe in found.values()]
    made_from = {recipe["out"]: recipe.get("records") for recipe in recipes}
    scored = [recipe for recipe in recipes if "predictions" in recipe and "records" in recipe and "metrics" not in recipe]
    assert scored or not any("records" in recipe for recipe in recipes)
    for recipe in scored:
        assert {made_from[folder] for folder in recipe["predictions"]} <= {recipe["records"], *(recipe.get("parts") or [])}


def test_each_and_names_fill_a_step_in_once_for_every_entry(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    train = 'recipe: {alphabet: dna, pieces: kmers, k: "{k}", out: "{place}/{kind}{k}.json", longest_piece: "{none}", seed: "{seed}"}'
    each = 'each: [{name: three, k: 3, place: "{out}", none: null}, {name: six, k: 6, place: "{out}", none: null}]'
    path.write_text(
        f"title: t\nout: {tmp_path}\nseed: 5\nnames: {{kind: mer}}\nsteps:\n  many:\n    run: tokenizer train\n    {each}\n    {train}\n",
        "utf-8",
    )
    pipeline, recipes = read(path, ["names.kind=block", "steps.many.recipe.max_letters=9"], llama_gene.verb)
    assert list(pipeline.steps) == list(recipes) == ["many_three", "many_six"]
    for (name, recipe), k in zip(recipes.items(), (3, 6), strict=True):
        found = recipe.model_dump(mode="json")
        assert (found["k"], found["out"], found["seed"], found["max_letters"]) == (k, f"{tmp_path}/block{k}.json", 5, 9), name
        assert found["longest_piece"] is None
    path.write_text(path.read_text("utf-8").replace("six", "three"), "utf-8")
    with pytest.raises(UserError, match="two steps are called many_three"):
        read(path, [], llama_gene.verb)


def test_a_task_is_changes_to_the_recipe_and_overrides_go_over_it(tmp_path: Path) -> None:
    path = tmp_path / "tasks.yaml"
    path.write_text(
        f"""title: t
out: {tmp_path}
names: {{k: 3}}
task: six
tasks:
  six: {{names: {{k: 6}}}}
  pairs:
    steps:
      only:
        recipe: {{k: 2, wrong: 1}}
steps:
  only:
    run: tokenizer train
    recipe: {{alphabet: dna, pieces: kmers, k: "{{k}}", out: "{{out}}/x.json"}}
""",
        "utf-8",
    )
    for overrides, k in (([], 6), (["names.k=4"], 4), (["task=null"], 3), (["task=six", "steps.only.recipe.k=5"], 5)):
        _, recipes = read(path, overrides, llama_gene.verb)
        assert recipes["only"].model_dump()["k"] == k, overrides
    with pytest.raises(UserError, match=r"tasks.yaml:10: unknown key 'wrong'"):
        read(path, ["task=pairs"], llama_gene.verb)
    with pytest.raises(UserError, match="task 'seven' is not in the recipe; known: six, pairs"):
        read(path, ["task=seven"], llama_gene.verb)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vocab_size: 16,", "vocab_sise: 16,", "small.yaml:7: unknown key 'vocab_sise'; did you mean 'vocab_size'?"),
        (
            "      train_documents: 3",
            "      train_documants: 3",
            "small.yaml:15: unknown key 'train_documants'; did you mean 'train_documents'?",
        ),
        ("splice: {train", "splice: {trian", "small.yaml:18: unknown key 'splice.trian'; did you mean 'train'?"),
        ("vocab_size: 20, ", "", "small.yaml:25: a BPE is learned: it needs vocab_size and files"),
        (', out: "{out}/third.json"', "", "small.yaml:25: 'out' is missing"),
        ("vocab_size: 20", "vocab_size: many", "small.yaml:25: 'vocab_size': "),
        (
            "run: convert simulate",
            "run: convert simulat",
            "small.yaml:9: 'convert simulat': no such command; did you mean 'convert simulate'?",
        ),
        ("title: Three small steps\n", "", "small.yaml: 'title' is missing"),
        ("steps:\n", "stepz:\n", "small.yaml:4: unknown key 'stepz'; did you mean 'steps'?"),
        ("files: [FASTA]", 'files: ["{data}/x.fa"]', "small.yaml: this recipe reads real data; pass --data DIR"),
    ],
)
def test_mistakes_are_refused_before_the_first_step(small: Path, old: str, new: str, message: str) -> None:
    old = old.replace("FASTA", str(small.parent / "in.fa"))
    text = small.read_text(encoding="utf-8")
    assert old in text
    small.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        main(["--recipe", str(small)], llama_gene.verb)
    assert f"{small.parent}/{message}" in str(caught.value)
    assert not (small.parent / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steps.first.recipe.vocab_sise=3"], "override 'steps.first.recipe.vocab_sise=3': unknown key 'vocab_sise'"),
        (["sed=3"], "override 'sed=3': unknown key 'sed'; did you mean 'seed'?"),
        (["--data", "absent"], "--data absent: no such folder"),
    ],
)
def test_bad_arguments_are_refused(small: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        main(["--recipe", str(small), *arguments], llama_gene.verb)
    assert message in str(caught.value)
    assert not (small.parent / "run").exists()


def test_a_dry_run_names_the_commands_and_writes_nothing(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--recipe", str(small), "--dry-run"], llama_gene.verb)
    lines = capsys.readouterr().out.splitlines()
    recipes = small.parent / "run" / "recipes"
    assert lines == [
        f"first: llama-gene tokenizer train --recipe {recipes}/first.yaml",
        f"second: llama-gene convert simulate --recipe {recipes}/second.yaml",
        f"third: llama-gene tokenizer train --recipe {recipes}/third.yaml",
    ]
    assert not (small.parent / "run").exists()


def test_finished_steps_are_kept_and_a_change_runs_the_rest_again(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = small.parent / "run"
    everything, nothing = dict.fromkeys(["first", "second", "third"], "ran"), dict.fromkeys(["first", "second", "third"], "kept")
    assert go(capfd, small) == (0, everything)
    found = load(llama_gene.verb("tokenizer train").kind, out / "recipes" / "first.yaml")
    assert (found.seed, found.vocab_size, found.out) == (3, 16, out / "first.json")
    assert go(capfd, small) == (0, nothing)

    changed = "steps.second.recipe.train_documents=4"
    assert go(capfd, small, changed) == (0, {"first": "kept", "second": "ran", "third": "ran"})

    # the last step fails after the middle one was made again: its old output, of the same recipe as ever, is out of date
    (out / "third.json").rename(out / "third.aside")
    code, steps = go(capfd, small, "steps.third.recipe.vocab_size=1000000")
    assert (code, steps) == (2, {"first": "kept", "second": "ran", "third": "failed"})
    (out / "third.aside").rename(out / "third.json")
    assert go(capfd, small) == (0, {"first": "kept", "second": "kept", "third": "ran"})

    # an output that was removed is made again though its manifest is still there
    (out / "third.json").unlink()
    assert go(capfd, small) == (0, {"first": "kept", "second": "kept", "third": "ran"})
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_a_failing_step_stops_the_run_with_its_exit_code(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, steps = go(capfd, small, "steps.second.recipe.promoter.train=1000000")
    assert (code, steps) == (2, {"first": "ran", "second": "failed"})
    assert sorted(path.name for path in (small.parent / "run").iterdir()) == ["first.json", "first.json.manifest.json", "recipes"]


def test_scoring_is_a_step_that_can_be_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its output is one file, so its manifest stands beside it."""
    card = load_card("sim/promoter")
    labels = [label.name for label in card.labels.values()]
    common = {"task": card.id, "split": "test", "kind": card.kind, "choices": labels}
    gold = [labels[i % 2] for i in range(6)]
    asked = {"prompt": [{"role": "user", "content": "?"}], "inputs": [{"name": "seq", "modality": "dna", "letters": "ACGT"}]}
    files: dict[str, list[dict[str, Any]]] = {
        "records": [
            {**common, **asked, "completion": [{"role": "assistant", "content": label}], "id": str(i), "label": label}
            for i, label in enumerate(gold)
        ],
        "predictions": [
            {**common, "id": str(i), "gold": label, "predicted": label, "logprobs": None, "text": None, "parsed": None, "status": None}
            for i, label in enumerate(gold)
        ],
    }
    for folder, lines in files.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (tmp_path / "records" / "cards.json").write_text(json.dumps([card.model_dump(mode="json")]), encoding="utf-8")
    path = tmp_path / "score.yaml"
    recipe = {"records": f"{tmp_path}/records", "predictions": [f"{tmp_path}/predictions"], "out": "{out}/metrics.json"}
    step = {"run": "eval score", "recipe": recipe}
    path.write_text(json.dumps({"title": "Score", "out": f"{tmp_path}/run", "steps": {"metrics": step}}), encoding="utf-8")
    assert go(capfd, path) == (0, {"metrics": "ran"})
    assert go(capfd, path) == (0, {"metrics": "kept"})


@pytest.mark.parametrize(("number", "whole_group", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)])
def test_an_ended_run_leaves_no_half_output_and_goes_on_where_it_stopped(
    small: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals, whole_group: bool, code: int
) -> None:
    out = small.parent / "run"
    long = "steps.second.recipe.train_documents=3000000"
    command = [sys.executable, "-m", "llama_gene", "quickstart", "--recipe", str(small), long]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        until = time.monotonic() + 60
        while not list(out.glob(".second.partial-*")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        if whole_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)  # ends only when the step, which has the same pipes, has ended too
    assert process.returncode == code
    errors = "".join(line for line in errors.splitlines(keepends=True) if ": read " not in line)  # what the first step read
    assert errors == ("interrupted; no half-written output was left behind\n" if number == signal.SIGINT else "")
    assert sorted(path.name for path in out.iterdir()) == ["first.json", "first.json.manifest.json", "recipes"]
    assert go(capfd, small) == (0, {"first": "kept", "second": "ran", "third": "ran"})
