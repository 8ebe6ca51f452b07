"""The training loop of a head. The same seed gives the same head on a CPU.

Processes of a launcher (artefacts/ranks.py) each embed, keep and pass through the head their share of the records, and step by the
sum of their gradients. So the head is that of one process but for the order of sums, and for the attention dropout of Transformers
in front of the pooling, of which each process draws its own.

Not supported: resuming in the middle (the long part, embedding, is what `baseline embed` can go on with).
"""

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from artefacts.errors import UserError
from artefacts.ranks import agreed, count, mine, told, total
from eval.baselines.heads.losses import loss_of
from eval.baselines.heads.nets import Head, batch
from eval.baselines.heads.options import LossOptions
from eval.baselines.training.data import Data, Example
from eval.baselines.training.features import Features
from eval.baselines.training.recipe import Schedule, TrainRecipe
from eval.judge.answers import statistic
from eval.judge.bootstrap import bootstrap

NARROW = 512
"""Encoders narrower than this run on one CPU thread: their products are too small to share, and where other processes
keep the cores busy, threads that wait for each other cost twenty times what they save (0.18 s against 0.009 s a step)."""
PREDICT_AT_ONCE = 32
_DIVERGED = (
    "{} is no finite number; the training diverged, which a lower schedule.learning_rate mends, or an embedding holds NaN, so embed again"
)


@dataclass
class Fitted:
    """A head and how it came to be."""

    head: Head
    options: LossOptions
    mean: float = 0.0
    deviation: float = 1.0
    """Of regression targets; 0 and 1 where they were not standardised."""
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """One line per epoch: training loss, dev score, learning rate at its end."""


