"""Extend a base LLaMA with gene vocabularies, once, offline: `llama-gene tokenizer extend`.

Nothing after this step ever resizes a model: resizing under ZeRO-3 and loading adapters onto resized embeddings are
where such stacks break most often. Its files are extended on disk (tokenizer/weights.py); it is loaded, where it is small
enough, to learn where new ids have no place (tokenizer/apart.py), and to be measured.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tokenizers import Tokenizer

from artefacts.folder import check_absent, check_room, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from tokenizer.base import LICENCES, Base, locate, next_id, read_base
from tokenizer.conversations import end_of_turn
from tokenizer.private import read_tokenizer
from tokenizer.report.compare import compare
from tokenizer.report.heldout import Heldout
from tokenizer.report.page import write_page
from tokenizer.saving import THE_DAY, save_tokenizer, self_test, with_fixed_date
from tokenizer.spm import PROBES
from tokenizer.vocabulary import PAD, NewIds, extend

if TYPE_CHECKING:
    from tokenizer.weights import Plan, Stored

CHAT = [{"role": role, "content": content} for role, content in (("user", "Hi there"), ("assistant", "Sure"), ("user", "More"))]


@dataclass(frozen=True)
class Parts:
    """What an extension is made of, before anything is written."""

    source: Path
    """Folder or file of the base on this machine."""
    revision: str | None
    """Of a base from the hub."""
    base: Base
    genes: dict[str, Tokenizer]
    extended: Tokenizer
    new: NewIds


def gather(base: Path, dna: Path, protein: Path, *, weights: bool) -> Parts:
    """Read the parts; of a base on the hub, fetch them first.

    Args:
        weights: fetch the base's weights too.

    Raises:
        UserError: a missing or foreign BPE, an unreadable base, or one that is extended already; as `with_fixed_date`.
    """
    genes = {}
    for name, path in (("dna", dna), ("protein", protein)):
        remedy = f"train one with `llama-gene tokenizer train --alphabet {name}`"
        genes[name] = read_tokenizer(path, f"{name} BPE", remedy)
    source, revision = locate(base, weights=weights)
    found = read_base(source)
    found.notes += auto_notes(found, source)
    template = found.config.get("chat_template") or {}
    if with_fixed_date(template) != template:
        found.notes.append(f"the base's chat template writes today's date; a line before it fixes that to {THE_DAY:%d %b %Y}")
    extended, new, _private = extend(found, genes["dna"], genes["protein"])
    return Parts(source, revision, found, genes, extended, new)


def auto_notes(base: Base, source: Path) -> list[str]:
    """Where a base gets other ids than from plain `AutoTokenizer` of its own folder: what the report should say.

    Asked where the folder has a tokenizer.json: what `AutoTokenizer` makes of a tokenizer.model alone is no measure, the
    sentencepiece library is (tokenizer/spm.py).
    """
    if not (source / "tokenizer.json").is_file() or not (source / "tokenizer_config.json").is_file():
        return []
    from transformers import AutoTokenizer

    try:
        auto = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # a class that this version of transformers does not know, and what not
        return [f"AutoTokenizer does not load the base ({type(error).__name__}), so it was not compared with it"]
    begin, end = (base.config.get(role) or "" for role in ("bos_token", "eos_token"))
    notes, texts = [], [*PROBES, f"{begin}[INST] Hi there[/INST] Sure{end}[INST] More[/INST]", f"a{end}b {end} c"]
    if auto.chat_template is not None:
        try:
            texts.append(str(auto.apply_chat_template(CHAT, tokenize=False)))
        except Exception as error:  # templates raise what they like on a chat that they do not take
            notes.append(f"the base's chat template does not take a plain chat ({type(error).__name__}: {error})")
    changed = [text for text in texts if auto(text)["input_ids"] != base.tokenizer.encode(text).ids]
    if changed:
        notes.append(
            f"{len(changed)} of {len(texts)} probes have other ids than from AutoTokenizer of the base, the first: {changed[0]!r}; "
            "the extension keeps the ids of the base as it is read here"
        )
    return notes


ROOM = ("the extended weights take", "make room, or choose another disk")


class Extend(Recipe):
    """Extend a base LLaMA (tokenizer and embedding rows) with gene vocabularies. Text keeps exactly its ids."""

    base: Path
    """Model or tokenizer folder, tokenizer.json, tokenizer.model, GGUF file, or hub id (org/name)."""
    dna: Path
    """DNA BPE, as `tokenizer train` writes it."""
    protein: Path
    """Protein BPE."""
    out: Path
    tokenizer_only: bool = False
    """Leave the weights of the base alone (of a hub id, do not fetch them)."""
    noise: float = Field(0.1, ge=0)
    """Noise on new embedding rows, as a share of each dimension's deviation over the base rows."""
    text_nats: float = Field(12.0, ge=0)
    """Lower the logits of new ids by so many nats in text, and those of one modality in the other, so that they cost English next to
    nothing before training: one vector is added to all new output rows of a kind. 0: leave the rows as they are."""
    pad_to_multiple_of: int = Field(64, ge=1)
    """Embedding rows are padded up to a multiple of this (tensor cores like 64 or 128)."""
    heldout: Heldout = Heldout()
    """Files for the before/after comparison in extension_report.json; empty: a small built-in probe."""
    loss_max_gib: float = 4.0
    """Load models if the weights are at most this large, one after the other: the base, to keep new ids out of text
    (`text_nats`), the extended model and the base again for the loss on the held-out files and for the other ways. The
    extension itself loads none."""
    seed: int = 0


