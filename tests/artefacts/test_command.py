"""From a command line to a recipe: flags, lists, positional files, overrides, and what the exit codes mean."""

from __future__ import annotations

import argparse
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from artefacts.command import Verb, add_arguments, guarded, resolve, run
from artefacts.errors import UserError
from artefacts.folder import new_folder, write_manifest
from artefacts.recipe import Recipe


class Section(Recipe):
    card: str
    rows: int = 10


class Job(Recipe):
    out: Path
    """Where to write, 100 % of it."""
    files: list[Path] = []
    sections: list[Section] = Field(default_factory=list)
    learning_rate: float = 1e-3
    title: str = "plain"
    note: str | None = None
    shuffle: bool = True


def verb(done: list[Any] | None = None, **more: Any) -> Verb[Job]:
    done = [] if done is None else done
    return Verb(Job, lambda recipe, overwrite: done.append((recipe, overwrite)), "do a job", "job --out x", "Does a job.", **more)


def parse(arguments: list[str], of: Verb[Job]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="job")
    add_arguments(parser, of)
    return parser.parse_intermixed_args(arguments)


def job(*arguments: str, positional: str | None = "files") -> Job:
    of = verb(positional=positional)
    return resolve(parse(list(arguments), of), of)


def test_every_field_is_a_flag_with_its_docstring() -> None:
    parser = argparse.ArgumentParser(prog="job")
    add_arguments(parser, verb())
    text = " ".join(parser.format_help().split())
    for name in Job.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    assert "Where to write, 100 % of it." in text
    assert "(default: 0.001)" in text
    assert "Undefined" not in text
    assert "example: job --out x" in text
    assert "Does a job." in text


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--learning-rate", "3e-4"], "learning_rate", 3e-4),
        (["--learning-rate=3e-4"], "learning_rate", 3e-4),
        (["--no-shuffle"], "shuffle", False),
        (["shuffle=no"], "shuffle", False),
        (["shuffle=no", "--shuffle"], "shuffle", False),
        (["--shuffle", "a.fa"], "files", [Path("a.fa")]),
        (["--files", "a.fa", "b.fa"], "files", [Path("a.fa"), Path("b.fa")]),
        (["a.fa", "b.fa"], "files", [Path("a.fa"), Path("b.fa")]),
        (["a.fa", "learning_rate=1", "b.fa"], "files", [Path("a.fa"), Path("b.fa")]),
        (["a.fa", "--learning-rate", "1", "b.fa"], "files", [Path("a.fa"), Path("b.fa")]),
        (["--files", "a.fa", "learning_rate=1"], "files", [Path("a.fa")]),
        (["--files", "a.fa", "learning_rate=1"], "learning_rate", 1.0),
        (["--sections", "{card: x}", "{card: y, rows: 3}"], "sections", [Section(card="x"), Section(card="y", rows=3)]),
        (["sections=[{card: x}]"], "sections", [Section(card="x")]),
        (["--title", "Run #2: the second"], "title", "Run #2: the second"),
        (["--title", "yes"], "title", "yes"),
        (["--title", "1e5"], "title", "1e5"),
        (["--title", ""], "title", ""),
        (["--note", "is this: a promoter?"], "note", "is this: a promoter?"),
        (["--note", "null"], "note", None),
        (["--out", "2024"], "out", Path("2024")),
    ],
)
def test_flags_and_overrides_give_values(arguments: list[str], field: str, value: Any) -> None:
    given = arguments if "--out" in arguments else ["--out", "x", *arguments]
    assert getattr(job(*given), field) == value


