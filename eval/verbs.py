"""Commands of evaluation: `llama-gene eval …`. Work is imported only when its command is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artefacts.command import Verb
from data_convert.records import check_inputs


def _eval_predict() -> Verb[Any]:
    from eval.recipe import PredictRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from eval.subjects import check_subject

        check_subject(recipe)
        check_inputs(None, recipe.records, recipe.split)
        from eval.predict import predict

        predict(recipe, overwrite=overwrite)

    return Verb(
        PredictRecipe,
        work,
        "Predict held-out records: label log-likelihoods and greedy text.",
        "llama-gene eval predict --model runs/model --records runs/records --out runs/predictions/model",
    )


def _eval_run() -> Verb[Any]:
    from eval.recipe import RunRecipe

    def steps() -> dict[str, Verb[Any]]:
        return {"predict": _eval_predict(), "retention": _eval_retention(), "score": _eval_score(), "report": _eval_report()}

    def work(recipe: Any, overwrite: bool) -> None:
        check_inputs(None, recipe.records, recipe.predict.split)
        from eval.run import run

        run(recipe, steps(), overwrite=overwrite)

    def dry_run(recipe: Any) -> None:
        from eval.run import planned

        for name, _, step in planned(recipe, steps()):
            print(f"# {name}: {step.model_dump_json(exclude_defaults=True)}")

    return Verb(
        RunRecipe,
        work,
        "Predict with several models, measure their English, score them together, write the report; finished steps are kept.",
        "llama-gene eval run --records runs/records --out runs/eval models.llama-gene.model=runs/model models.base.model=runs/pretrained",
        dry_run=dry_run,
        adds=True,
    )


def _eval_retention() -> Verb[Any]:
    from eval.recipe import RetentionRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from eval.retention import retention, table

        print(table(retention(recipe, overwrite=overwrite)))

    return Verb(
        RetentionRecipe,
        work,
        "Measure whether models still read English: bits per byte and perplexity of a fixed text, the first model's beside the others'.",
        "llama-gene eval retention --models runs/base runs/pretrained runs/pretrained+runs/adapter --out runs/retention.json",
    )


def _eval_export() -> Verb[Any]:
    from eval.recipe import ExportRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from eval.harness import export

        counts = export(recipe, overwrite=overwrite)
        for task, reason in counts["left_out"].items():
            print(f"left out: {task} ({reason})")
        model = recipe.model or "MODEL"
        print(f"lm_eval --model hf --model_args pretrained={model} --include_path {recipe.out} --apply_chat_template \\")
        print(f"    --tasks {','.join(counts['written'])}")

    return Verb(
        ExportRecipe,
        work,
        "Write the tasks for lm-evaluation-harness: YAML and JSON lines, scored there as here.",
        "llama-gene eval export --records runs/records --model runs/model --out runs/harness",
    )


def _eval_baselines() -> Verb[Any]:
    from eval.baselines.recipe import BaselinesRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        check_inputs(None, recipe.records, "train", "test")
        from eval.baselines.run import run as run_baselines

        run_baselines(recipe, overwrite=overwrite)

    return Verb(
        BaselinesRecipe,
        work,
        "Train and run the baselines: majority, k-mer regression, nearest training sequence, LucaOne's heads on frozen embeddings.",
        "llama-gene eval baselines --records runs/records --encoder runs/pretrained --out runs/baselines",
    )


def _eval_score() -> Verb[Any]:
    from eval.recipe import ScoreRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from eval.alpaca import score_answers, summary
        from eval.score import score

        made = recipe.model_dump(mode="json")
        if recipe.answers:
            print(summary(score_answers(recipe.answers, recipe.out, recipe.seed, overwrite, made)))
        else:
            score(recipe.records, recipe.predictions, recipe.out, recipe.seed, overwrite, recipe.reference, recipe.parts, made)

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
    "eval run": ("predict with several models, score, report", _eval_run),
    "eval retention": ("measure whether models still read English", _eval_retention),
    "eval export": ("write tasks for lm-evaluation-harness", _eval_export),
    "eval baselines": ("train and run the baselines", _eval_baselines),
    "eval score": ("score predictions", _eval_score),
    "eval report": ("write the HTML report", _eval_report),
}
"""Command -> (one line for the overview, how to make it)."""