def extend_base(recipe: Extend, *, overwrite: bool = False) -> None:
    """Write the extended folder: tokenizer, weights where the base has any, extension_report.json, manifest.

    Raises:
        UserError: unreadable base or BPE, a base that is extended already, weights that are no safetensors or do not fit
            the tokenizer, too little room on the disk, or text whose ids would change.
    """
    check_absent(recipe.out, overwrite)
    parts = gather(recipe.base, recipe.dna, recipe.protein, weights=not recipe.tokenizer_only)
    from tokenizer.report.models import add_model_figures  # torch, once the inputs have been seen

    base, extended, new = parts.base, parts.extended, parts.new
    plan = _plan(recipe, parts)
    used = list(base.files)
    if plan is not None:
        check_room(recipe.out, plan.bytes_written, *ROOM)
        used += [parts.source / name for name in ("config.json", *(shard.name for shard in plan.shards))]
    heldout = recipe.heldout.filled()
    report = compare(base.tokenizer, extended, new, heldout, base.family, genes=parts.genes, base_model=base.sentencepiece_model)
    report["probe"] = recipe.heldout.probed
    report["notes"] = _notes(recipe, parts, plan)
    for note in report["notes"]:
        print(f"note: {note}")
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        save_tokenizer(extended, folder, base.family, {**base.config, "pad_token": PAD})
        matrices = _extend_model(recipe, parts, plan, folder, report) if plan is not None else {}
        add_model_figures(report, parts, plan, matrices, folder, heldout, recipe.seed, _loss_skipped(recipe, plan))
        for file in [file for pattern in LICENCES for file in parts.source.glob(pattern) if file.is_file()]:
            shutil.copyfile(file, folder / file.name)
        (folder / "new_ids.json").write_text(_new_ids(new, extended), encoding="utf-8")
        (folder / "extension_report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_manifest(
            folder,
            "extended",
            recipe=recipe.model_dump(mode="json"),
            inputs={"base": fingerprint(*used), "dna": fingerprint(recipe.dna), "protein": fingerprint(recipe.protein)},
            counts={"new_ids": len(new.all), "vocabulary": max(new.all) + 1},
            **({"base_revision": parts.revision} if parts.revision else {}),
        )
        write_page(report, folder / "extension_report.html")


