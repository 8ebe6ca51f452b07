"""The front door: `llama-gene VERB …`, every room's commands under one name."""

import difflib
import sys
from importlib.metadata import version
from typing import Any

import about
from artefacts.command import Parser, Verb, add_arguments, guarded, run
from artefacts.errors import UserError
from artefacts.ranks import together
from commands import COMMANDS, SHARED


def verb(name: str) -> Verb[Any]:
    """Look a verb up by its words. Raises UserError naming the known ones."""
    if name not in COMMANDS:
        known = _group(name) or _group(name.rpartition(" ")[0]) or ["quickstart", *COMMANDS]
        if not _group(name):
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
            hint = f"did you mean '{close[0]}'? The commands are" if close else "the commands are"
            raise UserError(f"'{name}': no such command; {hint}: {', '.join(known)}")
        raise UserError(f"'{name}' is a group of commands; choose one of: {', '.join(known)}")
    return COMMANDS[name]


def _group(word: str) -> list[str]:
    """The commands of a group, such as `tokenizer` or `eval sequences`."""
    return [name for name in COMMANDS if name.startswith(f"{word} ")]


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return guarded(lambda: _command(list(sys.argv[1:] if argv is None else argv)))


def _command(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return
    if arguments[0] == "--version":
        print(f"llama-gene {version('llama-gene')}")
        return
    if arguments[0] in about.LISTS_AND_MORE:
        word, *rest = arguments
        told = {"list": about.listing, "schema": about.schema, "completion": about.completion, "doctor": about.doctor}
        print(told[word](rest, [*COMMANDS], verb))
        return
    if arguments[0] == "quickstart":
        from pipeline import main as quickstart

        with together("quickstart", able=False):
            quickstart(arguments[1:], verb)
        return
    name, *rest = arguments
    while _group(name) and rest and not rest[0].startswith("-"):
        name, *rest = f"{name} {rest[0]}", *rest[1:]
    if _group(name) and rest in (["-h"], ["--help"]):
        print("\n".join(_line(one, COMMANDS[one].short) for one in _group(name)))
        return
    found = verb(name)
    parser = Parser(f"llama-gene {name}")
    add_arguments(parser, found)
    with together(name, able=name in SHARED):
        run(parser.parse_intermixed_args(rest), found)


def _line(name: str, short: str) -> str:
    return f"  {name:<25}{short}"


def _overview() -> str:
    return "\n".join(
        [
            "usage: llama-gene COMMAND [--recipe YAML] [key=value …] [--dry-run] [--overwrite]",
            "",
            "Turn any LLaMA into an instruction-following gene model.",
            "",
            _line("quickstart", "the whole way through on a simulated organism, in minutes on a CPU"),
            *(_line(name, entry.short) for name, entry in COMMANDS.items()),
            _line("list", "tasks, sources or recipes that there are"),
            _line("schema", "the JSON schema of a command's recipe, for editors"),
            _line("doctor", "versions, devices, disk, and what missing packages would add"),
            _line("completion", "a script that completes commands and flags in bash, zsh or tcsh"),
            "",
            "`llama-gene COMMAND --help` shows a command's fields and an example.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
