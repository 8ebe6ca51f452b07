"""Held-out loss in units that do not depend on the vocabulary: bits per base, per residue, per byte of text.

Only tokens that spell letters count; tags, BOS, EOS, padding and words before a sequence do not. The sum of their negative
log-likelihoods (in bits) is divided by the letters (bases, residues, UTF-8 bytes) that they spell. With BPE this is an
upper bound on the model's bits per letter, since one segmentation of the many possible is scored.

Shapes: B rows of a batch, T tokens of a row.

A mixed document counts for each of its parts, as `mixed/dna`, `mixed/protein` and `mixed/text`. Every other one counts for
its modality and, where the shards say which source it is from, for that as `modality/source`.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from pretrain.order import collate
from sequences.alphabets import ALPHABETS
from training.english import paragraphs, windows
from training.loss import IGNORED

ENGLISH, MIXED = "english", "mixed"
BOUNDS = {"dna": 2.0, "rna": 2.0, "protein": math.log2(20), "text": None, ENGLISH: None}
"""Bits per letter of a uniform guess over A C G T, or over twenty residues."""
UNITS = {"dna": "base", "rna": "base", "protein": "residue", "text": "byte", ENGLISH: "byte"}


def groups(row: dict[str, Any]) -> list[list[str]]:
    """What every document of a row counts for. Shards that name a source per document (column `sources`) are told apart here."""
    modality = row["modality"]
    if modality == MIXED:
        return [[f"{MIXED}/{part}" for part in of] for of in row["letters_of_parts"]]
    if row.get("sources") is None:
        return [[modality]] * len(row["letters"])
    return [[modality, f"{modality}/{source}"] for source in row["sources"]]


def _known_as(group: str) -> str:
    """The modality that says a group's unit and bound."""
    modality, _, part = group.partition("/")
    return part if modality == MIXED else modality


def parts_of_tokens(ids_T: NDArray[np.int64], tags: Mapping[str, tuple[int, ...]]) -> NDArray[np.str_]:
    """[T] The modality that each token of a row spells: that of the span that it stands in, or text; a tag spells none."""
    parts_T = np.full(len(ids_T), "text", dtype="<U7")
    for modality, (opening, closing) in tags.items():
        parts_T[np.cumsum(ids_T == opening) > np.cumsum(ids_T == closing)] = modality
    parts_T[np.isin(ids_T, [tag for pair in tags.values() for tag in pair])] = ""
    return parts_T


def count_parts(rows: list[dict[str, Any]], tokenizer: Any) -> None:
    """Give rows of sequences `parts` [T], what each token spells, so that words before a sequence are not counted as its letters.

    Mixed rows get `letters_of_parts` too: of each document the letters of each part, by decoding.
    """
    tags = {name: tuple(tokenizer.convert_tokens_to_ids([f"<{name}>", f"</{name}>"])) for name in ALPHABETS}
    for row in rows:
        if row["modality"] in ("text", ENGLISH):
            continue
        ids_T, ends = np.asarray(row["input_ids"]), np.cumsum(row["seq_lengths"])
        row["parts"], row["letters_of_parts"] = parts_of_tokens(ids_T, tags), []
        for ids, parts, letters in zip(np.split(ids_T, ends), np.split(row["parts"], ends), row["letters"], strict=False):
            if row["modality"] == MIXED:
                spelt = {part: tokenizer.decode(ids[parts == part]) for part in {*parts.tolist()} - {"text", ""}}
                sizes = {part: len("".join(found.split())) for part, found in spelt.items()}
                row["letters_of_parts"].append({"text": letters - sum(sizes.values()), **sizes})


def name_sources(rows: list[dict[str, Any]], files: list[str] | None) -> None:
    """Give rows whose shards number a file per document (column `files`) the names of those files as `sources`.

    Only where a modality has several: of one alone the modality says all.

    Args:
        files: names by number, `counts["files"]` of the shards' manifest; None in shards that have none.
    """
    if files is None:
        return
    names = [Path(file).name for file in files]
    names = names if len(set(names)) == len(names) else files  # files of one name in several folders
    several = {name for name in UNITS if len({number for row in rows if row["modality"] == name for number in row.get("files") or []}) > 1}
    for row in rows:
        if row["modality"] in several:
            row["sources"] = [names[number] for number in row["files"]]


