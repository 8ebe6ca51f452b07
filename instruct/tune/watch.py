"""What is seen of a tuning run on the dev records: losses, the evaluation's own metric by task, and when to stop."""

import json
import math
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_convert.tasks.cards import read_cards
from data_convert.tasks.kinds import LOWER_IS_BETTER
from eval.ask.answer import predictions
from eval.judge.answers import Answers, value
from instruct.tune.encode import Encoded
from instruct.tune.recipe import InstructRecipe
from instruct.tune.rows import PackedRows
from training.watch import RunWatch

BEST = "best-"
FEW = 20
"""Scored records below which the metric of a task says little; such a task is named."""
EVAL_TOKENS = 8192
"""Tokens of a forward pass on dev records, padding included."""


class DevWatch(RunWatch):
    """Measures loss and metric on dev records, keeps the best weights, ends the run when the metric no longer rises.

    Every rank measures the same records: they are few, and under ZeRO-3 all ranks must compute together.
    """

    name = "instruct"

    def __init__(
        self, recipe: InstructRecipe, tokenizer: Any, dev: Encoded, scored: list[dict[str, Any]], scored_of: dict[str, int]
    ) -> None:
        super().__init__(recipe)
        self.tokenizer, self.dev, self.scored, self.scored_of = tokenizer, dev, scored, scored_of
        self.primary = {card.id: card.primary_metric for card in read_cards(recipe.records)} if scored else {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self.begun = time.monotonic()
        for task, number in self.scored_of.items():
            if number < FEW:
                self.say(f"warning: {task}: {number or 'no'} dev records to score, too few to choose the best weights by")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_step_end(args, state, control, **kwargs)
        last = state.global_step >= state.max_steps
        if last or state.global_step % self.recipe.evaluate_every == 0:
            self._measure_loss(state)
        if self.recipe.metric_every is not None and (last or state.global_step % self.recipe.metric_every == 0):
            self._measure_metric(state)
            if self._exhausted(state):
                self.say(f"step {state.global_step}: no better mean metric in {self.recipe.patience} scorings; stopping here")
                state.max_steps = state.global_step  # the end of the run: no checkpoint is to be continued beyond it
                control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Drop best weights that no checkpoint, if continued, would ask for."""
        if self.trainer.is_world_process_zero():
            states = (json.loads((folder / "trainer_state.json").read_text()) for folder in self.recipe.work.glob("checkpoint-*"))
            asked = {state.best_global_step, *(found["best_global_step"] for found in states)}
            for folder in self.recipe.work.glob(f"{BEST}*"):
                if int(folder.name.removeprefix(BEST)) not in asked:
                    shutil.rmtree(folder)

    def best(self, state: Any) -> Path | None:
        """The folder of the best weights; None where none were scored."""
        return self.recipe.work / f"{BEST}{state.best_global_step}" if state.best_global_step is not None else None

    def _measure_loss(self, state: Any) -> None:
        found = dev_losses(self.trainer.model, self.dev, self.tokenizer.pad_token_id)
        tokens = sum(count for _, count in found.values())
        mean = sum(total for total, _ in found.values()) / tokens
        of_task = {task: round(total / count, 6) for task, (total, count) in found.items()}
        state.log_history.append({"step": state.global_step, "eval_loss": round(mean, 6), "eval_loss_of": of_task})
        self.say(f"step {state.global_step}: dev loss {mean:.4f}")

    def _measure_metric(self, state: Any) -> None:
        with self.asked() as model:
            found = metric_of_tasks(model, self.tokenizer, self.scored, self.primary)
        mean = sum(_upwards(self.primary[task], figure) for task, figure in found.items()) / len(found)
        state.log_history.append({"step": state.global_step, "eval_metric": round(mean, 6), "eval_metric_of": found})
        each = ", ".join(f"{task} {self.primary[task]} {figure:.3f}" for task, figure in found.items())
        self.say(f"step {state.global_step}: dev metric {mean:.4f} ({each})")
        if state.best_metric is None or mean > state.best_metric:
            state.best_metric, state.best_global_step = mean, state.global_step
            self.trainer.save_model(str(self.recipe.work / f"{BEST}{state.global_step}"))

    def _exhausted(self, state: Any) -> bool:
        since = [line for line in state.log_history if "eval_metric" in line and line["step"] > state.best_global_step]
        return self.recipe.patience is not None and len(since) >= self.recipe.patience

    def history(self, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The lines of history.jsonl; the losses of `log_every` steps make one line, their mean, wherever the run was stopped."""
        kinds = (("loss",), ("eval_loss", "eval_loss_of"), ("eval_metric", "eval_metric_of"))
        windows: dict[int, list[dict[str, Any]]] = {}
        for line in log:
            if "loss" in line:
                windows.setdefault((line["step"] - 1) // self.recipe.log_every, []).append(line)
        means = [{"step": w[-1]["step"], "loss": sum(line["loss"] for line in w) / len(w)} for w in windows.values()]
        lines = [
            (line["step"], place, {"step": line["step"], **{name: line[name] for name in kind}})
            for line in [*means, *(line for line in log if "loss" not in line)]
            for place, kind in enumerate(kinds)
            if kind[0] in line
        ]
        return [line for _, _, line in sorted(lines, key=lambda item: item[:2])]


def _upwards(metric: str, figure: float) -> float:
    if math.isnan(figure):  # of a dev draw with one class alone
        return 0.0
    return -figure if metric in LOWER_IS_BETTER else figure


def metric_of_tasks(model: Any, tokenizer: Any, records: list[dict[str, Any]], primary: dict[str, str]) -> dict[str, float]:
    """Task -> its primary metric on these records, by the code of `eval predict` and `eval score`."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in predictions(model, tokenizer, records):
        lines.setdefault(line["task"], []).append(line)
    return {task: round(value(primary[task], Answers.of(lines[task], "predicted")), 6) for task in sorted(lines)}


def scored_records(records: list[dict[str, Any]], each: int) -> list[dict[str, Any]]:
    """The first `each` records of every task."""
    seen: Counter[str] = Counter()
    kept = []
    for record in records:
        seen[record["task"]] += 1
        if seen[record["task"]] <= each:
            kept.append(record)
    return kept


def counts_of(tasks: list[str], scored: list[dict[str, Any]]) -> dict[str, int]:
    """Every task that is trained -> its scored records, also where there are none."""
    counts = Counter(record["task"] for record in scored)
    return {task: counts[task] for task in sorted(set(tasks))}


@torch.no_grad()
def dev_losses(model: Any, dev: Encoded, pad: int) -> dict[str, tuple[float, int]]:
    """Task -> summed negative log-likelihood of its answers' tokens, and their number."""
    was_training = model.training
    model.eval()
    rows = PackedRows(dev, [[record] for record in range(len(dev))], None, pad)
    device = next(model.parameters()).device
    found: dict[str, tuple[float, int]] = {}
    for batch in _batches(dev):
        inputs = rows.collate([rows[record] for record in batch])
        losses_N: Tensor = model(**{name: array.to(device) for name, array in inputs.items()}, each=True)["loss"]
        parts = losses_N.float().cpu().split([dev.answer_tokens[record] for record in batch])
        for record, part in zip(batch, parts, strict=True):
            total, count = found.get(dev.records[record]["task"], (0.0, 0))
            found[dev.records[record]["task"]] = (total + float(part.sum()), count + len(part))
    model.train(was_training)
    return dict(sorted(found.items()))


def _batches(dev: Encoded) -> list[list[int]]:
    """Similar lengths together."""
    batches: list[list[int]] = [[]]
    for record in sorted(range(len(dev)), key=lambda record: len(dev.ids[record])):
        if batches[-1] and (len(batches[-1]) + 1) * len(dev.ids[record]) > EVAL_TOKENS:
            batches.append([])
        batches[-1].append(record)
    return batches
