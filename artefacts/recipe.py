"""Typed recipes: YAML plus `key=value` overrides, checked before any expensive work starts.

    class Extend(Recipe):
        base: Path
        noise: float = 0.1

    recipe = load(Extend, "configs/x.yaml", ["noise=0.2"])

An unknown key is refused with the nearest known one; a wrong value is refused with file and line.
"""

import contextlib
import copy
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from artefacts.errors import UserError, at

DEEPEST, MOST_VALUES, LONGEST_INTEGER = 50, 100_000, 19
"""Levels, values and digits of a YAML text."""
SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a pair that UTF-16 writes a character as: JSON and YAML can spell one, and UTF-8 cannot."""


class Recipe(BaseModel):
    """Base of every recipe section. Docstrings under the fields are their help text."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_default=True, frozen=True)
    WRITES: ClassVar[tuple[str, ...]] = ("out",)
    """Fields that name what a command writes; all other paths are read."""
    VARIANT: ClassVar[tuple[str, str] | None] = None
    """The field that chooses a variant of a recipe, and the one that holds them, name -> changes. Overrides go over a variant."""

    def read_values(self) -> list[Any]:
        """Texts, numbers and paths of all fields but those that are written, in sections and lists too."""

        def walk(value: Any) -> Iterator[Any]:
            if isinstance(value, dict | list | tuple):
                for item in value.values() if isinstance(value, dict) else value:
                    yield from walk(item)
            else:
                yield value

        return list(walk(self.model_dump(exclude=set(self.WRITES))))


R = TypeVar("R", bound=Recipe)


def load(kind: type[R], path: str | Path | None, overrides: Sequence[str] = ()) -> R:
    """Read a recipe, apply `section.key=value` overrides (values are YAML) and validate.

    Raises:
        UserError: missing or malformed file, unknown key (nearest named), wrong type, failed cross-check.
    """
    values, origin = read_plain(kind, path, overrides)
    return validate(kind, values, origin, "command line" if path is None else str(path))


