"""Shards against files: every document that was packed is decoded and compared with what the files hold."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from artefacts.errors import Ledger
from data_convert.corpus.documents import Document, read_documents
from data_convert.corpus.pack_recipe import PackRecipe
from data_convert.corpus.parts import check_encoder, pieces_of
from data_convert.corpus.shards import SPLITS, load_shards
from sequences.alphabets import TAGS

ROWS = 256
EMPTY = re.compile(r"<(dna|rna|protein)>\s*</\1>")
UNNAMED = re.compile(r"^line\d+(@\d+)?")
"""Ids of records without a name; a part of a file counts its lines from its own beginning."""


def verify(recipe: PackRecipe, folder: Path, counts: dict[str, Any]) -> dict[str, int]:
    """Decode all shards with the tokenizer's own decoder, put cut documents together again, and look each up among the files' documents.

    Memory: 8 bytes per document of the files, and the tokens of documents whose parts were not all met yet.

    Returns:
        documents and letters that came back.

    Raises:
        RuntimeError: a document that no file holds, one with a part missing, or another number of them than was counted.
    """
    expected, times = np.unique(_digests_of_files(recipe), return_counts=True)
    found: list[int] = []
    letters = 0
    for split in SPLITS:
        if not (folder / split).is_dir():
            continue
        for document in _decoded(recipe, folder, split, list(counts["files"])):
            found.append(_digest(document))
            letters += document.size
    digests, packed = np.unique(np.array(found, dtype=np.uint64), return_counts=True)
    places = np.minimum(np.searchsorted(expected, digests), len(expected) - 1)
    foreign = int((expected[places] != digests).sum()) + int((packed > times[places]).sum())
    counted = sum(source[split]["written"] for source in counts["sources"] for split in SPLITS)
    said = sum(source["letters"].get(f"packed_{split}", 0) for source in counts["sources"] for split in SPLITS)
    if foreign or len(found) != counted or letters != said:
        raise RuntimeError(
            f"{folder}: {len(found)} documents of {letters} letters came back, {counted} of {said} were counted, {foreign} stand in no file"
        )
    return {"documents": len(found), "letters": letters}


def _digest(document: Document) -> int:
    """Of where a document comes from, what it is called and what is in it."""
    identity = UNNAMED.sub("line", document.id)
    whole = f"{document.source}\n{identity}\n{document.modality}:{document.wrapped}"
    return int.from_bytes(hashlib.blake2b(whole.encode(), digest_size=8).digest())


def _digests_of_files(recipe: PackRecipe) -> NDArray[np.uint64]:
    digests: list[int] = []
    for source in recipe.sources:
        for held_out, file, annotation in source.all_files():
            for document in read_documents(source, file, Ledger(), Ledger(), annotation=annotation, seed=recipe.seed):
                aside = held_out or (not source.heldout_files and document.is_held_out(source.heldout_share))
                digests += [_digest(piece) for piece in pieces_of(document, source, aside)]
    return np.array(digests, dtype=np.uint64)


def _decoded(recipe: PackRecipe, folder: Path, split: str, files: list[str]) -> Iterator[Document]:
    """Every document of a split, once, also where it stands in it several times."""
    shards = load_shards(folder, split).with_format("numpy")
    last = _last_turns(shards)
    encoder = check_encoder(recipe)
    tokenizer = Tokenizer.from_file(str(recipe.tokenizer / "tokenizer.json"))
    tags = np.array([number for tag in TAGS if (number := tokenizer.token_to_id(tag)) is not None], dtype=np.int64)
    waiting: dict[int, dict[int, NDArray[np.uint32]]] = {}
    done = np.zeros(len(last), dtype=bool)
    for rows in shards.iter(ROWS):
        ready: list[tuple[Document, NDArray[np.uint32]]] = []
        for ids, lengths, modality, pieces, turns, names, of_file in zip(
            *(rows[name] for name in ("input_ids", "seq_lengths", "modality", "pieces", "turns", "ids", "files")), strict=True
        ):
            ends = np.cumsum(lengths).tolist()
            columns = (lengths.tolist(), pieces.tolist(), turns.tolist(), names, of_file.tolist())
            for end, length, piece, turn, name, file in zip(ends, *columns, strict=True):
                if done[piece]:
                    continue
                parts = waiting.setdefault(piece, {})
                parts[turn] = ids[end - length + len(encoder.start) : end - len(encoder.end)].copy()
                if len(parts) == last[piece] + 1:
                    found = Document(str(name), str(modality), "", files[file])
                    ready.append((found, _joined([parts[number] for number in sorted(parts)], tags)))
                    done[piece] = True
                    del waiting[piece]
        # words with empty spans between them, and what fills the spans
        cuts = [np.flatnonzero(np.isin(ids, tags)) if found.modality != "text" else tags[:0] for found, ids in ready]
        inner = [part.tolist() for (_, ids), cut in zip(ready, cuts, strict=True) for part in np.split(ids, cut)[1::2]]
        words = [np.delete(ids, np.flatnonzero(_inside(len(ids), cut))).tolist() for (_, ids), cut in zip(ready, cuts, strict=True)]
        spans = iter(tokenizer.decode_batch([ids[1:] for ids in inner], skip_special_tokens=False))
        for (found, _), text in zip(ready, tokenizer.decode_batch(words, skip_special_tokens=False), strict=True):
            if found.modality == "text":
                yield replace(found, letters=text)
                continue
            text = EMPTY.sub(lambda match, spans=spans: f"<{match[1]}>{''.join(next(spans).split())}</{match[1]}>", text)  # type: ignore[misc]
            before, _, letters = text.partition(f"<{found.modality}>")
            letters = text if found.modality == "mixed" else letters.removesuffix(f"</{found.modality}>")
            yield replace(found, letters=letters, words="" if found.modality == "mixed" else before)
    if waiting:
        raise RuntimeError(f"{folder / split}: {len(waiting)} documents came back in part only")


def _joined(parts: list[NDArray[np.uint32]], tags: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The ids of a document: where a span was cut, the tags that closed and opened it again are dropped."""
    for place in range(len(parts) - 1):
        if parts[place][-1] in tags and parts[place + 1][0] in tags:
            parts[place], parts[place + 1] = parts[place][:-1], parts[place + 1][1:]
    return np.concatenate(parts)


def _inside(size: int, tags: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[size] Whether each id stands inside of a span, by the places of opening and closing tags in turn."""
    turns = np.zeros(size, dtype=np.int64)
    turns[tags[::2]], turns[tags[1::2]] = 1, -1
    return (np.cumsum(turns) > 0) & (turns == 0)


def _last_turns(shards: Any) -> NDArray[np.int32]:
    """[highest piece + 1] The last turn of each piece; -1 where there is none."""
    last = np.full(1, -1, dtype=np.int32)
    for rows in shards.select_columns(["pieces", "turns"]).iter(ROWS * 16):
        pieces, turns = np.concatenate(list(rows["pieces"])), np.concatenate(list(rows["turns"]))
        if (size := int(pieces.max()) + 1) > len(last):
            last = np.concatenate((last, np.full(size - len(last), -1, dtype=np.int32)))
        np.maximum.at(last, pieces, turns)
    return last
