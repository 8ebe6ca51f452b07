"""The LucaBase head (LucaOne, linear variant) trained on frozen embeddings of a model of ours.

Upstream's network and optimiser: value-attention pooling, dropout, a hidden layer of 128, one output layer; AdamW with a
linear warm-up and decay, gradient norm clipped at 1, the best dev epoch kept. Departures, all in favour of the head:
no all-zero rows around a sequence, regression targets standardised over train, a higher default learning rate because
runs here are shorter than upstream's 50 epochs. Not supported: pairs of sequences, text answers, the optional
Transformer before the pooling (`baseline train` has pairs and Transformers).

Legend of shapes: B sequences, T tokens (padded), D embedding width, C outputs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from eval.answers import Answers, value
from eval.baselines.embedding.encoder import Encoder
from eval.baselines.heads.nets import Head
from eval.baselines.heads.nets import batch as pad
from eval.baselines.recipe import LucaOptions
from eval.baselines.split import CLASSIFICATION, Record, Task, classified, predicted, sample
from eval.baselines.training.fit import threads
from eval.baselines.training.recipe import Network

TEST_AT_ONCE = 1000


def why_not(task: Task) -> str | None:
    """Why this head does not apply to a task, or None."""
    if task.kind not in (*CLASSIFICATION, "regression"):
        return "it gives no text" if task.kind == "text" else "it gives one label, not a set"
    if len(task.test[0]["inputs"]) != 1:
        return "it reads single sequences"
    return None


def luca_base(task: Task, encoder: Encoder, options: LucaOptions, *, seed: int) -> Iterator[Record]:
    """Train on at most `max_train` records and predict the test records. The same seed gives the same predictions on a CPU."""
    assert why_not(task) is None
    train, dev = sample(task.train, options.max_train, seed), sample(task.dev, options.max_dev, seed)
    targets = task.codes(train) if task.kind in CLASSIFICATION else np.array([record["label"] for record in train], dtype=float)
    mean, deviation = (float(targets.mean()), float(targets.std()) or 1.0) if task.kind == "regression" else (0.0, 1.0)
    with threads(encoder.width), torch.random.fork_rng():
        torch.manual_seed(seed)
        head = _train(task, _rows(encoder, train), (targets - mean) / deviation, _rows(encoder, dev), dev, options, encoder)
        chunks = (task.test[i : i + TEST_AT_ONCE] for i in range(0, len(task.test), TEST_AT_ONCE))
        output = np.concatenate([_predict(head, _rows(encoder, chunk), encoder) for chunk in chunks])
    if task.kind == "regression":
        return predicted(task, list(output[:, 0] * deviation + mean))
    return classified(task, _logprobs(output, task.kind))


def _train(
    task: Task, rows: list[Tensor], targets: np.ndarray, dev_rows: list[Tensor], dev: list[Record], options: LucaOptions, encoder: Encoder
) -> Head:
    head = Head(Network(dropout=options.dropout), [encoder.width], len(task.choices) if task.kind == "multiclass" else 1).to(encoder.device)
    biases = [p for name, p in head.named_parameters() if name.endswith("bias")]
    weights = [p for name, p in head.named_parameters() if not name.endswith("bias")]
    groups = [{"params": weights, "weight_decay": options.weight_decay}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), eps=1e-8)
    steps = options.epochs * math.ceil(len(rows) / options.batch)
    warmup = max(1, round(options.warmup_share * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup)))
    target_N = torch.tensor(targets, dtype=torch.long if task.kind == "multiclass" else torch.float32, device=encoder.device)
    best, best_score = head.state_dict(), -math.inf
    for _ in range(options.epochs):
        head.train()
        order = torch.randperm(len(rows))
        for chosen in order.split(options.batch):
            x_BTD, mask_BT = _pad([rows[i] for i in chosen.tolist()], encoder)
            loss = _loss(head((x_BTD, mask_BT)), target_N[chosen.to(encoder.device)], task.kind)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        # without dev records the last epoch is kept
        score = _dev_score(task, dev, _predict(head, dev_rows, encoder)) if dev else best_score + 1
        if score > best_score or not dev:
            best, best_score = copy.deepcopy(head.state_dict()), score
    head.load_state_dict(best)
    return head


def _loss(output_BC: Tensor, target_B: Tensor, kind: str) -> Tensor:
    if kind == "multiclass":
        return nn.functional.cross_entropy(output_BC, target_B)
    if kind == "binary":
        return nn.functional.binary_cross_entropy_with_logits(output_BC[:, 0], target_B)
    return nn.functional.mse_loss(output_BC[:, 0], target_B)


def _dev_score(task: Task, dev: list[Record], output_NC: np.ndarray) -> float:
    gold = [record["label"] for record in dev]
    if task.kind == "regression":
        return value("spearman", Answers(task.kind, task.choices, gold, list(output_NC[:, 0])))
    best = _logprobs(output_NC, task.kind).argmax(axis=1)
    return value("mcc", Answers(task.kind, task.choices, gold, [task.choices[i] for i in best]))


def _logprobs(output_NC: np.ndarray, kind: str) -> np.ndarray:
    logits_NC = torch.from_numpy(output_NC)
    if kind == "binary":  # one logit: that of the second choice
        logits_NC = torch.cat([torch.zeros_like(logits_NC), logits_NC], dim=1)
    return torch.log_softmax(logits_NC.double(), dim=1).numpy()


@torch.inference_mode()
def _predict(head: Head, rows: list[Tensor], encoder: Encoder, batch: int = 64) -> np.ndarray:
    head.eval()
    longest_first = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    output = torch.empty(len(rows), head.classifier.out_features)
    for start in range(0, len(rows), batch):
        chosen = longest_first[start : start + batch]
        output[chosen] = head(_pad([rows[i] for i in chosen], encoder)).cpu()
    return output.numpy()


def _rows(encoder: Encoder, records: Sequence[Record]) -> list[Tensor]:
    return [torch.from_numpy(rows) for rows in encoder.embed([(r["inputs"][0]["modality"], r["inputs"][0]["letters"]) for r in records])]


def _pad(rows: list[Tensor], encoder: Encoder) -> tuple[Tensor, Tensor]:
    x_BTD, mask_BT = pad(rows, zero_rows=False)
    return x_BTD.to(encoder.device), mask_BT.to(encoder.device)
