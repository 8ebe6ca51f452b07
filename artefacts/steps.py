"""Steps one after another, each kept once it is done: what `quickstart` and `eval run` share.

A step is done when its output and manifest are there, made by this very recipe, and no older than what it reads: the outputs of
earlier steps, and files from elsewhere. So an interrupted run goes on where it stopped, and a change runs what depends on it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from artefacts.folder import MANIFEST, manifest_path, read_noted
from artefacts.recipe import Recipe


@dataclass(frozen=True)
class Step:
    """One command of a run."""

    name: str
    recipe: Recipe
    run: Callable[[bool], Any]
    """Called with whether an output that exists is to be replaced."""
    says: str = ""
    """What is printed behind the name when it runs."""
    inputs: Callable[[], dict[str, str]] | None = None
    """What its manifest has to note of its inputs, where their content is looked at too."""

    @property
    def out(self) -> Path:
        return Path(self.recipe.out)  # type: ignore[attr-defined]


def run_steps(steps: Sequence[Step], overwrite: bool) -> None:
    """Run the steps that are not done; all of them with `overwrite`. What a step raises ends the run."""
    for number, step in enumerate(steps):
        head = f"[{number + 1}/{len(steps)}] {step.name}"
        if not overwrite and done(step, [other.out for other in steps[:number]]):
            print(f"{head}: done already", flush=True)
        else:
            print(f"{head}{step.says}", flush=True)
            step.run(step.out.exists())


def done(step: Step, earlier: Iterable[Path] = ()) -> bool:
    """Whether a step need not run.

    Args:
        earlier: outputs of the steps before it.
    """
    noted = read_noted(manifest_path(step.out))
    if not (step.out.exists() and noted is not None and _same(noted.get("recipe"), step.recipe)):
        return False
    made = _made(step.out)
    texts = [str(value) for value in step.recipe.read_values()]
    # one output's name may begin another's, and a value may name two: model+adapter
    used = [out for out in earlier if any(re.search(re.escape(str(out)) + r"(?![\w.-])", text) for text in texts)]
    if any(not out.exists() or _made(out) > made for out in used):
        return False
    others = [path for path in step.recipe.read_values() if isinstance(path, Path) and not any(path.is_relative_to(out) for out in used)]
    return all(_newest(path) <= made for path in others) and (step.inputs is None or noted["inputs"] == step.inputs())


def _same(noted: Any, recipe: Recipe) -> bool:
    """Whether a noted recipe asks for the same. A field that it does not have yet, an earlier version's, is at its default."""
    try:
        return type(recipe).model_validate(noted).model_dump(mode="json") == recipe.model_dump(mode="json")
    except ValidationError:
        return False


def _made(out: Path) -> int:
    """When an output was complete (ns). A folder of several, as `convert fetch` fills it, has no manifest of its own; the files
    count that a second visit keeps, and not what it notes."""
    own = manifest_path(out)
    if own.is_file():
        return own.stat().st_mtime_ns
    files = (file for file in out.rglob("*") if file.is_file() and file.name != MANIFEST)
    return max((file.stat().st_mtime_ns for file in files), default=0)


def _newest(path: Path) -> int:
    """When a file, or the last file of a folder, was changed (ns); 0 where there is none, which the step itself has to tell."""
    files = path.rglob("*") if path.is_dir() else [path]
    return max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)
