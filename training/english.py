"""The fixed English text that tells whether a model still reads English: where it comes from and how it is cut."""

from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from configs import CONFIGS


def paragraphs(text: str, field: str = "text") -> list[str]:
    """The paragraphs of a text of configs/text by name, or of a file.

    Args:
        field: of the recipe, for the error.

    Raises:
        UserError: neither, or nothing in it.
    """
    shipped = sorted((CONFIGS / "text").glob("*.txt"))
    path = next((path for path in shipped if path.stem == text), Path(text))
    if not path.is_file():
        raise UserError(f"{field}={text}: neither a file nor one of {', '.join(path.stem for path in shipped)}")
    found = [part.strip() for part in path.read_text(encoding="utf-8").split("\n\n") if part.strip()]
    if not found:
        raise UserError(f"{path}: no text in it; name another")
    return found


def windows(tokenizer: Any, paragraph: str, room: int) -> list[list[int]]:
    """Ids of a paragraph, a document of its own: windows of at most `room` tokens, each after a token that is not scored.

    That is the tokenizer's beginning-of-text token, or its end-of-text token where it has no other.
    """
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ids = tokenizer(paragraph, add_special_tokens=False)["input_ids"]
    return [[start, *ids[place : place + room - 1]] for place in range(0, len(ids), room - 1)]