def preview(recipe: Extend) -> None:
    """Print what `extend_base` would do (`--dry-run`): ids, rows, and per file of weights what is read and written.

    Of a hub id the tokenizer is fetched, the weights are not.

    Raises:
        UserError: see `extend_base`.
    """
    from tokenizer.weights import gib

    parts = gather(recipe.base, recipe.dna, recipe.protein, weights=False)
    print(f"tokenizer: {parts.base.family}, {next_id(parts.base.tokenizer)} ids and {len(parts.new.all)} new ones")
    remote = parts.revision is not None and not recipe.tokenizer_only and not (parts.source / "config.json").is_file()
    plan = None if remote else _plan(recipe, parts)
    for note in _notes(recipe, parts, plan):
        print(f"note: {note}")
    if plan is None:
        print("weights: not in the local hub cache; they would be fetched first" if remote else "weights: none")
        return
    print(f"matrices: {', '.join(plan.matrices)}{' (tied)' if plan.tied else ''}, {plan.kept_rows} rows kept, {plan.rows} in all")
    for shard in plan.shards:
        print(f"  {'extend' if shard.rewritten else 'copy  '} {shard.name}: {gib(shard.bytes_read)} to {gib(shard.bytes_written)}")
    print(f"reads {gib(plan.bytes_read)}, writes {gib(plan.bytes_written)}, holds at most {gib(plan.peak_bytes)} of weights in memory")
    skipped = _loss_skipped(recipe, plan)
    apart = _not_apart(recipe, plan)
    print(f"new ids kept out of text: {f'no, {apart}' if apart else f'yes, loads the base, {gib(plan.bytes_written)}'}")
    print(f"initial loss: {f'skipped, {skipped}' if skipped else f'loads the model, {gib(plan.bytes_written)}'}")
    check_room(recipe.out, plan.bytes_written, *ROOM)


def _plan(recipe: Extend, parts: Parts) -> Plan | None:
    """None where there are no weights to extend."""
    from tokenizer.weights import has_weights, plan

    if recipe.tokenizer_only or not parts.source.is_dir() or not has_weights(parts.source):
        return None
    return plan(parts.source, min(parts.new.all), max(parts.new.all) + 1, recipe.pad_to_multiple_of)


def _notes(recipe: Extend, parts: Parts, plan: Plan | None) -> list[str]:
    """What the reader of the extension report should know."""
    notes = list(parts.base.notes)
    if plan is None:
        return notes
    from tokenizer.weights import generation_of

    _, left_out = generation_of(parts.source)
    if left_out:
        settings = ", ".join(f"{name}={value}" for name, value in left_out.items())
        notes.append(f"greedy answers by default; left out of the base's generation_config.json: {settings}")
    if reason := _not_apart(recipe, plan):
        notes.append(f"new ids are not kept out of text and may cost English some percent until they are trained: {reason}")
    return notes


def _extend_model(recipe: Extend, parts: Parts, plan: Plan, folder: Path, report: dict[str, Any]) -> dict[str, Stored]:
    """Write weights and configurations, and into the report what keeps new ids out of text; return the extended matrices."""
    from tokenizer.apart import text_shift
    from tokenizer.report.models import load, start_of
    from tokenizer.rows import sources
    from tokenizer.weights import extend_configs, extend_weights

    base, new, shifts = parts.base, parts.new, None
    if reason := _not_apart(recipe, plan):
        report["apart"] = {"skipped": reason}
    else:
        shifts, report["apart"] = text_shift(load(parts.source), parts, start_of(parts), recipe.text_nats, recipe.noise, recipe.seed)
    matrices = extend_weights(plan, folder, sources(base.tokenizer, new, plan.rows), recipe.noise, recipe.seed, shifts)
    ends = [parts.extended.token_to_id(base.config["eos_token"]) if "eos_token" in base.config else None, end_of_turn(folder)]
    extend_configs(parts.source, folder, plan.rows, new.pad, [index for index in ends if index is not None])
    return matrices


def _loss_skipped(recipe: Extend, plan: Plan | None) -> str | None:
    """Why no model is loaded to measure its loss, or None."""
    if plan is None:
        return "no weights were extended"
    return _too_large(recipe, plan)


def _not_apart(recipe: Extend, plan: Plan) -> str | None:
    """Why new ids are not kept out of text, or None."""
    return _too_large(recipe, plan) if recipe.text_nats else "text_nats=0"


def _too_large(recipe: Extend, plan: Plan) -> str | None:
    if plan.bytes_written > recipe.loss_max_gib * 2**30:
        return f"the weights take {plan.bytes_written / 2**30:.2f} GiB, more than loss_max_gib={recipe.loss_max_gib}"
    return None


def _new_ids(new: NewIds, extended: Tokenizer) -> str:
    ranges = {name: [min(pieces.values()), max(pieces.values())] for name, pieces in new.pieces.items()}
    found = {"pad": new.pad, "tags": new.tags, "glue": list(new.glue.values()), "pieces": ranges, "self_test": self_test(extended)}
    return json.dumps(found, indent=1) + "\n"
