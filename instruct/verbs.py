"""Commands of instruction tuning and of talking to the result. Work is imported only when its command is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artefacts.command import Verb
from data_convert.records import check_inputs


def _instruct() -> Verb[Any]:
    from instruct.recipe import InstructRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        check_inputs(recipe.model, recipe.records, "train", "dev")
        if recipe.deepspeed is not None:
            from artefacts.launch import deepspeed_config, launch_recipe

            deepspeed_config(recipe.deepspeed)
            launch_recipe("instruct", recipe, overwrite, recipe.ranks)
            return
        from instruct.tune import tune

        tune(recipe, overwrite=overwrite)

    def preview(recipe: Any) -> None:
        from instruct.preview import preview

        preview(recipe)

    return Verb(
        InstructRecipe,
        work,
        "Instruction tuning with TRL: LoRA, DoRA, QLoRA or all weights, loss on the answer only.",
        "llama-gene instruct --model runs/pretrained --records runs/records --out runs/adapter metric_every=200 patience=3\n"
        "deepspeed --num_gpus 8 --module instruct --recipe configs/instruct/llama3-8b.yaml",
        dry_run=preview,
    )


def _merge() -> Verb[Any]:
    from instruct.merge import MergeRecipe, merge

    return Verb(
        MergeRecipe,
        lambda recipe, overwrite: merge(recipe, overwrite=overwrite),
        "Merge a LoRA adapter into its model.",
        "llama-gene merge --model runs/pretrained --adapter runs/adapter --out runs/model",
    )


def _export() -> Verb[Any]:
    from instruct.export import ExportRecipe, export

    return Verb(
        ExportRecipe,
        lambda recipe, overwrite: export(recipe, overwrite=overwrite),
        "Write a finished model for others: sharded safetensors, model card, GGUF.",
        "llama-gene export --model runs/model --out runs/exported max_shard=2GB",
    )


def _chat() -> Verb[Any]:
    from instruct.chat import ChatRecipe, chat

    return Verb(
        ChatRecipe,
        lambda recipe, overwrite: chat(recipe),
        "Chat with a gene model in the terminal.",
        "llama-gene chat --model runs/quickstart/model --prompt 'Is this a promoter? <dna>TATAAATGGC</dna>'",
        aliases={"json": "as_json"},
    )


def _predict() -> Verb[Any]:
    from instruct.batch import BatchRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from instruct.batch import predict

        predict(recipe, overwrite=overwrite)

    return Verb(
        BatchRecipe,
        work,
        "Predict a task for every row of a CSV or FASTA file.",
        "llama-gene predict promoters.csv --model runs/quickstart/model --task sim/promoter --out runs/promoters.csv",
        positional="files",
    )


def _serve() -> Verb[Any]:
    from instruct.serve import ServeRecipe, serve

    def work(recipe: Any, overwrite: bool) -> None:
        from artefacts.launch import end

        end(serve(recipe))  # the libraries' destructors took up to twenty seconds

    return Verb(
        ServeRecipe,
        work,
        "Serve a gene model: an OpenAI-compatible endpoint and a web page.",
        "llama-gene serve --model runs/quickstart/model --records runs/quickstart/records",
    )


VERBS: dict[str, tuple[str, Callable[[], Verb[Any]]]] = {
    "instruct": ("instruction tuning", _instruct),
    "merge": ("merge an adapter into its model", _merge),
    "export": ("write a model for others, GGUF too", _export),
    "chat": ("chat in the terminal", _chat),
    "predict": ("predict a table or FASTA file", _predict),
    "serve": ("an endpoint and a web page", _serve),
}
"""Command -> (one line for the overview, how to make it)."""