def read_plain(kind: type[Recipe], path: str | Path | None, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """A recipe's plain values, overrides and variant put in; and where each key path was written.

    Raises:
        UserError: missing or malformed file, malformed override, no such variant.
    """
    if path is not None and not Path(path).is_file():
        raise UserError(f"{path}: no such recipe. Recipes that ship with the project are under configs/.")
    source = "command line" if path is None else str(path)
    values, lines = read_yaml("" if path is None else Path(path).read_bytes(), source)
    origin = {keys: at(source, line) for keys, line in lines.items()}
    given = {apply_override(values, override): f"override {override!r}" for override in overrides}
    if kind.VARIANT is not None and values.get(kind.VARIANT[0]) is not None:
        chosen = (kind.VARIANT[1], values[kind.VARIANT[0]])
        values = with_variant(values, *kind.VARIANT)
        origin |= {keys[2:]: place for keys, place in origin.items() if keys[:2] == chosen}
        for override in overrides:
            if override.partition("=")[0].partition(".")[0] not in kind.VARIANT:
                apply_override(values, override)
    return values, origin | given


def with_variant(values: dict[str, Any], chooses: str, holds: str) -> dict[str, Any]:
    """Plain values with the changes of the variant that they choose put in (see `Recipe.VARIANT`).

    Raises:
        UserError: no such variant.
    """
    chosen, known = values[chooses], values.get(holds) or {}
    if not isinstance(known, dict) or not isinstance(chosen, str) or not isinstance(known.get(chosen), dict):
        raise UserError(f"{chooses} '{chosen}' is not in the recipe; known: {', '.join(map(str, known)) or 'none'}")
    merged = copy.deepcopy(values) | {chooses: None, holds: {}}
    _merge(merged, known[chosen])
    return merged


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Put nested changes into plain values."""
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            _merge(values[key], change)
        else:
            values[key] = change


def read_yaml(text: str | bytes, source: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """Parse YAML safely; also return the line of every key path. Raises UserError when it is no mapping."""
    values, lines = _parsed(text, source)
    if not isinstance(values or {}, dict):
        raise UserError(f"{source}: expected `key: value` lines, found {type(values).__name__}")
    return values or {}, lines


def _parsed(text: str | bytes, source: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The value of a YAML text, and the line of every key path.

    Aliases are unfolded here, before anything is built of them: few letters can stand for more than fits into memory.

    Raises:
        UserError: with the line, what is no YAML or no value (a date like 2020-99-99), a key given twice, a number of more digits
            than any field takes, and aliases that hold themselves or unfold to too much.
    """
    lines: dict[tuple[str, ...], int] = {}

    def walk(item: yaml.Node | None, keys: tuple[str, ...]) -> None:
        if item is None:
            return
        line = item.start_mark.line + 1
        if len(keys) > DEEPEST or len(lines) > MOST_VALUES:
            raise UserError(f"{at(source, line)}: more than {DEEPEST} levels or {MOST_VALUES:,} values; does an alias (*name) hold itself?")
        if isinstance(item, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in item.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise UserError(f"{at(source, key.start_mark.line + 1)}: a key is a name, not a list or section")
                if key.value in seen:
                    raise UserError(f"{at(source, key.start_mark.line + 1)}: key '{key.value}' is given twice")
                seen.add(key.value)
                lines[(*keys, key.value)] = key.start_mark.line + 1
                walk(value, (*keys, key.value))
        elif isinstance(item, yaml.SequenceNode):
            for index, value in enumerate(item.value):
                lines[(*keys, str(index))] = value.start_mark.line + 1
                walk(value, (*keys, str(index)))
        elif SURROGATE.search(item.value):
            raise UserError(f"{at(source, line)}: half a character (\\ud800 to \\udfff) is no text; write it whole")
        elif item.tag == "tag:yaml.org,2002:int" and (digits := len(item.value.lstrip("+-"))) > LONGEST_INTEGER:
            raise UserError(f"{at(source, line)}: a number of {digits:,} digits; no field takes more than {LONGEST_INTEGER}")

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        walk(node, ())
        return (None if node is None else loader.construct_document(node)), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", error)
        raise UserError(f"{at(source, mark.line + 1 if mark else None)}: not valid YAML: {problem}") from None
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not valid YAML: {error}; quote what is text") from None


def apply_override(values: dict[str, Any], override: str) -> tuple[str, ...]:
    """Set `a.b=value` in place and return the key path. The value is YAML: 3e-4, [1, 2], null, text."""
    key, equals, raw = override.partition("=")
    if not equals or not key:
        raise UserError(f"'{override}': an override is written key=value, for example learning_rate=3e-4")
    keys = tuple(key.split("."))
    here: Any = values
    for part in keys[:-1]:
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            raise UserError(f"'{override}': '{part}' is a value, not a section")
    try:
        value = _parsed(raw, "")[0]
    except UserError:
        raise UserError(f"'{override[:200]}': the value is not valid YAML; quote it") from None
    if isinstance(value, str) and value == raw.strip():  # not quoted
        # YAML 1.1 reads 3e-4 as text; people mean the number.
        with contextlib.suppress(ValueError):
            value = float(value)
    here[keys[-1]] = value
    return keys


def validate(kind: type[R], values: dict[str, Any], origin: dict[tuple[str, ...], str], source: str) -> R:
    """Validate plain values into a recipe; translate pydantic's errors into places and remedies."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        messages = []
        for problem in error.errors():
            keys = tuple(str(part) for part in problem["loc"])
            place = next((origin[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in origin), source)
            name = ".".join(keys)
            if problem["type"] == "extra_forbidden":
                messages.append(f"{place}: unknown key '{name}'{_nearest(kind, keys)}")
            elif problem["type"] == "missing":
                messages.append(f"{place}: '{name}' is missing; add it to the recipe or pass {name}=VALUE")
            else:
                field = f"'{name}': " if name else ""  # what does not fit together has no one field
                messages.append(f"{place}: {field}{problem['msg'].removeprefix('Value error, ')}")
        raise UserError("\n".join(messages)) from None


def _nearest(kind: type[BaseModel], keys: tuple[str, ...]) -> str:
    """`; did you mean '…'?` from the fields of the section that holds the unknown key."""
    section: Any = kind
    for part in keys[:-1]:
        if isinstance(section, type) and issubclass(section, BaseModel) and part in section.model_fields:
            section = _model_in(section.model_fields[part].annotation)
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return ""
    known = list(section.model_fields)
    close = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known keys: {', '.join(known)}"


def _model_in(annotation: Any) -> Any:
    """The recipe class inside `X`, `X | None`, `list[X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default written out; reading it back gives the same recipe."""
    # ASCII: PyYAML writes U+0085 unescaped where Unicode is allowed, and reads it back as a line end
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
