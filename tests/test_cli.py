"""The front door: help is quick and complete, and a user's mistake ends with 2 and one clear line before anything heavy."""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import llama_gene
from artefacts.command import add_arguments, resolve
from artefacts.folder import new_folder, write_manifest
from configs import CONFIGS
from data_convert.fetch.sources import load_source

HEAVY = ("torch", "transformers", "datasets", "sklearn", "matplotlib", "peft", "trl", "deepspeed")

RUN = """
import json, sys
import llama_gene
try:
    code = llama_gene.main(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
heavy = [name for name in HEAVY if name in sys.modules]
print("\\n" + json.dumps({"code": code, "heavy": heavy}))
"""

ALL_HELP = """
import contextlib, io, json, sys
import llama_gene
pages = {}
for name in llama_gene.COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()) as page, contextlib.suppress(SystemExit):
        llama_gene.main([*name.split(), "--help"])
    pages[name] = page.getvalue()
print(json.dumps({"pages": pages, "heavy": [name for name in HEAVY if name in sys.modules]}))
"""


def call(*arguments: str | Path, folder: Path | None = None) -> tuple[int, list[str], str, str]:
    """Exit code, heavy modules that were imported, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY}{RUN}", *map(str, arguments)], capture_output=True, text=True, cwd=folder, check=True
    )
    printed, _, last = done.stdout.rstrip("\n").rpartition("\n")
    report = json.loads(last)
    return report["code"], report["heavy"], printed, done.stderr


def test_help_is_an_overview_without_heavy_imports() -> None:
    code, heavy, printed, errors = call("--help")
    assert (code, heavy, errors) == (0, [], "")
    for name in ["quickstart", *llama_gene.COMMANDS]:
        assert re.search(rf"^  {name}  +\w", printed, re.MULTILINE), name


@pytest.fixture(scope="module")
def pages() -> dict[str, Any]:
    return json.loads(
        subprocess.run([sys.executable, "-c", f"HEAVY = {HEAVY}{ALL_HELP}"], capture_output=True, text=True, check=True).stdout
    )


def test_no_command_needs_a_heavy_import_for_its_help(pages: dict[str, Any]) -> None:
    assert pages["heavy"] == []


@pytest.mark.parametrize("name", llama_gene.COMMANDS)
def test_every_help_page_holds_its_fields_and_its_example(pages: dict[str, Any], name: str) -> None:
    page, found = pages["pages"][name], llama_gene.verb(name)
    assert page.startswith(f"usage: llama-gene {name} ")
    assert found.description in page
    for line in found.example.splitlines():
        assert line in page
    for field in found.kind.model_fields:
        assert f"--{field.replace('_', '-')} " in page
    assert "Undefined" not in page


EXAMPLES = [(name, line) for name in llama_gene.COMMANDS for line in llama_gene.verb(name).example.splitlines()]


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_every_documented_example_is_a_valid_recipe(name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    words = shlex.split(line)
    start = ["llama-gene", *name.split()]
    if words[0] == "deepspeed":
        start = words[: words.index("--module") + 2]
        assert start[-1] == name
    assert words[: len(start)] == start
    found = llama_gene.verb(name)
    parser = argparse.ArgumentParser()
    add_arguments(parser, found)
    options = parser.parse_intermixed_args(words[len(start) :])
    if options.recipe is not None:
        assert Path(options.recipe).is_file(), f"the example names {options.recipe}, which does not ship"
        if words[0] == "deepspeed":
            options.rest += [
                f"{field}=x"
                for field in ("model", "shards", "out")
                if field in found.kind.model_fields and field not in yaml.safe_load(Path(options.recipe).read_text())
            ]
    assert resolve(options, found).model_fields_set


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tokenizer"], "'tokenizer' is a group of commands; choose one of: tokenizer create, tokenizer train, tokenizer extend"),
        (["tokenizer", "trian", "--out", "x"], "'tokenizer trian': no such command; did you mean 'tokenizer train'?"),
        (["pretrian", "--out", "x"], "'pretrian': no such command; did you mean 'pretrain'?"),
        (["eval", "sequences"], "'eval sequences' is a group of commands; choose one of: eval sequences score, eval sequences variants"),
        (["eval", "sequences", "scroe"], "'eval sequences scroe': no such command; did you mean 'eval sequences score'?"),
        (["eval", "zzz"], "'eval zzz': no such command; the commands are: eval predict, eval run"),
        (["zzz"], "'zzz': no such command; the commands are: quickstart, tokenizer create,"),
    ],
)
def test_commands_that_are_none(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert llama_gene.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("group", ["tokenizer", "eval", "eval sequences"])
def test_help_of_a_group(capsys: pytest.CaptureFixture[str], group: str) -> None:
    assert llama_gene.main([*group.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    names = [name for name in llama_gene.COMMANDS if name.startswith(f"{group} ")]
    assert printed.splitlines() == [f"  {name:<25}{llama_gene.COMMANDS[name].short}" for name in names]


GOOD = {
    "id": "sim/promoter/train/1",
    "task": "sim/promoter",
    "split": "train",
    "kind": "binary",
    "prompt": [{"role": "user", "content": "Is <dna>ACGT</dna> a promoter?"}],
    "completion": [{"role": "assistant", "content": "promoter"}],
    "label": "promoter",
    "choices": ["promoter", "background"],
    "inputs": [{"name": "sequence", "modality": "dna", "letters": "ACGT"}],
    "source": "x.csv:2",
}
NO_ANSWER = {**GOOD, "id": "sim/promoter/train/2", "completion": [{"role": "assistant", "content": ""}]}


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the inputs that the mistakes below are made with."""
    for name in ("records", "bad_records"):
        with new_folder(tmp_path / name) as folder:
            for split in ("train", "dev", "test"):
                lines = [GOOD, NO_ANSWER] if name == "bad_records" else [GOOD]
                (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            write_manifest(folder, "tasks", recipe={}, inputs={}, counts={})
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "finished").mkdir()
    (tmp_path / "empty.fa").write_text("", encoding="utf-8")
    (tmp_path / "foreign.fa").write_text(">a\nACGT\nACJT\n>b\nEEEE\n", encoding="utf-8")
    (tmp_path / "good.fa").write_text(">a\nACGTACGTAC\n", encoding="utf-8")
    (tmp_path / "text.jsonl").write_text('{"text": ""}\n', encoding="utf-8")
    (tmp_path / "odd.yaml").write_text("alphabet: dna\nvocab_sise: 64\n", encoding="utf-8")
    card = (CONFIGS / "tasks" / "sim" / "promoter.yaml").read_text(encoding="utf-8")
    assert "primary_metric: mcc" in card
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "promoter.yaml").write_text(card.replace("mcc", "mmc"), encoding="utf-8")
    return tmp_path


