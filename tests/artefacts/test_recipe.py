"""Typed recipes: mistakes are refused with place and remedy, values survive a round trip."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from artefacts.errors import UserError
from artefacts.recipe import Recipe, dump, load, read_yaml


class Part(Recipe):
    name: str
    weight: float = 1.0


class Job(Recipe):
    out: Path
    learning_rate: float = 1e-3
    steps: int | None = None
    title: str = "untitled"
    kind: Literal["plain", "fancy"] = "plain"
    parts: list[Part] = Field(default_factory=list)
    main: Part = Part(name="main")
    named: dict[str, Part] = Field(default_factory=dict)
    layers: list[int] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Job:
        if self.kind == "fancy" and self.steps is None:
            raise ValueError("fancy jobs need steps")
        return self


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(Job, write(folder, text), overrides)
    return str(caught.value).replace(str(folder), "HERE")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out: x\n\nlerning_rate: 1\n", "HERE/job.yaml:3: unknown key 'lerning_rate'; did you mean 'learning_rate'?"),
        (
            "out: x\nparts:\n  - name: a\n  - name: b\n    wieght: 2\n",
            "HERE/job.yaml:5: unknown key 'parts.1.wieght'; did you mean 'weight'?",
        ),
        ("out: x\nmain: {name: a, waight: 2}\n", "HERE/job.yaml:2: unknown key 'main.waight'; did you mean 'weight'?"),
        ("out: x\nmain:\n  name: a\n  qqqqqq: 2\n", "HERE/job.yaml:4: unknown key 'main.qqqqqq'; known keys: name, weight"),
        ("out: x\nsteps:\n", None),
        ("learning_rate: 1\n", "HERE/job.yaml: 'out' is missing; add it to the recipe or pass out=VALUE"),
        ("out: x\nmain:\n  weight: 2\n", "HERE/job.yaml:2: 'main.name' is missing; add it to the recipe or pass main.name=VALUE"),
        ("out: x\nkind: fancy\n", "HERE/job.yaml: fancy jobs need steps"),
        ("out: x\nsteps: 3\nout: y\n", "HERE/job.yaml:3: key 'out' is given twice"),
        ("out: x\nmain:\n  name: a\n  name: b\n", "HERE/job.yaml:4: key 'name' is given twice"),
        ("- out\n- x\n", "HERE/job.yaml: expected `key: value` lines, found list"),
    ],
)
def test_mistakes_are_refused_with_place_and_remedy(tmp_path: Path, text: str, message: str | None) -> None:
    if message is None:
        assert load(Job, write(tmp_path, text)).steps is None
    else:
        assert refusal(tmp_path, text) == message


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("out: x\n\nlearning_rate: fast\n", "HERE/job.yaml:3: 'learning_rate': "),
        ("out: x\nkind: odd\n", "HERE/job.yaml:2: 'kind': "),
        ("out: x\nparts:\n  - name: a\n    weight: heavy\n", "HERE/job.yaml:4: 'parts.0.weight': "),
        ("out: x\nparts:\n  - name: a\n  - 7\n", "HERE/job.yaml:4: 'parts.1': "),
        ("out: x\nnamed:\n  a: {name: b, weight: {}}\n", "HERE/job.yaml:3: 'named.a.weight': "),
        ("out: x\nlearning_rate: [1\nsteps: 2\n", "HERE/job.yaml:3: not valid YAML: "),
        ("out: x\n\tsteps: 2\n", "HERE/job.yaml:2: not valid YAML: "),
        ("out: !!python/object/apply:os.getcwd []\n", "HERE/job.yaml:1: not valid YAML: "),
    ],
)
def test_wrong_values_and_broken_yaml_name_the_line(tmp_path: Path, text: str, start: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(start)
    assert len(message) > len(start)
    assert "\n" not in message


UNFOLDED = [f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n" for before, after in pairwise("abcdefghi")]
BOMB = "a: &a [1,2,3,4,5,6,7,8,9]\n" + "".join(UNFOLDED)
WHOLE = st.integers(-(10**18), 10**18)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("out: x\nsteps: 2020-99-99\n", "HERE/job.yaml: not valid YAML: month must be in 1..12"),
        ("out: x\nsteps: " + "1" * 5000 + "\n", "HERE/job.yaml:2: a number of 5,000 digits; no field takes more than 19"),
        ("out: x\nsteps: " + "1" * 30 + "\n", "HERE/job.yaml:2: a number of 30 digits; no field takes more than 19"),
        ("out: x\nlayers: &a [1, *a]\n", "HERE/job.yaml:2: more than 50 levels or 100,000 values; does an alias (*name) hold itself?"),
        ("out: x\nmain: &a {name: *a}\n", "HERE/job.yaml:2: more than 50 levels or 100,000 values"),
        (BOMB, "HERE/job.yaml:1: more than 50 levels or 100,000 values"),
        ("out: x\nlayers: " + "[" * 20_000 + "\n", "HERE/job.yaml"),
        ("out: x\n? [a]\n: 1\n", "HERE/job.yaml:2: a key is a name, not a list or section"),
        ("out: x\n? {a: 1}\n: 1\n", "HERE/job.yaml:2: a key is a name, not a list or section"),
    ],
)
def test_values_that_would_not_end_are_refused_at_once(tmp_path: Path, text: str, start: str) -> None:
    """In the file and, but for keys, as the value of an override; in little memory."""
    tracemalloc.start()
    message = refusal(tmp_path, text)
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    assert message.startswith(start)
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("value", ["2020-99-99", "1" * 5000, "&a [*a]", "[" * 20_000])
def test_so_are_such_overrides(tmp_path: Path, value: str) -> None:
    message = refusal(tmp_path, "out: x\n", f"layers={value}")
    assert message.endswith("': the value is not valid YAML; quote it")
    assert len(message) < 300


def test_an_alias_within_reason_is_read(tmp_path: Path) -> None:
    text = "out: x\nmain: &m {name: a, weight: 2}\nparts: [*m, {<<: *m, name: b}]\n"
    assert load(Job, write(tmp_path, text)).parts == [Part(name="a", weight=2), Part(name="b", weight=2)]


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    assert refusal(tmp_path, "out: x\nstep: 1\nlearning_rate: fast\n").count("HERE/job.yaml:") == 2


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: no such recipe"):
        load(Job, tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"out: na\xefve\n")
    with pytest.raises(UserError, match=r"latin\.yaml: not valid YAML: .+"):
        load(Job, tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("learning_rate=3e-4", "learning_rate", 3e-4),
        ("learning_rate=2", "learning_rate", 2.0),
        ("layers=[1, 2]", "layers", [1, 2]),
        ("main.weight=0.5", "main", Part(name="main", weight=0.5)),
        ("parts=[{name: a}, {name: b, weight: 2}]", "parts", [Part(name="a"), Part(name="b", weight=2)]),
        ("named.a.name=x", "named", {"a": Part(name="x")}),
        ("steps=null", "steps", None),
        ("title=a=b", "title", "a=b"),
        ("title='1e5'", "title", "1e5"),
        ("title=", "title", None),
    ],
)
def test_overrides_are_yaml(tmp_path: Path, override: str, field: str, value: Any) -> None:
    text = "out: x\nsteps: 4\ntitle: from the file\nmain: {name: main}\n"
    if value is None and field == "title":
        assert "override 'title='" in refusal(tmp_path, text, override)
    else:
        assert getattr(load(Job, write(tmp_path, text), [override]), field) == value


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps", "an override is written key=value"),
        ("=3", "an override is written key=value"),
        ("out.deeper=3", "'out' is a value, not a section"),
        ("layers=[1", "the value is not valid YAML"),
        ("stepz=3", "override 'stepz=3': unknown key 'stepz'; did you mean 'steps'?"),
        ("steps=many", "override 'steps=many': 'steps': "),
        ("main.wight=1", "override 'main.wight=1': unknown key 'main.wight'; did you mean 'weight'?"),
    ],
)
def test_bad_overrides_are_named(tmp_path: Path, override: str, words: str) -> None:
    assert words in refusal(tmp_path, "out: x\nmain: {name: a}\n", override)


def test_a_later_override_wins_and_a_recipe_needs_no_file() -> None:
    assert load(Job, None, ["out=x", "steps=1", "steps=2"]).steps == 2


def test_lines_of_every_key() -> None:
    values, lines = read_yaml("a: 1\nb:\n  - c: 2\n  - d:\n      e: 3\n", "x")
    assert values == {"a": 1, "b": [{"c": 2}, {"d": {"e": 3}}]}
    assert lines[("a",)] == 1
    assert lines[("b", "0", "c")] == 3
    assert lines[("b", "1", "d", "e")] == 5


def test_recipes_are_frozen() -> None:
    job = Job(out=Path("x"))
    with pytest.raises(ValidationError, match="frozen"):
        job.steps = 3
    assert job.steps is None


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
parts = st.builds(Part, name=texts, weight=st.floats(allow_nan=False))
jobs = st.builds(
    Job,
    out=st.from_regex(r"[a-z0-9 :#'.-]{1,12}", fullmatch=True).map(Path),
    learning_rate=st.floats(allow_nan=False),
    steps=st.none() | WHOLE,
    title=texts,
    parts=st.lists(parts, max_size=3),
    main=parts,
    named=st.dictionaries(texts, parts, max_size=3),
    layers=st.lists(WHOLE, max_size=3),
)


@given(jobs)
@example(Job(out=Path("x"), title="next\x85line, naïve, \u2028, 🧬, 1e5, null, # no comment"))
def test_dump_and_load_is_the_same_recipe(tmp_path_factory: pytest.TempPathFactory, job: Job) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    path.write_text(dump(job), encoding="utf-8")
    assert load(Job, path) == job
