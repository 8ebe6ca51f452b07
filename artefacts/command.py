"""From a command line to a validated recipe, the same way for every verb.

    llama-gene VERB --recipe FILE.yaml key=value section.key=value --field value [--overwrite] [--dry-run]

Every top-level field of a recipe is also a flag, with its docstring as help; values of YAML, flags and overrides are
merged in that order.
"""

import argparse
import contextlib
import difflib
import errno
import inspect
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, Generic, Literal, NoReturn, TypeVar, get_args, get_origin

from artefacts.children import handled
from artefacts.errors import UserError
from artefacts.folder import check_absent, in_bytes
from artefacts.hub import from_hub
from artefacts.inputs import broken_input, changed_inputs, states
from artefacts.owner import owned
from artefacts.recipe import Recipe, dump, load

R = TypeVar("R", bound=Recipe)
NOISE = {"DeepSpeed": "Setting accelerator to CPU", "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit"}
"""Warnings of libraries that say no more than that this machine is what it is: logger -> words."""
STEP = "LLAMA_GENE_STEP"
"""Is set in the environment of a command that is a step of a pipeline."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors that may name no file."""


def called(place: Any) -> Any:
    """What a text `module:name` names, imported now; anything else as it is."""
    if not isinstance(place, str):
        return place
    module, name = place.split(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Verb(Generic[R]):
    """One command: its recipe, its work, and an example for its help. What is named as `module:name` is imported late."""

    recipe: type[R] | str
    does: Callable[..., Any] | str
    """Called with the recipe and, if it takes that, `overwrite`: whether an existing output may be replaced."""
    short: str
    """One line for the overview."""
    example: str
    summary: str = ""
    """For its help; else that is what its recipe says of itself."""
    positional: str | None = None
    """A list field that plain arguments fill, such as files."""
    dry_run: Callable[[R], None] | str | None = None
    """Prints more than the resolved recipe."""
    then: str = ""
    """The command that usually follows, with the recipe's fields in braces."""
    adds: str = ""
    """`folder` or `file`: adds to an output of that kind that exists, instead of refusing it."""
    shares: Callable[[R], bool] = lambda recipe: False
    """Whether several may work at one output at a time."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Further flags: their name without dashes -> field."""

    @property
    def kind(self) -> type[R]:
        found: type[R] = called(self.recipe)
        return found

    @property
    def description(self) -> str:
        return self.summary or " ".join((self.kind.__doc__ or "").split())

    def work(self, recipe: R, overwrite: bool) -> Any:
        function = called(self.does)
        takes = "overwrite" in inspect.signature(function).parameters
        return function(recipe, overwrite=overwrite) if takes else function(recipe)


class Parser(argparse.ArgumentParser):
    """Flags are written in full; a mistake is one line, which names the flag that was meant."""

    def __init__(self, prog: str | None = None, **more: Any) -> None:
        super().__init__(prog=prog, allow_abbrev=False, **more)

    def error(self, message: str) -> NoReturn:
        known = [flag for action in self._actions for flag in action.option_strings]
        wrong = next((word.partition("=")[0].rstrip(":") for word in message.split() if word.startswith("-")), "")
        close = difflib.get_close_matches(wrong, known, n=1) if wrong not in known else []
        raise UserError(f"{message}; " + (f"did you mean '{close[0]}'?" if close else f"see `{self.prog} --help`"))


def add_arguments(parser: argparse.ArgumentParser, verb: Verb[R]) -> None:
    """Declare the flags of a verb."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = verb.description
    parser.epilog = "example:\n  " + verb.example.replace("\n", "\n  ")
    parser.add_argument("--recipe", metavar="YAML", help="recipe file; flags and key=value override it")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output once the new one is complete")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe and stop")
    for name, info in verb.kind.model_fields.items():
        many = get_origin(info.annotation) is list
        # --batch_tokens is --batch-tokens: people come with commands of other projects
        others = [name, *(alias for alias, field_ in verb.aliases.items() if field_ == name)]
        flags = list(dict.fromkeys([f"--{name.replace('_', '-')}", *(f"--{other}" for other in others)]))
        default = info.get_default(call_default_factory=True)
        text = (info.description or "").replace("%", "%%")
        if not info.is_required() and default is not None and not isinstance(default, Recipe):
            text += f" (default: {str(default).replace('%', '%%')})"
        if info.annotation is bool:  # --tied, --no-tied
            parser.add_argument(*flags, dest=f"field_{name}", action=argparse.BooleanOptionalAction, default=None, help=text.strip())
            continue
        parser.add_argument(
            *flags,
            dest=f"field_{name}",
            metavar=_shown(info.annotation),
            nargs="+" if many else None,
            default=None,
            help=text.strip(),
        )
    rest = f"{verb.positional} or key=value" if verb.positional else "key=value"
    parser.add_argument("rest", nargs="*", metavar=rest, help="overrides such as learning_rate=3e-4 or section.key=value")


def resolve(options: argparse.Namespace, verb: Verb[R]) -> R:
    """The validated recipe of a parsed command line."""
    overrides, rest = [], list(options.rest)
    for name, info in verb.kind.model_fields.items():
        value = getattr(options, f"field_{name}")
        if isinstance(value, list):
            # a list flag takes all that follows it, overrides too
            rest += [item for item in value if item.split("=")[0].split(".")[0] in verb.kind.model_fields and "=" in item]
            items = [item for item in value if item not in rest]
            quoted = [json.dumps(item) if _is_text(get_args(info.annotation)[0]) else item for item in items]
            overrides.append(f"{name}=[{', '.join(quoted)}]")
        elif isinstance(value, bool):
            overrides.append(f"{name}={str(value).lower()}")
        elif value is not None:
            # a prompt with a colon or a title with a # is no YAML
            overrides.append(f"{name}={json.dumps(value) if _is_text(info.annotation) and value != 'null' else value}")
    plain = [item for item in rest if not re.match(r"[A-Za-z_][\w.-]*=", item)]
    overrides += [item for item in rest if item not in plain]
    if plain:
        if verb.positional is None:
            raise UserError(f"'{plain[0]}': an override is written key=value, for example seed=1")
        overrides.append(f"{verb.positional}={json.dumps(plain)}")
    return load(verb.kind, options.recipe, overrides)


def _shown(annotation: Any) -> str:
    """What a field takes, for the help: its choices, where it has any."""
    parts = [annotation]
    while parts:
        part = parts.pop()
        if get_origin(part) is Literal:
            return "|".join(map(str, get_args(part)))
        parts += [] if get_origin(part) is dict else get_args(part)
    return "VALUE"


def _is_text(annotation: Any) -> bool:
    """True for `str`, `Path`, and either of them or None."""
    return set(get_args(annotation) or (annotation,)) <= {str, Path, NoneType}


def run(options: argparse.Namespace, verb: Verb[R]) -> None:
    """Resolve and work, or print what would be done."""
    recipe = resolve(options, verb)
    if options.dry_run:
        print(dump(recipe), end="")
        if verb.dry_run is not None:
            called(verb.dry_run)(recipe)
        return
    out, begun = getattr(recipe, "out", None), time.monotonic()
    with owned(out, shared=verb.shares(recipe)) if out is not None else contextlib.nullcontext():
        read = [path for path in recipe.read_values() if isinstance(path, Path)]
        if out is not None and not verb.adds:
            check_absent(out, options.overwrite, read)  # before the work imports anything heavy
        elif out is not None and out.exists() and not (out.is_dir() if verb.adds == "folder" else out.is_file()):
            raise UserError(f"{out}: exists and is no {verb.adds}; choose another output")
        recipe = from_hub(recipe)
        values = recipe.read_values()
        # of several processes the first speaks, and of a launcher with its children the launcher
        speaks = not {"RANK", "LOCAL_RANK"} & os.environ.keys()
        before = states(values) if speaks else {}
        for line in changed_inputs(values) if speaks else ():
            print(line, file=sys.stderr)
        try:
            verb.work(recipe, options.overwrite)
        except UserError:
            raise
        except Exception as error:
            if of_the_system(error) or not (wrong := broken_input(values) or next(iter(changed_inputs(values)), None)):
                raise
            raise UserError(
                f"{wrong}; make or fetch it again. Seen as {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error
    now = states(values) if speaks else {}
    for file in (file for file, state in before.items() if now.get(file) != state):
        print(f"{file}: changed while this command ran; what it made may hold some of both, so make it again", file=sys.stderr)
    if out is not None and out.exists() and speaks:
        _close(recipe, out, time.monotonic() - begun, verb.then)


def _close(recipe: Recipe, out: Path, seconds: float, then: str) -> None:
    """The last lines of a command: what is there now, and what usually comes next. Steps of a pipeline know what comes next."""
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    size = in_bytes(sum(path.stat().st_size for path in files))
    what = f"{len(files):,} files, {size}" if out.is_dir() else size
    print(f"wrote {out}: {what}, in {seconds:,.1f} s")
    if then and STEP not in os.environ:
        print(f"next: llama-gene {then.format_map(vars(recipe))}")


def quiet_libraries() -> None:
    """Before any is imported: no report of their use over the network, no bars in a log, no warning that nobody can act on."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if sys.stderr is None or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # one of them is a line of carriage returns for each model
    for logger, noise in NOISE.items():
        logging.getLogger(logger).addFilter(partial(_is_no, noise))


def _is_no(noise: str, record: logging.LogRecord) -> bool:
    return noise not in record.getMessage()


def guarded(work: Callable[[], Any]) -> int:
    """Run a command; turn user errors, Ctrl-C, a full disk and the signals to end into one clear line and an exit code.

    A reader of the output that has gone (`| head`) ends it without a word, as it ends other programs. What the terminal cannot
    write (latin-1, and an arrow) is written by its number.
    """

    def terminate(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)  # an exception, so that temporary outputs are removed

    quiet_libraries()
    # nohup has set SIGHUP to be ignored, and so it stays
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    with handled(terminate, numbers):
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            try:
                work()
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # here, and not in the interpreter's end, a reader that has gone is noticed
        except BrokenPipeError:
            try:
                print(flush=True)  # breaks again if it was the output, and no other pipe
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
                return 141  # as 128 + SIGPIPE, which Windows does not have
            raise
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted; no half-written output was left behind", file=sys.stderr)
            return 130
        except Exception as error:
            if (why := of_the_system(error)) is None:
                raise
            print(f"error: {why}; no half-written output was left behind", file=sys.stderr)
            return 1
    return 0


NO_MEMORY = re.compile(r"out of memory|can't allocate memory|Cannot allocate memory|can't start new thread|std::bad_alloc")


def of_the_system(error: Exception) -> str | None:
    """What is wrong with memory, the disk or a file (full, read-only, forbidden, gone), in words; None where the exception is
    a bug of ours."""
    said = str(error)
    if isinstance(error, MemoryError) or NO_MEMORY.search(said):
        asked = re.search(r"allocate (\d[\d.]* ?\w+)", said)
        return (
            f"out of memory{f' ({asked[1]} more were asked for)' if asked else ''}; take smaller batches or blocks, fewer workers, or a "
            "larger machine"
        )
    place = getattr(error, "filename", None) or "output"
    if isinstance(error, OSError):
        return f"{place}: {error.strerror}" if error.filename is not None or error.errno in FULL else None
    # libraries raise their own types: safetensors and tokenizers give the number in words, torch.save not even that
    if words := re.search(r"\(os error (\d+)\)", said):
        return f"{place}: {os.strerror(int(words[1]))}"
    torch_writer = re.search(r"PytorchStreamWriter failed writing|inline_container.*unexpected pos", said)
    return f"{place}: cannot be written to its end; is the disk full?" if torch_writer else None


def run_rank(prog: str, verb: Verb[R], argv: Sequence[str] | None = None) -> int:
    """The `__main__` of a room that a launcher starts, one process per rank."""
    parser = Parser(f"python -m {prog}")
    add_arguments(parser, verb)
    # torchrun and older DeepSpeed launchers put --local_rank first; the environment says the same
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args(argv)
    return guarded(lambda: run(options, verb))


def path_exists(path: Path, what: str, remedy: str) -> None:
    """Raise UserError when an input is absent."""
    if not path.exists():
        raise UserError(f"{path}: no such {what}; {remedy}")
