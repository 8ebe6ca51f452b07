"""Commands of evaluation: `llama-gene eval …`. Work is imported only when its command is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artefacts.command import Verb
from data_convert.records import check_inputs


def _eval_predict() -> Verb[Any]:
    from eval.recipe import PredictRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        check_inputs(recipe.model, recipe.records, recipe.split)
        from eval.predict import predict

        predict(recipe, overwrite=overwrite)

    return Verb(
        PredictRecipe,
        work,
        "Predict held-out records: label log-likelihoods and greedy text.",
        "llama-gene eval predict --model runs/model --records runs/records --out runs/predictions/model",
    )


def _eval_baselines() -> Verb[Any]:
    from eval.baselines.recipe import BaselinesRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        check_inputs(recipe.encoder, recipe.records, "train", "test")
        from eval.baselines.run import run as run_baselines

        run_baselines(recipe, overwrite=overwrite)

    return Verb(
        BaselinesRecipe,
        work,
        "Train and run the baselines: majority, k-mer regression, a LucaBase head on frozen embeddings.",
        "llama-gene eval baselines --records runs/records --encoder runs/pretrained --out runs/baselines",
    )


def _eval_score() -> Verb[Any]:
    from eval.recipe import ScoreRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from artefacts.folder import write_manifest
        from eval.alpaca import score_answers, summary
        from eval.score import score

        if recipe.answers:
            metrics = score_answers(recipe.answers, recipe.out, recipe.seed, overwrite)
            print(summary(metrics))
        else:
            metrics = score(recipe.records, recipe.predictions, recipe.out, recipe.seed, overwrite, recipe.reference)
        inputs = metrics["provenance"]["inputs"]
        write_manifest(recipe.out, "metrics", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts={"tasks": len(metrics["tasks"])})

    return Verb(
        ScoreRecipe,
        work,
        "Score predictions, or a file of answers made elsewhere: metrics with 95 % intervals, baselines and published figures beside them.",
        "llama-gene eval score --records runs/records --predictions runs/predictions runs/baselines --out runs/metrics.json\n"
        "llama-gene eval score answers.json --out runs/metrics.json",
        positional="answers",
    )


def _eval_report() -> Verb[Any]:
    from eval.report import ReportRecipe, report

    def work(recipe: Any, overwrite: bool) -> None:
        import json

        from eval.tables import terminal_table

        report(recipe, overwrite=overwrite)
        print(terminal_table(json.loads(recipe.metrics.read_text(encoding="utf-8"))))
        print(f"report: {recipe.out}")

    return Verb(
        ReportRecipe,
        work,
        "Write the report, one self-contained HTML page, and print its table.",
        "llama-gene eval report --metrics runs/metrics.json --records runs/records --predictions runs/predictions --out runs/report.html",
    )


VERBS: dict[str, tuple[str, Callable[[], Verb[Any]]]] = {
    "eval predict": ("predict held-out records with a model", _eval_predict),
    "eval baselines": ("train and run the baselines", _eval_baselines),
    "eval score": ("score predictions", _eval_score),
    "eval report": ("write the HTML report", _eval_report),
}
"""Command -> (one line for the overview, how to make it)."""
