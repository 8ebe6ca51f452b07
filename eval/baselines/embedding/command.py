"""`llama-gene baseline embed`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artefacts.errors import SET_ASIDE, Ledger, UserError, say_read, write_set_aside
from artefacts.folder import check_no_input, fingerprint, put_in_place, write_manifest
from artefacts.owner import owned, state_of
from artefacts.ranks import rank, told
from eval.baselines.embedding.inputs import Item, check_seq_type, read_inputs, read_letters
from eval.baselines.embedding.recipe import EmbedRecipe, Extent
from sequences.alphabets import BadSequence

if TYPE_CHECKING:
    from eval.baselines.embedding.encoder import Encoder

SHAPE = ("embedding_type", "vector_type", "save_type", "matrix_add_special_token", "use_bf16")


def embed(recipe: EmbedRecipe, *, overwrite: bool = False) -> int:
    """Embed what the output does not hold yet; return how many that were.

    Processes of a launcher (artefacts/ranks.py) share the batches, and the first writes them all.

    Args:
        overwrite: begin anew where the output holds embeddings; they go once the new ones are complete.

    Raises:
        UserError: bad input, an encoder that cannot be read, an output made with other settings, or to be replaced and no store.
    """
    with owned(recipe.out):
        return _embed(recipe, overwrite)


def _embed(recipe: EmbedRecipe, overwrite: bool) -> int:
    items, ledger = _items(recipe)  # before torch is imported
    from eval.baselines.embedding.extract import extract
    from eval.baselines.embedding.open import identity
    from eval.baselines.embedding.store import StoreWriter, digest, read_settings, safe_names

    extent = Extent.model_validate({name: getattr(recipe, name) for name in Extent.model_fields})
    name = recipe.encoder_name()
    settings: dict[str, Any] = {
        "encoder": identity(name),
        **extent.model_dump(),
        **{name: getattr(recipe, name) for name in SHAPE},
    }
    if rank():  # makes its turns of what the first process lacks
        todo = told(list[int]())
        for _ in extract(_opened(recipe, name, items), _texts(items), extent, wanted=todo, shared=True) if todo else ():
            pass
        return len(todo)
    # a store that is to be replaced stays until the new one, beside it, is complete
    encoder, folder, before = None, recipe.out, state_of(recipe.out)
    if overwrite and _is_store(recipe.out, settings):
        check_no_input(recipe.out, [] if recipe.input_file is None else [recipe.input_file])
        encoder = _opened(recipe, name, items)
        folder = recipe.out.with_name(f"{recipe.out.name}.partial")
        if read_settings(folder) != settings:
            shutil.rmtree(folder, ignore_errors=True)
    store = StoreWriter(folder, settings, recipe.save_type, recipe.embedding_type)
    for item in items:
        if store.done.get(item.id, sequence := digest(item.modality, item.letters)) != sequence:
            raise UserError(f"{item.where}: {recipe.out} holds another sequence under the id '{item.id}'; choose another output")
    # what the store lacks
    names = safe_names(dict.fromkeys([*store.done, *(item.id for item in items)]))
    todo = told([number for number, item in enumerate(items) if item.id not in store.done])
    if todo:
        encoder = encoder or _opened(recipe, name, items)
        try:
            for i, rows in extract(encoder, _texts(items), extent, wanted=todo, show="embed", shared=True):
                made = (
                    rows.matrix(special=recipe.matrix_add_special_token)
                    if recipe.embedding_type == "matrix"
                    else rows.vector(recipe.vector_type or "cls")
                )
                item = items[i]
                store.put(item.id, digest(item.modality, item.letters), names[item.id], made, rows.passes)
        finally:
            store.flush()
    # what became of the rows
    write_set_aside(folder / SET_ASIDE, ledger)
    say_read(str(recipe.input_file or "seq"), ledger.as_dict(), recipe.out / SET_ASIDE)
    counts = {"input": ledger.as_dict(), "in_store": len(store.done)}
    inputs = {} if recipe.input_file is None else {"input_file": fingerprint(recipe.input_file)}
    write_manifest(folder, "embeddings", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
    if folder != recipe.out:
        put_in_place(folder, recipe.out, before)
    form = "shards" if recipe.save_type == "safetensors" else f"a {recipe.embedding_type}_ID.pt each"
    print(f"{recipe.out}: {len(todo)} embedded with {name}, {len(store.done)} in all, {form}")
    return len(todo)


def _texts(items: list[Item]) -> list[tuple[str, str]]:
    return [(item.modality, item.letters) for item in items]


def _is_store(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder has settings of a store, whatever they say. Raises UserError where they are something else's."""
    from eval.baselines.embedding.store import SETTINGS, read_settings

    found = read_settings(folder)
    if found is not None and (absent := settings.keys() - found.keys()):
        raise UserError(
            f"{folder / SETTINGS}: no settings of embeddings ({min(absent)} is not in it), so nothing is removed; choose another output"
        )
    return found is not None


def _opened(recipe: EmbedRecipe, name: str, items: list[Item]) -> Encoder:
    from eval.baselines.embedding.open import open_encoder

    encoder = open_encoder(name, batch_tokens=recipe.batch_tokens, gpu=recipe.gpu_id, bf16=recipe.use_bf16)
    if recipe.embedding_type == "vector" and recipe.vector_type in (None, "cls") and not encoder.frame(items[0].modality)[0]:
        raise UserError(f"{encoder.name}: has no token in front of a sequence, so no cls vector; pass vector_type=mean or max")
    return encoder


def _items(recipe: EmbedRecipe) -> tuple[list[Item], Ledger]:
    if recipe.input_file is not None:
        return read_inputs(recipe.input_file, recipe.seq_type, recipe.id_idx, recipe.seq_idx, recipe.on_bad, recipe.max_broken)
    try:
        modality, letters = read_letters(recipe.seq or "", check_seq_type(recipe.seq_type, "seq_type"))
    except BadSequence as bad:
        raise UserError(f"seq: {bad}; mend it") from None
    ledger = Ledger()
    ledger.read = ledger.written = 1
    return [Item("seq", modality, letters, "seq")], ledger