TRAIN = "tokenizer train --alphabet dna --vocab-size 64 --out out"
MISTAKES = {
    "unknown key in a recipe": (f"{TRAIN} --recipe odd.yaml good.fa", ["odd.yaml:2: unknown key 'vocab_sise'; did you mean 'vocab_size'?"]),
    "unknown key in an override": ("convert simulate --out out sed=3", ["override 'sed=3': unknown key 'sed'; did you mean 'seed'?"]),
    "missing recipe": ("pretrain --recipe absent.yaml", ["absent.yaml: no such recipe"]),
    "missing field": ("merge --model model --out out", ["'adapter' is missing; add it to the recipe or pass adapter=VALUE"]),
    "missing sequences": (f"{TRAIN} absent.fa", ["absent.fa: no such file; check the path"]),
    "empty FASTA": (f"{TRAIN} empty.fa", ["empty.fa:1: no sequence record", "remove it from the recipe"]),
    "foreign letters": (f"{TRAIN} foreign.fa", ["foreign.fa: not one usable dna record: letter outside dna: 2", "Is this file dna?"]),
    "too many pieces": (f"{TRAIN} good.fa", ["good.fa: only ", "pieces can be learned", "ask for vocab_size="]),
    "unusable text": ("tokenizer create --out out --text text.jsonl", ["text.jsonl: not one usable text document", "Mend the file"]),
    "no BPE": ("tokenizer extend --base absent --dna a --protein b --out out", ["a: no such dna BPE; train one with"]),
    "no tokenizer": (
        "convert pack --tokenizer absent --out out --sources {modality:\\ dna,\\ files:\\ [good.fa]}",
        ["absent: no tokenizer.json", "tokenizer extend"],
    ),
    "missing variants": (
        "eval sequences variants --variants absent.vcf --genome good.fa --model model --out out",
        ["absent.vcf: no such file; check the path"],
    ),
    "no sequence long enough": ("eval sequences recover good.fa --model model --out out", ["good.fa:1: no record of 1,050 letters"]),
    "unknown source": ("convert fetch swisprot --out out", ["source 'swisprot': no such card; did you mean 'swissprot'?", "trembl"]),
    "an assembly without its version": ("convert fetch refseq:GCF_000005845 --out out", ["for example refseq:GCF_000005845.2"]),
    "unknown card": (
        "convert tasks --out out tasks=[{card:\\ sim/promotor,\\ source:\\ .}]",
        ["'sim/promotor'", "did you mean 'sim/promoter'?"],
    ),
    "unknown metric": (
        "convert tasks --out out tasks=[{card:\\ sim/promoter.yaml,\\ source:\\ .}]",
        ["sim/promoter.yaml: ", "metric 'mmc' is not known for binary tasks; did you mean 'mcc'?"],
    ),
    "nothing to audit": ("convert audit absent --out out", ["absent: no cards.json", "run `llama-gene convert tasks` first"]),
    "no model": ("pretrain --model absent --shards s --out out", ["absent/config.json: no such model", "tokenizer extend"]),
    "no shards": ("pretrain --model model --shards records --out out", ["records: made by stage 'tasks', but 'shards' is needed"]),
    "no records": ("instruct --model model --records absent --out out", ["absent/train.jsonl: no such records"]),
    "a record without an answer": (
        "instruct --model model --records bad_records --out out",
        ["bad_records/train.jsonl:2: the record has no answer (completion); mend the line"],
    ),
    "a record without an answer, predicted": (
        "eval predict --model model --records bad_records --out out",
        ["bad_records/test.jsonl:2: the record has no answer"],
    ),
    "a record without an answer, baselines": (
        "eval baselines --records bad_records --out out",
        ["bad_records/train.jsonl:2: the record has no answer"],
    ),
    "unknown deepspeed config": (
        "instruct --model model --records records --out out deepspeed=zero9",
        ["deepspeed=zero9: neither a file nor one of zero0, zero1, zero2, zero2_offload, zero3"],
    ),
    "no adapter": ("merge --model model --adapter absent --out out", ["absent/adapter_config.json: no such adapter"]),
    "no model to export": ("export --model absent --out out", ["absent/config.json: no such model"]),
    "no converter": ("export --model model --out out --gguf f16 --llama-cpp .", ["llama.cpp's converter is not here", "llama_cpp=FOLDER"]),
    "no model to chat with": ("chat --model absent", ["absent/config.json: no such model"]),
    "an adapter to chat with": ("chat --model adapter", ["adapter: an adapter, not a model; merge it with `llama-gene merge"]),
    "no model to serve": ("serve --model absent", ["absent/config.json: no such model"]),
    "no model to predict with": ("predict good.fa --model absent --task sim/promoter --out out", ["absent/config.json: no such model"]),
    "a foreign letter in a chat": ("chat --model model --prompt <dna>ACJT</dna>", ["'J'"]),
    "no cards": ("eval score --records records --predictions records --out out", ["records: no cards.json", "convert tasks"]),
    "no metrics": ("eval report --metrics absent --records records --predictions p --out out", ["absent: no such file"]),
    "no pipeline": ("quickstart --recipe absent.yaml", ["absent.yaml: no such recipe"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_with_2_and_one_clear_line(workplace: Path, name: str) -> None:
    line, expected = MISTAKES[name]
    before = sorted(workplace.rglob("*"))
    code, heavy, printed, errors = call(*shlex.split(line), folder=workplace)
    messages = errors.splitlines()
    assert code == 2, errors
    assert len(messages) == 1, errors
    assert messages[0].startswith("error: ")
    for words in expected:
        assert words in messages[0]
    assert heavy == []
    assert printed.strip() == ""
    assert sorted(workplace.rglob("*")) == before


REQUIRED = {
    "tokenizer create": "--text text.jsonl",
    "tokenizer train": "--alphabet dna --vocab-size 64 good.fa",
    "tokenizer extend": "--base model --dna a --protein b",
    "tokenizer gguf": "--model model",
    "convert simulate": "",
    "convert pack": "--tokenizer model --sources {modality:\\ dna,\\ files:\\ [good.fa]}",
    "convert audit": "records",
    "convert tasks": "tasks=[{card:\\ sim/promoter,\\ source:\\ .}]",
    "pretrain": "--model model --shards shards",
    "instruct": "--model model --records records",
    "merge": "--model model --adapter adapter",
    "export": "--model model",
    "predict": "good.fa --model model --task sim/promoter",
    "generate": "--model model --modality dna",
    "eval predict": "--model model --records records",
    "eval retention": "--models model",
    "eval export": "--records records",
    "eval baselines": "--records records",
    "baseline train": "--data records --loss {kind:\\ binary} --metric mcc",
    "eval sequences score": "good.fa --model model",
    "eval sequences variants": "--variants calls.vcf --genome good.fa --model model",
    "eval sequences recover": "good.fa --model model",
    "eval sequences perturb": "good.fa --model model",
    "eval sequences pairs": "good.fa --model model",
    "eval sequences retrieve": "good.fa --model model",
    "eval score": "--records records --predictions predictions",
    "eval report": "--metrics m --records records --predictions predictions",
    "eval compare": "a b --records records",
    "eval leaderboard": "--metrics m",
}


ADDING = {"convert fetch", "baseline embed", "baseline predict", "eval run"}
"""Commands that add to an output that exists (data_convert/test_fetch.py, eval/test_embed_command.py, eval/test_luca_train.py,
eval/test_run.py)."""


def test_every_command_with_an_output_is_tried_below() -> None:
    assert {name for name in llama_gene.COMMANDS if "out" in llama_gene.verb(name).kind.model_fields} == set(REQUIRED) | ADDING
    assert {name for name in llama_gene.COMMANDS if llama_gene.verb(name).adds} == ADDING


@pytest.mark.parametrize("name", REQUIRED)
def test_an_existing_output_is_refused_first(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(workplace)
    loaded = set(sys.modules)
    assert llama_gene.main([*name.split(), "--out", "finished", *shlex.split(REQUIRED[name])]) == 2
    assert capsys.readouterr().err == "error: finished: already exists. Choose another output, remove it, or pass --overwrite.\n"
    assert [module for module in HEAVY if module in sys.modules and module not in loaded] == []
    assert list((workplace / "finished").iterdir()) == []


@pytest.mark.parametrize(
    "words", [["--help"], ["chat", "--help"], ["convert", "--help"], ["tokenizer", "create", "--dry-run", "out=x", "text=[a]"]]
)
def test_a_reader_that_has_gone_ends_it_without_a_word(words: list[str]) -> None:
    """`llama-gene ... | head`"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "llama_gene", *words], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == (0 if words == ["chat", "--help"] else 141)  # argparse writes its help or does not


def test_a_latin_1_terminal_and_closed_streams() -> None:
    command = [sys.executable, "-m", "llama_gene", "--help"]
    latin = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True)
    assert latin.returncode == 0, latin.stderr
    assert b"key=value \\u2026" in latin.stdout
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(f"{shlex.join(command)} {closed}", shell=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


def test_flags_are_not_guessed_from_their_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    """`--seq_id` was taken for `--seq_idx`."""
    for words in (["chat", "--mode", "x"], ["convert", "tasks", "--over"], ["quickstart", "--rec", "x"]):
        assert llama_gene.main(words) == 2
        assert "unrecognized arguments" in capsys.readouterr().err


def test_no_check_is_gone_under_python_o() -> None:
    """`assert` only tells the type checker what is not None or of which type; what is checked of data is `ensure`d."""
    found = []
    for package in ("artefacts", "sequences", "tokenizer", "data_convert", "training", "pages", "pretrain", "instruct", "eval", "configs"):
        for path in sorted((CONFIGS.parent / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Assert):
                    narrows = isinstance(node.test, ast.Compare) and isinstance(node.test.ops[0], ast.IsNot)
                    if not narrows and not ast.unparse(node.test).startswith("isinstance("):
                        found.append(f"{path}:{node.lineno}")
    assert found == []
    code = "from artefacts.errors import Ledger; ledger = Ledger(); ledger.read = 1; ledger.as_dict()"
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True)
    assert "AssertionError: 1 read != 0 written + 0 rejected" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "--modle", "x"], "unrecognized arguments: --modle; did you mean '--model'?"),
        (["quickstart", "--recipee", "x"], "unrecognized arguments: --recipee; did you mean '--recipe'?"),
        (["chat", "--zzz"], "unrecognized arguments: --zzz; see `llama-gene chat --help`"),
        (["chat", "--model"], "argument --model: expected one argument; see `llama-gene chat --help`"),
        (["list", "taskss"], "list: say which, for example `llama-gene list tasks`; there are tasks, sources, recipes"),
        (["schema"], "schema: name a command, for example `llama-gene schema tokenizer extend > extend.schema.json`"),
        (["completion"], "completion: say which, for example `llama-gene completion bash`; there are bash, zsh, tcsh"),
    ],
)
def test_a_misspelt_flag_is_one_line_that_names_the_right_one(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert llama_gene.main(words) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_help_shows_the_choices(pages: dict[str, Any]) -> None:
    assert "--train all|lora|rows" in pages["pages"]["pretrain"]
    assert "--pieces bpe|letters|kmers" in pages["pages"]["tokenizer train"]


@pytest.mark.parametrize("what", ["tasks", "sources", "recipes"])
def test_lists_name_what_other_commands_take(capsys: pytest.CaptureFixture[str], what: str) -> None:
    assert llama_gene.main(["list", what]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    if what == "tasks":
        assert names == sorted(
            path.relative_to(CONFIGS / "tasks").with_suffix("").as_posix() for path in (CONFIGS / "tasks").rglob("*.yaml")
        )
    elif what == "sources":
        assert {name.partition(":")[0] for name in names} == {path.stem for path in (CONFIGS / "sources").glob("*.yaml")}
        assert all(load_source(name).card.title for name in names)
    else:
        assert all(Path(name).is_file() for name in names)
        assert str(CONFIGS / "recipes" / "quickstart.yaml") in names


@pytest.mark.parametrize("name", llama_gene.COMMANDS)
def test_the_schema_of_a_command_holds_its_fields(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert llama_gene.main(["schema", *name.split()]) == 0
    assert set(json.loads(capsys.readouterr().out)["properties"]) == set(llama_gene.verb(name).kind.model_fields)


def test_doctor_says_what_is_here_and_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else find_spec(name))
    assert llama_gene.main(["doctor"]) == 0
    told = dict(re.split("  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["torch"] == importlib.metadata.version("torch")
    assert "cores" in told["CPU"]
    assert told["vllm"].startswith("missing: a faster endpoint")
    assert told["gguf"].startswith("installed") == (find_spec("gguf") is not None)
    assert ("GPU 0" in told) == torch.cuda.is_available()


def test_the_last_lines_say_what_was_written_and_what_comes_next(tmp_path: Path) -> None:
    """Also where nobody looks: no bar, no carriage return, no warning that nobody can act on."""
    words = ["tokenizer", "train", "--alphabet", "dna", "--pieces", "kmers", "--k", "3", "--out", "dna.json"]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "LLAMA_GENE_STEP")}
    environment["PYTHONPATH"] = str(CONFIGS.parent)
    whole = subprocess.run(
        [sys.executable, "-P", "-m", "llama_gene", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    *_, wrote, after = whole.stdout.splitlines()
    size = f"{(tmp_path / 'dna.json').stat().st_size / 1000:.1f} kB"
    assert re.fullmatch(rf"wrote dna.json: {re.escape(size)}, in \d+\.\d s", wrote)
    assert after == "next: llama-gene tokenizer extend --base BASE --dna dna.json … --out runs/extended"
    step = subprocess.run(
        [sys.executable, "-P", "-m", "llama_gene", *words, "--overwrite"], cwd=tmp_path,
        env={**environment, "LLAMA_GENE_STEP": "dna"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "next:" not in step.stdout
    noisy = subprocess.run(
        [sys.executable, "-P", "-c", "import artefacts.command as c; c.quiet_libraries(); import peft, deepspeed"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "WARNING" not in noisy.stdout + noisy.stderr
    assert "Failed to load" not in noisy.stderr


@pytest.mark.parametrize("name", [name for name, entry in llama_gene.COMMANDS.items() if entry.then])
def test_what_comes_next_is_a_command_and_names_fields(name: str) -> None:
    then = llama_gene.COMMANDS[name].then
    assert set(re.findall(r"{(\w+)}", then)) <= set(llama_gene.verb(name).kind.model_fields)
    assert any(then.startswith(f"{known} ") for known in [*llama_gene.COMMANDS, "list"])


def test_completion_completes_commands_flags_and_choices(tmp_path: Path) -> None:
    script = tmp_path / "llama-gene.bash"
    done = subprocess.run([sys.executable, "-m", "llama_gene", "completion", "bash"], capture_output=True, text=True, check=True)
    script.write_text(done.stdout)
    function = re.search(r"complete .*-F (\w+) llama-gene", done.stdout)
    assert function is not None
    for words, wanted in (
        (["tok"], "tokenizer"),
        (["tokenizer", "ex"], "extend"),
        (["eval", "sequences", "sc"], "score"),
        (["pretrain", "--acc"], "--accumulation"),
        (["pretrain", "--train", "lo"], "lora"),
        (["list", "so"], "sources"),
    ):
        line = " ".join(map(shlex.quote, ["llama-gene", *words]))
        asked = f"COMP_WORDS=({line}) COMP_CWORD={len(words)}; {function[1]}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        found = subprocess.run(["bash", "-c", f"source {script}; {asked}"], capture_output=True, text=True, check=True).stdout
        assert wanted in found.split(), (words, found)
