"""Run a recipe's steps one after another, each as the command a user would type: `llama-gene quickstart`.

Steps that are done are kept (see artefacts/steps.py), so an interrupted run goes on where it stopped.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artefacts.children import run_child
from artefacts.command import STEP, Parser, Verb
from artefacts.errors import UserError
from artefacts.owner import owned
from artefacts.recipe import Recipe, dump, read_plain, validate
from artefacts.steps import Step, run_steps
from configs import CONFIGS

DEFAULT = CONFIGS / "recipes" / "quickstart.yaml"


class Command(Recipe):
    """One command with its recipe."""

    run: str
    """The command's words, such as `tokenizer extend`."""
    recipe: dict[str, Any]
    """Its fields. `{out}`, `{data}`, `{seed}` and what `names` and `each` name are filled in."""
    each: list[dict[str, str | int | float | None]] = []
    """Run it once for every entry, whose names are filled in; a run is called by its first value. `{out}` may stand in it."""


class Pipeline(Recipe):
    """A named list of steps."""

    VARIANT = ("task", "tasks")

    title: str
    out: Path
    seed: int = 0
    data: Path | None = None
    """Folder that `{data}` stands for; give it with --data where the recipe needs it."""
    next: list[str] = []
    """Commands to type when all is done; `{out}` may stand in them."""
    names: dict[str, str | int | float] = {}
    """More to fill in, by the recipe's own names."""
    steps: dict[str, Command]
    """Name -> step, run in this order. `read` has put the runs of `each` in its place."""
    task: str | None = None
    """Run one of `tasks`."""
    tasks: dict[str, dict[str, Any]] = {}
    """Name -> changes to this recipe, sections merged into sections."""


def main(argv: list[str], verb: Callable[[str], Verb[Any]]) -> None:
    """Parse the command line and run the pipeline. `verb` looks a command up by its words."""
    parser = Parser(
        prog="llama-gene quickstart",
        description="The whole way through, from sequences to a scored, chatting gene model.",
        epilog="example:\n  llama-gene quickstart --recipe configs/recipes/real-small.yaml --data ../shared/data",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default=str(DEFAULT), metavar="YAML", help="pipeline recipe (default: the simulated organism)")
    parser.add_argument("--data", help="folder of real data, for recipes that need one")
    parser.add_argument("--out", help="output folder (default: the recipe's)")
    parser.add_argument("--overwrite", action="store_true", help="run every step again, also the finished ones")
    parser.add_argument("--dry-run", action="store_true", help="check every step's recipe, print the commands and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as seed=1 or steps.pretrain.recipe.steps=50")
    options = parser.parse_intermixed_args(argv)
    overrides = list(options.overrides)
    overrides += [f"{name}={getattr(options, name)}" for name in ("data", "out") if getattr(options, name) is not None]
    pipeline, recipes = read(Path(options.recipe), overrides, verb)
    if options.dry_run:
        for name, command in planned(pipeline).items():
            print(f"{name}: llama-gene {' '.join(command)}")
        return
    with owned(pipeline.out):
        run_all(pipeline, recipes, write_recipes(pipeline, recipes), options.overwrite)


def read(path: Path, overrides: list[str], verb: Callable[[str], Verb[Any]]) -> tuple[Pipeline, dict[str, Recipe]]:
    """Read the pipeline and validate the recipe of every step before any of them runs.

    Raises:
        UserError: unknown command, unknown key of a step (nearest named, with its line), missing --data.
    """
    values, origin = read_plain(Pipeline, path, overrides)
    pipeline = validate(Pipeline, values, origin, str(path))
    fill = {**pipeline.names, "out": str(pipeline.out), "seed": pipeline.seed, "data": str(pipeline.data)}
    if pipeline.data is None and "{data}" in json.dumps(values):
        raise UserError(f"{path}: this recipe reads real data; pass --data DIR")
    if pipeline.data is not None and not pipeline.data.is_dir():
        raise UserError(f"--data {pipeline.data}: no such folder")
    recipes, steps = {}, {}
    for name, step in pipeline.steps.items():
        here = ("steps", name, "recipe")
        inner = {keys[len(here) :]: place for keys, place in origin.items() if keys[: len(here)] == here}
        place = next((origin[here[:n]] for n in (3, 2) if here[:n] in origin), str(path))
        try:
            kind = verb(step.run).kind
        except UserError as error:
            raise UserError(f"{origin.get(('steps', name, 'run'), place)}: {error}") from None
        for entry in step.each or [{}]:
            full = "_".join([name, *map(str, list(entry.values())[:1])])
            if full in steps:
                raise UserError(f"{place}: two steps are called {full}; give each entry of `each` another first value")
            recipes[full] = validate(kind, _filled(step.recipe, fill | _filled(entry, fill)), inner, place)
            steps[full] = step
    return pipeline.model_copy(update={"steps": steps, "next": _filled(pipeline.next, fill)}), recipes


def planned(pipeline: Pipeline) -> dict[str, list[str]]:
    """Step -> the command's arguments."""
    return {name: [*step.run.split(), "--recipe", str(pipeline.out / "recipes" / f"{name}.yaml")] for name, step in pipeline.steps.items()}


def write_recipes(pipeline: Pipeline, recipes: dict[str, Recipe]) -> dict[str, list[str]]:
    """Write every step's resolved recipe, so that each step can be run again by hand."""
    commands = planned(pipeline)
    for name, recipe in recipes.items():
        path = Path(commands[name][-1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# llama-gene {' '.join(commands[name])}\n{dump(recipe)}", encoding="utf-8")
    return commands


def run_all(pipeline: Pipeline, recipes: dict[str, Recipe], commands: dict[str, list[str]], overwrite: bool) -> None:
    """Run the steps; raises SystemExit with the exit code of the first that fails."""
    started = time.monotonic()

    def step(number: int, name: str, command: list[str]) -> Step:
        head = f"[{number}/{len(commands)}] {name}"

        def run(replace: bool) -> None:
            begun = time.monotonic()
            words = [sys.executable, "-P", "-m", "llama_gene", *command, *["--overwrite"] * replace]
            code = run_child(words, {**os.environ, STEP: name})
            if code:
                print(f"{head}: failed with exit code {code}", file=sys.stderr)
                raise SystemExit(code)
            print(f"{head}: {time.monotonic() - begun:.0f} s", flush=True)

        return Step(name, recipes[name], run, f": llama-gene {' '.join(command)}")

    run_steps([step(number, *item) for number, item in enumerate(commands.items(), 1)], overwrite)
    print(f"{pipeline.title}: finished in {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    for line in pipeline.next:
        print(f"next: {line}", flush=True)


def _filled(value: Any, fill: dict[str, Any]) -> Any:
    """Replace `{name}` in every string by its value in `fill`; a string that is nothing else becomes the value as it is."""
    if isinstance(value, dict):
        return {key: _filled(item, fill) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, fill) for item in value]
    if not isinstance(value, str):
        return value
    if value[:1] + value[-1:] == "{}" and value[1:-1] in fill:
        return fill[value[1:-1]]
    for name, replacement in fill.items():
        value = value.replace("{" + name + "}", str(replacement))
    return value