def test_yaml_gives_way_to_a_flag_and_a_flag_to_an_override(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("out: x\nlearning_rate: 1.0\ntitle: file\n", encoding="utf-8")
    assert job("--recipe", str(path)).learning_rate == 1.0
    assert job("--recipe", str(path), "--learning-rate", "2").learning_rate == 2.0
    assert job("--recipe", str(path), "learning_rate=3").learning_rate == 3.0
    assert job("--recipe", str(path), "learning_rate=3", "--learning-rate", "2").learning_rate == 3.0
    assert job("--recipe", str(path), "--learning-rate", "2").title == "file"


@pytest.mark.parametrize(
    ("arguments", "positional", "words"),
    [
        (["--out", "x", "a.fa"], None, "'a.fa': an override is written key=value"),
        (["--out", "x", "learnig_rate=3"], "files", "did you mean 'learning_rate'?"),
        (["--out", "x", "--learning-rate", "fast"], "files", "'learning_rate'"),
        ([], "files", "'out' is missing"),
    ],
)
def test_mistakes_are_user_errors(arguments: list[str], positional: str | None, words: str) -> None:
    with pytest.raises(UserError) as caught:
        job(*arguments, positional=positional)
    assert words in str(caught.value)


def test_an_unknown_flag_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        job("--out", "x", "--lerning", "1")
    assert caught.value.code == 2
    assert "--lerning" in capsys.readouterr().err


def test_dry_run_prints_the_resolved_recipe_and_works_not(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done: list[Any] = []
    of = verb(done, dry_run=lambda recipe: print(f"# {recipe.title}"))
    run(parse(["--out", str(tmp_path / "x"), "--title", "two", "--dry-run"], of), of)
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed) == Job(out=tmp_path / "x", title="two").model_dump(mode="json")
    assert printed.endswith("# two\n")
    assert done == []
    assert list(tmp_path.iterdir()) == []


def test_work_gets_the_recipe_and_whether_to_overwrite(tmp_path: Path) -> None:
    done: list[Any] = []
    of = verb(done)
    run(parse(["--out", str(tmp_path / "x")], of), of)
    run(parse(["--out", str(tmp_path), "--overwrite"], of), of)
    assert done == [(Job(out=tmp_path / "x"), False), (Job(out=tmp_path), True)]
    with pytest.raises(UserError, match="already exists"):
        run(parse(["--out", str(tmp_path)], of), of)
    assert len(done) == 2


def raising(error: BaseException) -> Any:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("x.yaml:3: no"), 2, "error: x.yaml:3: no\n"),
        (KeyboardInterrupt(), 130, "interrupted; no half-written output was left behind\n"),
        (OSError(errno.ENOSPC, "No space left", "out"), 1, "error: out: No space left; no half-written output was left behind\n"),
        (OSError(errno.EFBIG, "File too large"), 1, "error: output: File too large; no half-written output was left behind\n"),
        (OSError(errno.EDQUOT, "Quota exceeded"), 1, "error: output: Quota exceeded; no half-written output was left behind\n"),
    ],
)
def test_exit_codes(capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str) -> None:
    assert guarded(raising(error)) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", line)


def test_a_pipe_that_is_not_the_output_is_a_defect(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError):
        guarded(raising(BrokenPipeError()))


def test_success_is_0_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []
    assert guarded(lambda: seen.append(signal.getsignal(signal.SIGTERM))) == 0
    assert seen[0] is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("error", [RuntimeError("a defect"), OSError(errno.EACCES, "Permission denied"), SystemExit(7)])
def test_defects_keep_their_traceback(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        guarded(raising(error))
    assert caught.value is error


def test_sigterm_ends_with_143() -> None:
    with pytest.raises(SystemExit) as caught:
        guarded(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert caught.value.code == 143


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert guarded(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("variable", [None, "RANK", "LOCAL_RANK"])
def test_of_several_processes_one_says_what_is_wrong_with_the_inputs(
    variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hundred ranks would read every input once more, and say the same line a hundred times."""
    source = tmp_path / "source"
    with new_folder(source) as folder:
        (folder / "a.txt").write_text("noted")
        write_manifest(folder, "test", recipe={}, inputs={}, counts={})
    (source / "a.txt").write_text("other")
    if variable:
        monkeypatch.setenv(variable, "1")
    of = Verb(Job, lambda recipe, overwrite: (source / "a.txt").write_text("grown"), "do", "job", "Does.", positional="files")
    run(argparse.Namespace(**vars(parse([str(source), "--out", str(tmp_path / "out")], of))), of)
    said = capsys.readouterr().err
    assert said.count("not the file that its manifest notes") == said.count("changed while this command ran") == (variable is None)
