"""Objects of a JSON file: one a line, or one array of them, plain or gz.

A line that is no JSON object comes out as the reason (a text), so that it is counted. An object that names a key twice is
refused, since one of the two values would be lost.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artefacts.errors import UserError, at
from artefacts.recipe import SURROGATE
from sequences.files import blocks, lines_of, with_head

HALF = "half a surrogate pair, which is no character"


def json_objects(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """1-based line and object, or the reason why it is none.

    Raises:
        UserError: missing or damaged file; an array that is broken, or has anything behind its end.
    """
    head, content = with_head(blocks(path))
    lines = ((number, _parsed(raw)) for number, raw in lines_of(content) if raw.strip())
    for line, found in _array(path, content) if head.lstrip().startswith(b"[") else lines:
        yield line, found if isinstance(found, dict | str) else "not a JSON object"


def _parsed(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
        found = _whole(text, DECODER.decode(text))
    except UnicodeDecodeError:
        return "not UTF-8"
    except _Twice as error:
        return str(error)
    except (ValueError, RecursionError):  # brackets a thousand deep
        return "not a JSON line"
    return found if isinstance(found, dict) or found == HALF else "not a JSON object"


def _whole(spelled: str, found: Any) -> Any:
    """What was read, or HALF where it cannot be written again."""
    return HALF if "\\ud" in spelled.lower() and SURROGATE.search(json.dumps(found, ensure_ascii=False)) else found


def _array(path: str | Path, content: Iterator[bytes]) -> Iterator[tuple[int, Any]]:
    text = b"".join(content).decode("utf-8", "surrogateescape")
    place, line = text.index("[") + 1, 1 + text[: text.index("[")].count("\n")
    while True:
        while text[place : place + 1] and text[place] in " \t\n,":
            line += text[place] == "\n"
            place += 1
        if text[place : place + 1] == "]":
            break
        try:
            item, end = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{at(path, line)}: the JSON array is broken here ({error}); mend the file or write it as JSON lines") from None
        item = _whole(text[place:end], "not a JSON object" if isinstance(item, str) else item)
        yield line, "not UTF-8" if SURROGATE.search(text, place, end) else item
        line += text.count("\n", place, end)
        place = end
    if behind := text[place + 1 :].strip():
        line += text.count("\n", place, text.index(behind[0], place + 1))
        raise UserError(f"{at(path, line)}: the JSON array has ended, and '{behind[:20]}' follows; write one array, or one object a line")


class _Twice(ValueError):
    """A key that stands twice in an object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice("a key that stands twice in an object")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_unique)