def fit(recipe: TrainRecipe, data: Data, features: Features, device: torch.device) -> Fitted:
    """Train on train, choose the epoch on dev (the first of equals).

    Raises:
        UserError: a loss or a prediction that is no finite number.
    """
    train, dev, schedule = data.splits["train"], data.splits["dev"], recipe.schedule
    widths = features.widths(train[0])
    with threads(min(widths)), torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        head = Head(recipe.network, widths, loss_of(data.kind).outputs(len(data.names))).to(device)
        fitted = Fitted(head, recipe.loss)
        if recipe.standardise:
            labels = np.array([example.label for example in train])
            fitted.mean, fitted.deviation = float(labels.mean()), float(labels.std()) or 1.0
        groups = -(-len(train) // schedule.batch)
        steps = schedule.epochs * -(-groups // schedule.accumulation)
        optimizer = torch.optim.AdamW(_decayed(head, schedule.weight_decay), lr=schedule.learning_rate, betas=(0.9, 0.98), eps=1e-8)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(schedule, steps))
        best, best_score, best_state = 0, -math.inf, head.state_dict()
        with tqdm(total=schedule.epochs * groups, unit="batch", desc="train", disable=None) as bar:
            for epoch in range(1, schedule.epochs + 1):
                mean_loss = _epoch(fitted, train, features, schedule, optimizer, rate, device, bar)
                score = selection(data, dev, predict(fitted, dev, features, device, shared=True), recipe.metric)
                fitted.history.append({"epoch": epoch, "loss": mean_loss, recipe.metric: score, "learning_rate": rate.get_last_lr()[0]})
                bar.set_postfix({recipe.metric: f"{score:.3f}", "best": f"{max(score, best_score):.3f}"})
                if score > best_score:
                    best, best_score, best_state = epoch, score, copy.deepcopy(head.state_dict())
                if schedule.patience is not None and epoch - best >= schedule.patience:
                    break
    head.load_state_dict(best_state)
    fitted.best_epoch = best
    return fitted


def _epoch(
    fitted: Fitted,
    train: Sequence[Example],
    features: Features,
    schedule: Schedule,
    optimizer: torch.optim.Optimizer,
    rate: torch.optim.lr_scheduler.LambdaLR,
    device: torch.device,
    bar: tqdm,
) -> float:
    """One pass over train in a new order; the mean loss of a record."""
    kind = loss_of(fitted.options.kind)
    fitted.head.train()
    passes = torch.tensor(told(torch.randperm(len(train)).tolist())).split(schedule.batch)
    losses = torch.zeros(1, dtype=torch.float64)
    for start in range(0, len(passes), schedule.accumulation):
        group = passes[start : start + schedule.accumulation]
        records = sum(len(chosen) for chosen in group)
        for chosen in group:
            own = [place for place, i in enumerate(chosen.tolist()) if mine(i)]
            fitted.head.dropout.of_pass(own, len(chosen), device)
            bar.update()
            if not own:
                continue
            examples = [train[int(chosen[place])] for place in own]
            # each record of a step weighs the same, also in a last group that is not full
            logits_BC, target = _forward(fitted.head, examples, features, device), _targets(fitted, examples, device)
            loss = kind.loss(fitted.options, logits_BC, target) * len(examples) / records
            if not math.isfinite(value := loss.item()):
                raise UserError(_DIVERGED.format(f"the loss of the record '{examples[0].id}' and the {len(examples) - 1} with it"))
            loss.backward()
            losses += value * records
        _add_up(fitted.head)
        nn.utils.clip_grad_norm_(fitted.head.parameters(), schedule.clip)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
    return float(total(losses)) / len(train)


def _add_up(head: Head) -> None:
    """The gradients of all processes."""
    if count() == 1:
        return
    gradients = []
    for parameter in head.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients.append(parameter.grad)
    nn.utils.vector_to_parameters(total(nn.utils.parameters_to_vector(gradients)), gradients)


def blocks(examples: Sequence[Example]) -> list[list[int]]:
    """Records of like length that are predicted together."""
    order = sorted(range(len(examples)), key=lambda i: -sum(len(item.letters) for item in examples[i].inputs))
    return [order[start : start + PREDICT_AT_ONCE] for start in range(0, len(order), PREDICT_AT_ONCE)]


@torch.inference_mode()
def predict(fitted: Fitted, examples: Sequence[Example], features: Features, device: torch.device, *, shared: bool = False) -> np.ndarray:
    """Probabilities, or values, `[N, C]` in the records' order; batched by length.

    Args:
        shared: among the processes of a launcher; all of them get all.

    Raises:
        UserError: one of them is no finite number.
    """
    fitted.head.eval()
    loss = loss_of(fitted.options.kind)
    found, wrong = np.zeros((len(examples), fitted.head.outputs)), None
    try:
        for number, chosen in enumerate(blocks(examples)):
            if not shared or mine(number):
                outputs_BC = loss.probabilities(_forward(fitted.head, [examples[i] for i in chosen], features, device))
                found[chosen] = outputs_BC.double().cpu().numpy()
    except UserError as error:
        if not shared:
            raise
        wrong = error
    if shared:
        agreed(wrong)
        total(torch.from_numpy(found))
    if not np.isfinite(found).all():
        raise UserError(_DIVERGED.format(f"the prediction of '{examples[int(np.isfinite(found).all(axis=1).argmin())].id}'"))
    return found * fitted.deviation + fitted.mean


def _forward(head: Head, examples: Sequence[Example], features: Features, device: torch.device) -> Tensor:
    inputs = []
    for matrices in features.matrices(examples):
        x_BTD, mask_BT = batch(matrices, zero_rows=head.network.zero_rows)
        inputs.append((x_BTD.to(device), mask_BT.to(device)))
    return head(*inputs)


def _targets(fitted: Fitted, examples: Sequence[Example], device: torch.device) -> Tensor:
    target = loss_of(fitted.options.kind).targets([example.label for example in examples], fitted.head.outputs).to(device)
    return target if fitted.deviation == 1.0 and not fitted.mean else (target - fitted.mean) / fitted.deviation


def learning_rate(schedule: Schedule, steps: int) -> Any:
    """Step from 0 -> share of the learning rate: up over the warm-up, then down to 0."""
    warmup = schedule.warmup if schedule.warmup >= 1 else schedule.warmup * steps

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (steps - step) / max(1.0, steps - warmup))

    return share


def _decayed(head: Head, decay: float) -> list[dict[str, Any]]:
    """No weight decay on biases and LayerNorm weights."""
    free = [p for name, p in head.named_parameters() if name.endswith("bias") or "norm" in name.lower()]
    kept = [p for name, p in head.named_parameters() if not (name.endswith("bias") or "norm" in name.lower())]
    return [{"params": kept, "weight_decay": decay}, {"params": free, "weight_decay": 0.0}]


@contextlib.contextmanager
def threads(width: int) -> Iterator[None]:
    """One CPU thread for narrow heads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if width < NARROW else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def selection(data: Data, examples: list[Example], probabilities_NC: np.ndarray, metric: str) -> float:
    """The figure that chooses the epoch."""
    return loss_of(data.kind).selection(data.kind, data.names, [e.label for e in examples], probabilities_NC, metric)


def measure(data: Data, examples: list[Example], probabilities_NC: np.ndarray, metric: str, seed: int) -> dict[str, Any]:
    """All figures, rounded to 6 digits as upstream; `interval` is that of the selection metric."""
    loss, labels = loss_of(data.kind), [example.label for example in examples]
    rounded: dict[str, Any] = {name: round(float(figure), 6) for name, figure in loss.figures(labels, probabilities_NC).items()}
    answers = loss.answers(data.kind, data.names, labels, probabilities_NC)
    if answers is not None:
        rounded["interval"] = {"metric": metric, **bootstrap(statistic(metric, answers), len(examples), seed=seed).as_dict()}
    return {"n": len(examples), **rounded}
