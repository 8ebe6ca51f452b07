"""Merge an adapter into its base: `llama-gene merge`. The result is a plain model folder."""

from pathlib import Path

from artefacts.command import path_exists
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from instruct.tune.base import base_fingerprint, check_base
from instruct.tune.model_readme import write_export_readme
from tokenizer.generation import load_causal
from tokenizer.saving import carry_tokenizer
from training.adapter import add_adapter


class MergeRecipe(Recipe):
    """Merge a LoRA adapter."""

    model: Path
    """The model the adapter was trained on."""
    adapter: Path
    """Adapter folder (`instruct`)."""
    out: Path


def merge(recipe: MergeRecipe, *, overwrite: bool = False) -> None:
    """Write the merged model folder (safetensors, tokenizer, manifest).

    Raises:
        UserError: model or adapter missing, an adapter of another base, existing output.
    """
    path_exists(recipe.model / "config.json", "model", "give the folder the adapter was trained on")
    path_exists(recipe.adapter / "adapter_config.json", "adapter", "train one with `llama-gene instruct`")
    check_absent(recipe.out, overwrite)
    check_base(recipe.adapter, recipe.model)
    model = load_causal(recipe.model, dtype="auto")
    merged = add_adapter(model, recipe.adapter, recipe.model).merge_and_unload()
    parameters = sum(p.numel() for p in merged.parameters())
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        merged.save_pretrained(folder)
        carry_tokenizer(recipe.model, folder)
        write_export_readme(folder, recipe.adapter, recipe.out.name, parameters)
        write_manifest(
            folder,
            "merged",
            recipe=recipe.model_dump(mode="json"),
            inputs={"model": base_fingerprint(recipe.model), "adapter": fingerprint(recipe.adapter)},
            counts={"parameters": parameters},
        )
