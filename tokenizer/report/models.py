"""What a model is like right after an extension: its new rows and its held-out loss, the same figures for every way.

Ours is the folder as it was written. The other ways get what their users get: the base, loaded, and
`resize_token_embeddings` at transformers' defaults (`mean_resizing=True`: all new rows are drawn about the mean of the
base's rows, with 1e-9 of their covariance).

Models are loaded whole, in the type they are stored in, one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from tokenizer.generation import load_causal, quiet
from tokenizer.report.heldout import Heldout
from tokenizer.report.loss import BYTES, LETTERS, Sample, affordable, bits_per_letter, initial_loss, sample, scored_texts
from tokenizer.report.ways import Way, encoder, ours, ways_to_extend
from tokenizer.rows import Rows, describe
from tokenizer.vocabulary import PAD
from tokenizer.weights import INPUT, OUTPUT, Matrix, Plan, Stored

if TYPE_CHECKING:
    from tokenizer.extend import Parts


def add_model_figures(
    report: dict[str, Any],
    parts: Parts,
    plan: Plan | None,
    matrices: dict[str, Stored],
    folder: Path,
    heldout: Heldout,
    seed: int,
    skipped: str | None,
) -> None:
    """Add `rows` and `initial_loss` to a report, and under `ways` to every way that was compared (ours: the same figures).

    Args:
        report: what `tokenizer.report.compare.compare` returned.
        plan: None where no weights were extended.
        matrices: what `tokenizer.weights.extend_weights` returned.
        folder: the extended model.
        seed: of the rows that `resize_token_embeddings` draws.
        skipped: why no model may be loaded; the rows of ours are described from disk all the same.
    """
    base, new = parts.base, parts.new
    if plan is not None:
        on_disk = {name: Matrix(stored) for name, stored in matrices.items()}
        figures = row_figures(on_disk, plan.kept_rows, max(new.all) + 1, new.pieces | {"tag": new.tags}, base.tokenizer, plan.tied)
        report["rows"] = {"tied": plan.tied, "rows": plan.rows, **figures}
    none = {"skipped": skipped}
    if skipped is not None:
        report["initial_loss"] = none
    else:
        found, start = sample(heldout, _letters(report, plan, heldout)), start_of(parts)
        base_bits = _base_bits(parts, found, start)
        report["initial_loss"] = initial_loss(on_device(load(folder)), ours(parts.extended, new), found, start, base_bits)
    ways = ways_to_extend(base.tokenizer, parts.extended, new, base.sentencepiece_model)
    for name, row in tqdm(report["ways"].items(), desc="models of the ways", disable=None):
        if name == "skipped" or "skipped" in row:
            continue
        if name == "ours":
            row |= {"rows": report.get("rows", none), "initial_loss": report["initial_loss"]}
        elif skipped is not None:
            row |= {"rows": none, "initial_loss": none}
        else:
            row |= resized(ways[name](), parts.source, base.tokenizer, found, start, base_bits, seed)


def resized(
    way: Way, base_model: Path, base: Tokenizer, found: Sample, start: int, base_bits: float | None, seed: int
) -> dict[str, dict[str, Any]]:
    """`rows` and `initial_loss` of the base with rows for the new ids of a way, as `resize_token_embeddings` makes them."""
    if not way.ids:
        none = {"skipped": "the base has every piece already"}
        return {"rows": none, "initial_loss": none}
    model = load(base_model)
    rows = max(way.ids) + 1
    resize(model, rows, seed)
    matrices = {INPUT: model.get_input_embeddings().weight.detach(), OUTPUT: model.get_output_embeddings().weight.detach()}
    tied = matrices[INPUT].data_ptr() == matrices[OUTPUT].data_ptr()
    figures = row_figures(matrices, min(way.ids), rows, way.new, base, tied)
    loss = initial_loss(on_device(model), way, found, start, base_bits)
    return {"rows": {"tied": tied, "rows": rows, **figures}, "initial_loss": loss}


def row_figures(
    matrices: Mapping[str, Rows], base_rows: int, last: int, new: dict[str, dict[str, int]], base: Tokenizer, tied: bool
) -> dict[str, Any]:
    """`tokenizer.rows.describe` of the `input` matrix and, where it is not the same one, of the `output` matrix."""
    names = {"input": INPUT} if tied else {"input": INPUT, "output": OUTPUT}
    return {name: describe(matrices[tensor], base_rows, last, new, base) for name, tensor in names.items()}


def resize(model: Any, rows: int, seed: int) -> None:
    """`model.resize_token_embeddings(rows)` at its defaults, from a seed and without its advice to the user."""
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.resize_token_embeddings(rows)


def load(folder: Path) -> Any:
    """A model in the type that it is stored in, in main memory."""
    return load_causal(folder, dtype="auto").eval()


def on_device(model: Any) -> Any:
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _letters(report: dict[str, Any], plan: Plan | None, heldout: Heldout) -> dict[str, int]:
    """How much of each modality is measured; said where the model's size bounds it."""
    held = {name: row.get("letters_per_token_after", BYTES) for name, row in report["modalities"].items()}
    if heldout.loss_letters is not None or plan is None:
        return dict.fromkeys(held, heldout.loss_letters or LETTERS)
    of_one = next(iter(plan.matrices.values()))
    models = 2 + sum("skipped" not in row for name, row in report["ways"].items() if name not in ("skipped", "ours"))
    letters = affordable(plan.bytes_written * of_one.shape[1] // of_one.row_bytes, models, held)
    if min(letters.values(), default=LETTERS) < LETTERS:
        counts = ", ".join(f"{count:,} of {name}" for name, count in letters.items())
        print(
            f"losses are measured on {counts} (letters, bytes), for the model's size; heldout.loss_letters={LETTERS} takes more, and longer"
        )
    return letters


def _base_bits(parts: Parts, found: Sample, start: int) -> float | None:
    """Bits per byte of the base on the text of the sample; None where there is none."""
    if not found.texts:
        return None
    bits, _ = bits_per_letter(on_device(load(parts.source)), scored_texts(encoder(parts.base.tokenizer, "text"), found.texts, start))
    return bits


def start_of(parts: Parts) -> int:
    """The id that begins every window."""
    config = parts.base.config
    start = parts.extended.token_to_id(config.get("bos_token") or config.get("eos_token") or PAD)
    assert start is not None, "the base's own tokens are part of its vocabulary"
    return start
