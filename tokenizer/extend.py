"""Extend a base LLaMA with gene vocabularies, once, offline: `llama-gene tokenizer extend`.

Nothing after this step ever resizes a model: resizing under ZeRO-3 and loading adapters onto resized embeddings are
where such stacks break most often.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from tokenizer.base import Base, read_base
from tokenizer.compare import Heldout, compare
from tokenizer.saving import END_OF_TURN, save_tokenizer
from tokenizer.vocabulary import PAD, NewIds, extend


class Extend(Recipe):
    """An extended base."""

    base: Path
    """Model or tokenizer folder, tokenizer.json, tokenizer.model, or hub id."""
    dna: Path
    """DNA BPE, as `tokenizer train` writes it."""
    protein: Path
    """Protein BPE."""
    out: Path
    noise: float = 0.1
    """Noise on new embedding rows, as a share of each dimension's deviation over the base rows."""
    pad_to_multiple_of: int = 64
    """Embedding rows are padded up to a multiple of this (tensor cores like 64 or 128)."""
    heldout: Heldout = Heldout()
    """Files for the before/after comparison in extension_report.json; leave empty for none."""
    seed: int = 0


def extend_base(recipe: Extend, *, overwrite: bool = False) -> None:
    """Write the extended folder: tokenizer, weights where the base has any, extension_report.json, manifest.

    Raises:
        UserError: unreadable base or BPE, a base that is extended already, or text whose ids would change.
    """
    check_absent(recipe.out, overwrite)
    base = read_base(recipe.base)
    genes = {}
    for name, path in (("dna", recipe.dna), ("protein", recipe.protein)):
        if not path.is_file():
            raise UserError(f"{path}: no such {name} BPE; train one with `llama-gene tokenizer train --alphabet {name}`")
        genes[name] = Tokenizer.from_file(str(path))
    extended, new, _private = extend(base, genes["dna"], genes["protein"])
    report = compare(base.tokenizer, extended, new, recipe.heldout, base.family)
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        save_tokenizer(extended, folder, base.family, {**base.config, "pad_token": PAD})
        if (recipe.base / "config.json").is_file():
            report["rows"] = _extend_model(recipe, base, extended, new, folder)
        (folder / "new_ids.json").write_text(_new_ids(new), encoding="utf-8")
        (folder / "extension_report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_manifest(
            folder,
            "extended",
            recipe=recipe.model_dump(mode="json"),
            inputs={"base": fingerprint(recipe.base), "dna": fingerprint(recipe.dna), "protein": fingerprint(recipe.protein)},
            counts={"new_ids": len(new.all), "vocabulary": extended.get_vocab_size()},
        )


def _extend_model(recipe: Extend, base: Base, extended: Tokenizer, new: NewIds, folder: Path) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    from tokenizer.rows import initialise, sources

    model: Any = AutoModelForCausalLM.from_pretrained(recipe.base, dtype="auto")
    base_rows = base.tokenizer.get_vocab_size()
    if model.get_input_embeddings().weight.shape[0] < base_rows:
        rows = model.get_input_embeddings().weight.shape[0]
        raise UserError(
            f"{recipe.base}: the model has {rows} embedding rows but its tokenizer {base_rows} ids; they do not belong together"
        )
    tied = model.config.tie_word_embeddings
    # mean_resizing=True, the default, makes all new rows alike and takes minutes; ours are written right below.
    model.resize_token_embeddings(max(new.all) + 1, pad_to_multiple_of=recipe.pad_to_multiple_of, mean_resizing=False)
    spelled = sources(base.tokenizer, new)
    # the resize fills padding rows from an unseeded generator: the same recipe would not give the same weights
    padding = range(max(new.all) + 1, model.get_input_embeddings().weight.shape[0])
    spelled.update(dict.fromkeys(padding, spelled[new.pad]))
    matrices = {"input": model.get_input_embeddings().weight}
    if not tied:
        matrices["output"] = model.get_output_embeddings().weight
    figures: dict[str, Any] = {"tied": tied, "rows": matrices["input"].shape[0]}
    for offset, (name, matrix_VD) in enumerate(matrices.items()):
        initialise(matrix_VD.data, spelled, base_rows, recipe.noise, recipe.seed + offset)
        new_rows = matrix_VD[torch.tensor(sorted(spelled))].float()
        figures[name] = {
            "base_norm": matrix_VD[:base_rows].float().norm(dim=1).mean().item(),
            "new_norm": new_rows.norm(dim=1).mean().item(),
            "new_deviation": new_rows.std(dim=0).mean().item(),
        }
    model.config.pad_token_id = model.generation_config.pad_token_id = new.pad
    ends = [model.config.eos_token_id] if isinstance(model.config.eos_token_id, int) else list(model.config.eos_token_id)
    end_of_turn = extended.token_to_id(END_OF_TURN)
    if end_of_turn is not None and end_of_turn not in ends:
        ends.append(end_of_turn)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    for name in ("LICENSE", "LICENSE.txt", "USE_POLICY.md"):
        if (recipe.base / name).is_file():
            shutil.copy(recipe.base / name, folder / name)
    return figures


def _new_ids(new: NewIds) -> str:
    ranges = {name: [min(pieces.values()), max(pieces.values())] for name, pieces in new.pieces.items()}
    return json.dumps({"pad": new.pad, "tags": new.tags, "glue": list(new.glue.values()), "pieces": ranges}, indent=1) + "\n"
