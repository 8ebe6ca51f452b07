"""The files that a card's `files` stand for: one, all that fit a pattern, or a dataset of the Hub."""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from artefacts.errors import UserError
from artefacts.folder import fingerprint
from data_convert.fetch.sources import source_of
from data_convert.tasks.cards import Patterns, TaskCard
from sequences.columnar import HubSplit, hub_split

FIELD = re.compile(r"\{(\w+)\}|\*")


@dataclass(frozen=True, slots=True)
class Place:
    """One file."""

    path: Path | HubSplit
    name: str
    """Below the source folder, as records show it."""
    fields: dict[str, str]
    """What the pattern's fields stand for."""
    own: str = ""
    """Of a pattern's file, the part of the name that tells it from the others."""


def fits(value: str, patterns: Patterns) -> bool:
    """Whether it fits one of the patterns, where there is any without `!`, and none with `!` before it."""
    listed = [patterns] if isinstance(patterns, str) else patterns
    wanted = [pattern for pattern in listed if not pattern.startswith("!")]
    refused = (pattern[1:] for pattern in listed if pattern.startswith("!"))
    return (not wanted or any(fnmatch.fnmatchcase(value, pattern) for pattern in wanted)) and not any(
        fnmatch.fnmatchcase(value, pattern) for pattern in refused
    )


def places(source: Path, file: str, where: Mapping[str, Patterns]) -> list[Place]:
    """What there is of a card's file, by name; fields of a pattern that `where` names must fit it.

    Raises:
        UserError: a dataset of the Hub that is misspelt, or has no copy here and cannot be reached.
    """
    if file.startswith("hub:"):
        split = hub_split(file, source)
        if not split.copy.is_dir():
            try:
                split.commit()  # whether it is there, asked before anything is read
            except UserError as error:
                raise UserError(f"{error}{how_to_get(file, source)}") from None
        return [Place(split, file, {})]
    first = FIELD.search(file)
    if first is None:
        return [Place(source / file, file, {})] if (source / file).exists() else []
    fixed = file.rfind("/", 0, first.start()) + 1
    expression, found = _expression(file), []
    for path in sorted((source / file[:fixed]).glob(FIELD.sub("*", file[fixed:]))):
        name = path.relative_to(source).as_posix()
        match = expression.fullmatch(name)
        if match and all(fits(match[field], patterns) for field, patterns in where.items() if field in expression.groupindex):
            found.append(Place(path, name, match.groupdict(), name[fixed:]))
    return found


def how_to_get(file: str, source: Path) -> str:
    """The end of an error where a card's file is not there: the command that fetches it, if a source card has it."""
    name = source_of(file)
    return f". `llama-gene convert fetch {name} --out {source}` gets it" if name else ""


def _expression(file: str) -> re.Pattern[str]:
    """The pattern as a regular expression; a field that stands in it twice is the same both times."""
    pieces, end, seen = "", 0, set[str]()
    for found in FIELD.finditer(file):
        name = found[1]
        pieces += re.escape(file[end : found.start()])
        pieces += "[^/]*" if name is None else f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
        seen.add(name)
        end = found.end()
    return re.compile(pieces + re.escape(file[end:]))


def identity(found: list[Place]) -> str:
    """A fingerprint of their contents; of a dataset of the Hub its name and commit."""
    (first, *others) = [place.path for place in found]
    if isinstance(first, HubSplit):
        return fingerprint(first.copy) if first.copy.is_dir() else f"{first}@{first.commit()}"
    return fingerprint(first, *(path for path in others if isinstance(path, Path)))


def one_by_one(card: TaskCard, source: Path) -> list[TaskCard]:
    """The card, or by `task_per` one card for each value that there is. Raises UserError for a value that no id can hold."""
    if card.task_per is None:
        return [card]
    files = [file for file in card.files.model_dump().values() if file is not None]
    values = {place.fields[card.task_per] for file in files for place in places(source, file, card.where) if card.task_per in place.fields}
    if not values:
        return [card.model_copy(update={"task_per": None})]
    if wrong := next((value for value in sorted(values) if not re.fullmatch(r"[\w.+-]+", value)), None):
        raise UserError(f"{source}: '{wrong}' cannot be a task's name ({card.id}/...): letters, digits and _.+- only; rename the file")
    return [
        card.model_copy(
            update={
                "id": f"{card.id}/{value}",
                "title": f"{card.title}: {value}",
                "where": {**card.where, card.task_per: value},
                "task_per": None,
            }
        )
        for value in sorted(values)
    ]
