"""`push`, and hub ids in place of folders, against a stand-in of the hub at its HTTP border (tests/hub_server.py)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import TOKEN, Hub, hub

from artefacts.errors import UserError
from artefacts.hub import is_hub_id, pinned
from artefacts.recipe import load
from instruct.tune.push import KINDS, PushRecipe, card_of, inspected, push, results
from llama_gene import main

METRICS = {
    "tasks": [
        {
            "task": "sim/promoter", "title": "Promoter or background", "split": "test", "n": 40,
            "systems": {
                "ours": {"metrics": {"mcc": {"value": 0.5, "low": 0.4, "high": 0.6}}},
                "kmer": {"metrics": {"mcc": {"value": 0.1, "low": 0.0, "high": 0.2}}},
            },
        }
    ]
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as found:
        yield found


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(METRICS), encoding="utf-8")
    return path


def made(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def call(server: Hub, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`llama-gene` in a process of its own: the library reads its settings when it is imported."""
    environment = {**os.environ, **server.environment(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "llama_gene", *words]
    return subprocess.run(command, env=environment, cwd=home.parent, capture_output=True, text=True, timeout=400, check=False)


def front(card: bytes | str) -> dict[str, Any]:
    text = card if isinstance(card, str) else card.decode()
    found: dict[str, Any] = yaml.safe_load(text[4:].partition("\n---")[0])
    return found


PINNED = """
import sys
from pathlib import Path
from artefacts.errors import UserError
from artefacts.hub import fetched, pinned
from instruct.tune.push import PushRecipe, push

folder = Path(sys.argv[1])
push(PushRecipe(folder=folder, to="org/gene", licence="mit", private=True))
first = fetched("org/gene")
assert sorted(path.name for path in first.iterdir()) == ["README.md", "config.json", "model.safetensors"]
(folder / "config.json").write_text("[1]")
push(PushRecipe(folder=folder, to="org/gene", licence="mit"))
second = fetched("org/gene")
assert first != second and (first / "config.json").read_text() == "{}" and (second / "config.json").read_text() == "[1]"
assert fetched(f"org/gene@{first.name}") == first and pinned({"model": second}) == {"org/gene": second.name}
for name in ("org/none", "org/gene@" + "0" * 40):
    try:
        fetched(name)
    except UserError as error:
        print(error)
"""


def test_what_is_fetched_is_pinned_to_its_commit(server: Hub, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", config_DOT_json={}, model_DOT_safetensors="weights")
    environment = {**os.environ, **server.environment(tmp_path / "home")}
    command = [sys.executable, "-c", PINNED, str(folder)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "org/none: no such file or folder, and not to be had from the hub (RepositoryNotFoundError)" in done.stdout
    assert "(RevisionNotFoundError)" in done.stdout
    repository = server.repositories["models/org/gene"]
    assert repository["private"]
    assert len(repository["commits"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama3"], indirect=True)
def test_a_model_goes_there_and_comes_back(
    server: Hub, talker: Path, metrics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pushed, and asked by its id: the answer of the folder, the commit in the manifest, nothing fetched that was not pushed."""
    home = tmp_path / "home"
    pushed = Path(shutil.copytree(talker, tmp_path / "pushed"))
    made = {
        "stage": "tuned",
        "created": "",
        "recipe": {"model": str(tmp_path / "base"), "records": ["records"]},
        "inputs": {},
        "counts": {},
    }
    (pushed / "manifest.json").write_text(json.dumps(made))
    words = ["--folder", str(pushed), "--to", "org/gene", "licence=apache-2.0", "--metrics", str(metrics), "--system", "ours", "--private"]
    done = call(server, home, "push", *words)
    assert done.returncode == 0, done.stderr
    repository = server.repositories["models/org/gene"]
    assert repository["private"]
    sha, files = repository["main"], repository["commits"][repository["main"]]
    assert sha in done.stdout
    assert files["model.safetensors"] == (talker / "model.safetensors").read_bytes()
    card = front(files["README.md"])
    assert card["license"] == "apache-2.0"
    assert card["library_name"] == "transformers"
    (result,) = card["model-index"][0]["results"]
    assert result["dataset"] == {"name": "Promoter or background", "type": "sim/promoter", "split": "test", "args": {"n": 40}}
    assert result["metrics"] == [{"type": "mcc", "value": 0.5, "args": {"low": 0.4, "high": 0.6}}]
    assert not (pushed / "README.md").exists()
    assert json.loads(files["manifest.json"]) == {**made, "recipe": {"model": "base", "records": ["records"]}}, "no folder of this machine"
    asked = ["--prompt", "Is this a promoter? <dna>TATAAATGGC</dna>", "max_new_tokens=5"]
    there = call(server, home, "chat", "--model", "org/gene", *asked)
    assert there.returncode == 0, there.stderr
    capsys.readouterr()
    assert main(["chat", "--model", str(talker), *asked]) == 0
    assert there.stdout == capsys.readouterr().out
    done = call(server, home, "export", "--model", f"org/gene@{sha}", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["hub"] == {"org/gene": sha}
    unknown = call(server, home, "chat", "--model", "org/gene@" + "0" * 40, *asked)
    assert unknown.returncode == 2
    assert "not to be had from the hub (RevisionNotFoundError)" in unknown.stderr


def test_without_the_token_nothing_is_taken(server: Hub, tmp_path: Path) -> None:
    folder = made(tmp_path / "tokenizer", tokenizer_DOT_json={"model": {}})
    server.environment = lambda home: Hub.environment(server, home) | {"HF_TOKEN": "hf_other"}  # type: ignore[method-assign]
    done = call(server, tmp_path / "home", "push", "--folder", str(folder), "--to", "org/gene", "licence=mit")
    assert done.returncode == 2
    assert re.match(r"error: org/gene: the hub did not take it \(.*401", done.stderr)
    assert TOKEN not in done.stderr
    assert not server.repositories


def test_what_a_folder_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = {
        "adapter": made(tmp_path / "a", adapter_config_DOT_json={"base_model_name_or_path": "org/base"}, adapter_model_DOT_safetensors=""),
        "model": made(
            tmp_path / "m", config_DOT_json={}, model_DOT_safetensors="", tokenizer_DOT_json={}, _DOT_lock="", README_DOT_md="# Name"
        ),
        "records": made(
            tmp_path / "r", cards_DOT_json=[{"source": {"licence": "MIT"}}, {"source": {"licence": "mit"}}], train_DOT_jsonl="{}"
        ),
        "shards": made(tmp_path / "s", train__00000__data_DOT_arrow="", manifest_DOT_json={"stage": "shards"}),
        "tokenizer": made(tmp_path / "t", tokenizer_DOT_json={}),
    }
    assert folders.keys() == KINDS.keys()
    for kind, folder in folders.items():
        assert inspected(folder)[0] == kind
    assert main(["push", "--folder", str(folders["records"]), "--to", "org/records", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "records, to the dataset repository org/records:" in said
    assert "license: mit" in said
    assert [path.name for path in inspected(folders["model"])[1]] == ["config.json", "model.safetensors", "tokenizer.json"]
    card = card_of(PushRecipe(folder=folders["adapter"], to="org/x", licence="mit"), "adapter")
    assert front(card)["base_model"] == "org/base"
    assert front(card)["library_name"] == "peft"


def test_refusals(tmp_path: Path, metrics: Path) -> None:
    model = made(tmp_path / "m", config_DOT_json={}, model_DOT_safetensors="")
    for changes, match in (
        ({"folder": tmp_path / "nothing"}, "none of adapter, model, records, shards, tokenizer"),
        ({"licence": None}, "no licence is known"),
        ({"metrics": metrics}, "system=None is none of ours, kmer"),
        ({"metrics": metrics, "system": "his"}, "system=his is none of ours, kmer"),
    ):
        with pytest.raises(UserError, match=match):
            push(PushRecipe(**{"folder": model, "to": "org/x", "licence": "mit", **changes}))
    made(model, pytorch_model_DOT_bin="")
    with pytest.raises(UserError, match=r"pytorch_model.bin: a pickle"):
        push(PushRecipe(folder=model, to="org/x", licence="mit"))
    with pytest.raises(UserError, match="'to'"):
        load(PushRecipe, None, ["folder=x", "to=name"])
    assert results(metrics, "kmer")[0]["metrics"][0]["value"] == 0.1


def test_ids_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path with a slip in it, below a folder that is there, is no repository."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "model").mkdir(parents=True)
    assert [name for name in ("org/name", "org/name@v1.0", "org/name@refs/pr/1") if not is_hub_id(name)] == []
    assert [name for name in ("runs/model", "runs/modle", "name", "a/b/c", "/a/b", "../b", "a/") if is_hub_id(name)] == []
    path = "/cache/hub/datasets--org--my.records/snapshots/" + "a" * 40
    assert pinned({"records": path, "out": "x"}) == {"org/my.records": "a" * 40}
    shutil.rmtree(tmp_path / "runs")
