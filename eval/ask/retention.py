"""Whether a model still reads English: bits per byte and perplexity of a fixed text it was never trained on.

Bits per byte compare models with different vocabularies; perplexity is per token and does not. The text is cut as in
pre-training (training/english.py).
"""

import json
import math
from pathlib import Path
from typing import Any

from artefacts.folder import check_absent, new_file, write_manifest
from eval.ask.subjects import check_subject, identity, located, open_model
from eval.recipe import RetentionRecipe, Subject
from training.english import paragraphs, windows

BATCH = 16
"""Paragraphs per forward pass."""


def retention(recipe: RetentionRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Measure every model, write the file and return its content.

    Raises:
        UserError: missing model, text or adapter; existing output.
    """
    check_absent(recipe.out, overwrite)
    subjects = {name: _subject(name) for name in recipe.models}
    for subject in subjects.values():
        check_subject(subject)
    parts = paragraphs(recipe.text)
    models: dict[str, dict[str, Any]] = {}
    from transformers import AutoTokenizer

    for name, subject in subjects.items():
        models[name] = english_bits(open_model(subject), AutoTokenizer.from_pretrained(located(subject.model)), parts)
    first = next(iter(models.values()))["bits_per_byte"]
    for found in models.values():
        found["difference"] = found["bits_per_byte"] - first
    document = {"text": recipe.text, "bytes": sum(len(part.encode()) for part in parts), "paragraphs": len(parts), "models": models}
    inputs = {f"{name}/{part}": value for name, subject in subjects.items() for part, value in identity(subject).items()}
    with new_file(recipe.out, overwrite=overwrite) as file:
        file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_manifest(recipe.out, "retention", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts={"models": len(models)})
    return document


def english_bits(model: Any, tokenizer: Any, parts: list[str]) -> dict[str, Any]:
    """Nats of every token of every paragraph, summed; a paragraph longer than the context goes on in a new window.

    Returns:
        bits_per_byte, perplexity (per token), tokens.
    """
    from eval.ask.likelihood import separately

    room = min(int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2048), 2048)
    rows = [row for part in parts for row in windows(tokenizer, part, room)]
    nats = 0.0
    for place in range(0, len(rows), BATCH):
        batch = rows[place : place + BATCH]
        # every window begins with the same token, which is not scored
        nats -= float(separately(model, [batch[0][:1]], [row[1:] for row in batch], pad_id=batch[0][0]).double().sum())
    tokens = sum(len(row) - 1 for row in rows)
    letters = sum(len(part.encode()) for part in parts)
    return {"bits_per_byte": nats / math.log(2) / letters, "perplexity": math.exp(nats / tokens), "tokens": tokens}


def _subject(name: str) -> Subject:
    """BASE or BASE+ADAPTER; a folder may have a + in its name, and then the first split that leaves two folders counts."""
    cuts = [] if Path(name).exists() else [place for place, letter in enumerate(name) if letter == "+"]
    cut = next((place for place in cuts if Path(name[:place]).exists() and Path(name[place + 1 :]).exists()), (*cuts, None)[0])
    return Subject(model=Path(name[:cut]), adapter=Path(name[cut + 1 :]) if cut is not None else None)
