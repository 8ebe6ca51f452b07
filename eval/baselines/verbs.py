"""Commands of the LucaOne-style baselines: `llama-gene baseline …`. Work is imported only when its command is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artefacts.command import Verb


def _baseline_embed() -> Verb[Any]:
    from eval.baselines.embedding.recipe import ALIASES, EmbedRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from artefacts.command import path_exists

        if recipe.input_file is not None:
            path_exists(recipe.input_file, "file", "give a CSV, TSV or FASTA file")
        from eval.baselines.embedding.command import embed

        embed(recipe, overwrite=overwrite)

    return Verb(
        EmbedRecipe,
        work,
        "Embed sequences with LucaOne, ESM-2, DNABERT-2, a gene LLaMA, any AutoModel, or none (one-hot, kmer, placed).",
        "llama-gene baseline embed --input-file proteins.fasta --seq-type prot --encoder facebook/esm2_t6_8M_UR50D --out runs/embeddings",
        adds=True,
        aliases=ALIASES,
    )


def _baseline_train() -> Verb[Any]:
    from eval.baselines.training.recipe import TrainRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from eval.baselines.training.command import train

        figures = train(recipe, overwrite=overwrite)
        print(", ".join(f"{name} {value}" for name, value in figures["test"].items() if name != "interval"))
        for note in figures["notes"]:
            print(f"note: {note}")

    return Verb(
        TrainRecipe,
        work,
        "Train LucaBase, LucaPPI or LucaPPI2 on frozen embeddings; the best dev epoch predicts test.",
        "llama-gene baseline train --recipe configs/baselines/protstab.yaml --data ProtStab/protein/regression --out runs/protstab",
    )


def _baseline_predict() -> Verb[Any]:
    from eval.baselines.training.recipe import PredictRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from artefacts.command import path_exists

        path_exists(recipe.model, "head", "give a folder of `baseline train` or of a shipped head")
        from eval.baselines.training.predict import predict

        predict(recipe, overwrite=overwrite)

    return Verb(
        PredictRecipe,
        work,
        "Predict with a trained or shipped head, CSV in and out as the original's predict_v1.",
        "llama-gene baseline predict --model runs/protstab --input-file proteins.csv --out runs/proteins_prediction.csv",
        adds=True,
        aliases={"save_path": "out", "model_path": "model", "emb_dir": "embeddings"},
    )


VERBS: dict[str, tuple[str, Callable[[], Verb[Any]]]] = {
    "baseline embed": ("embed sequences with frozen encoders", _baseline_embed),
    "baseline train": ("train LucaOne's heads on embeddings", _baseline_train),
    "baseline predict": ("predict with a trained head", _baseline_predict),
}
"""Command -> (one line for the overview, how to make it)."""