@torch.no_grad()
def heldout_bits(model: Any, blocks: Iterable[dict[str, Any]], silent_ids: list[int], batch: int) -> dict[str, dict[str, Any]]:
    """Measure every group present.

    Args:
        model: one that scores labels itself (`loss.score_in_head`).
        blocks: rows of the held-out shards; every rank is given the same ones and measures its share.
        silent_ids: ids that spell no letter (tags, BOS, EOS, pad).

    Returns:
        group -> bits_per_letter, letters, documents, unit, bound.
    """
    # what is measured, and the share of this rank
    device = next(model.parameters()).device
    silent = np.array(silent_ids, dtype=np.int64)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    rows = list(blocks)
    names = list(dict.fromkeys(group for row in sorted(rows, key=lambda row: row["modality"]) for of in groups(row) for group in of))
    sums = np.zeros((len(names), 3))  # nats, letters, documents
    was_training = model.training
    model.eval()
    mine = rows[rank::ranks]
    # forward passes: under ZeRO-3 every rank must run the same number of forward passes: a rank without a block repeats one, uncounted.
    for turn in range(math.ceil(math.ceil(len(rows) / ranks) / batch)):
        part = mine[turn * batch : (turn + 1) * batch]
        inputs = collate(part or [rows[0]])
        labels_BT = inputs["labels"].numpy()
        labels_BT[np.isin(labels_BT, silent)] = IGNORED
        found = model(**{name: value.to(device) for name, value in inputs.items()}, each=True)["loss"]
        nats_BT = np.zeros(labels_BT.shape)
        nats_BT[labels_BT != IGNORED] = found.double().cpu().numpy()  # the first position has no label, so the order is the same
        for row, nats_T in zip(part, nats_BT, strict=False):
            starts = np.concatenate(([0], np.cumsum(row["seq_lengths"])))
            for place, of in enumerate(groups(row)):
                tokens = slice(starts[place], starts[place + 1])
                for group in of:
                    modality = _known_as(group)
                    counted = slice(None) if row.get("parts") is None else row["parts"][tokens] == modality
                    letters = row["letters_of_parts"][place][modality] if row["modality"] == MIXED else row["letters"][place]
                    sums[names.index(group)] += nats_T[tokens][counted].sum(), letters, 1
    # the sums of all ranks
    if ranks > 1:
        shared = torch.from_numpy(sums).to(device)
        dist.all_reduce(shared)
        sums = shared.cpu().numpy()
    model.train(was_training)
    return {
        name: {
            "bits_per_letter": float(nats / math.log(2) / letters),
            "letters": int(letters),
            "documents": int(documents),
            "unit": UNITS[_known_as(name)],
            "bound": BOUNDS[_known_as(name)],
        }
        for name, (nats, letters, documents) in zip(names, sums, strict=True)
    }


def english_blocks(tokenizer: Any, text: str, block_tokens: int) -> list[dict[str, Any]]:
    """The fixed English text, of configs/text by name or a path, as rows of their own modality; cut as `training.english` says.

    A paragraph that is longer than a block is cut between tokens, and all its letters are counted with its first window.

    Raises:
        UserError: neither a text that ships nor a file, or an empty one.
    """
    rows: list[dict[str, Any]] = []
    for paragraph in paragraphs(text, "english"):
        for number, ids in enumerate(windows(tokenizer, paragraph, block_tokens)):
            if not rows or len(rows[-1]["input_ids"]) + len(ids) > block_tokens:
                rows.append({"input_ids": [], "seq_lengths": [], "letters": [], "modality": ENGLISH})
            rows[-1]["input_ids"] += ids
            rows[-1]["seq_lengths"].append(len(ids))
            rows[-1]["letters"].append(0 if number else len(paragraph.encode()))
    for row in rows:
        row["input_ids"] += [tokenizer.eos_token_id] * (block_tokens - len(row["input_ids"]))
    return rows
