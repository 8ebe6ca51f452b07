"""Predict held-out records with a model: label log-likelihoods first, greedy text second.

Batches depend on the records and the tokenizer only. Each is kept once it is answered, so a run that was interrupted goes on
behind the last of them and ends with the same bytes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from tqdm import tqdm

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_folder, package_versions, write_manifest
from artefacts.launch import share_cores
from artefacts.resume import work_on
from data_convert.cards import read_cards
from data_convert.conversations import answer_ids, conversations
from data_convert.kinds import KINDS
from data_convert.prompts import choices as card_choices
from data_convert.records import read_records
from eval.ask.branches import PRUNE_FROM
from eval.ask.controls import controlled, undone
from eval.ask.likelihood import answered
from eval.ask.subjects import Endpoint, check_fit, check_subject, identity, open_model, open_tokenizer
from eval.ask.trie import Trie
from eval.predictions import head_of
from eval.recipe import PredictRecipe

Line = dict[str, Any]
Batch = list[tuple[Line, list[int]]]
"""Records of one task and one choice list, with their prompts' ids."""

MORE_ROOM = 4
"""Tokens beyond the longest allowed answer, so that a wrong long one shows as invalid, not as cut to fit."""
LOGITS = 1 << 28
"""Most logits of one forward pass over the candidates."""


def predict(recipe: PredictRecipe, *, overwrite: bool = False) -> None:
    """Write `<out>/<system>.jsonl` and one such file per control, one prediction per record of the split, in the records' order.

    An interrupted run continues where it stopped, and ends with the same bytes.

    Raises:
        UserError: missing model or records, choices that are not their card's, a tokenizer that is not the model's, existing
            output, what is left of a run with other inputs or settings.
    """
    check_subject(recipe)
    check_absent(recipe.out, overwrite)
    records = read_records(recipe.records / f"{recipe.split}.jsonl")
    _check_choices(recipe, records)
    inputs = {**identity(recipe), "records": fingerprint(recipe.records)}
    asked = {recipe.system: records} | {f"{recipe.system}@{name}": controlled(name, records, recipe.seed) for name in recipe.controls}
    share_cores()
    batches, answer = _endpoint(recipe, asked) if recipe.endpoint is not None else _local(recipe, asked)
    found: dict[str, dict[str, Line]] = {system: {} for system in asked}
    originals = {record["id"]: record for record in records}
    with work_on(recipe.out, _plan(recipe, inputs), overwrite=overwrite) as work:
        with tqdm(total=sum(map(len, asked.values())), desc="predict", unit="record", disable=None) as progress:
            for (system, _), lines in zip(batches, work.each(batches, lambda batch: answer(batch[1])), strict=True):
                found[system].update({line["id"]: line for line in lines})
                progress.update(len(lines))
        with new_folder(recipe.out, overwrite=overwrite) as folder:
            for system, its in asked.items():
                work.check_rows(len(found[system]), len(its))
                with (folder / f"{system}.jsonl").open("w", encoding="utf-8") as handle:
                    for record in its:
                        line = found[system][record["id"]]
                        line = undone(line, originals[record["id"]]) if system.endswith("@permuted") else line
                        handle.write(json.dumps(line, ensure_ascii=False) + "\n")
            counts = {"predictions": sum(map(len, asked.values()))}
            write_manifest(folder, "predictions", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)


def predictions(
    model: Any,
    tokenizer: Any,
    records: list[Line],
    batch_tokens: int = 8192,
    max_new_tokens: int = 48,
    *,
    greedy: bool = True,
    prune_nats: float | None = None,
) -> Iterator[Line]:
    """One prediction per record, in batches of similar length and so in no order. Fields: eval.predictions.FIELDS.

    Args:
        batch_tokens: tokens per forward pass, padding included.
        max_new_tokens: longest greedy answer where the choices do not say how long one can be.
        greedy: False leaves the text of closed tasks out; `text`, `parsed` and `status` are then None.
        prune_nats: see PredictRecipe.
    """
    for batch in _batches(tokenizer, records, batch_tokens):
        yield from _predict_batch(model, tokenizer, batch, max_new_tokens, greedy, prune_nats)


def _local(recipe: PredictRecipe, asked: dict[str, list[Line]]) -> tuple[list[tuple[str, Batch]], Callable[[Batch], list[Line]]]:
    """All batches with their systems, and what answers one. The model is loaded when the first batch is asked."""
    tokenizer = open_tokenizer(recipe)
    batches = [(system, batch) for system, its in asked.items() for batch in _batches(tokenizer, its, recipe.batch_tokens)]
    longest = max((len(ids) for _, batch in batches for _, ids in batch), default=0)
    check_fit(recipe, tokenizer, longest)
    loaded: list[Any] = []

    def answer(batch: Batch) -> list[Line]:
        if not loaded:
            loaded.append(open_model(recipe))
        return list(_predict_batch(loaded[0], tokenizer, batch, recipe.max_new_tokens, recipe.greedy, recipe.prune_nats))

    return batches, answer


def _endpoint(recipe: PredictRecipe, asked: dict[str, list[Line]]) -> tuple[list[tuple[str, Batch]], Callable[[Batch], list[Line]]]:
    """The same for a server: batches in the records' order, four rounds of questions each."""
    server, size = Endpoint(recipe), 4 * recipe.concurrency
    batches: list[tuple[str, Batch]] = [
        (system, [(record, []) for record in its[start : start + size]])
        for system, its in asked.items()
        for start in range(0, len(its), size)
    ]

    def answer(batch: Batch) -> list[Line]:
        records = [record for record, _ in batch]
        closed = [KINDS[record["kind"]].asked(record["choices"]) for record in records]
        # a token is a letter at least
        rooms = [max(map(len, names)) + MORE_ROOM if names else recipe.max_new_tokens for names in closed]
        texts = server.answer([record["prompt"] for record in records], rooms)
        return [_line(record, None, text) for record, text in zip(records, texts, strict=True)]

    return batches, answer


def _plan(recipe: PredictRecipe, inputs: dict[str, str]) -> dict[str, Any]:
    """All that decides the bytes of the output."""
    settings = recipe.model_dump(mode="json", exclude={"out", "model", "adapter", "records", "concurrency"})
    versions = {name: package_versions().get(name) for name in ("torch", "transformers", "tokenizers")}
    return {**settings, **inputs, **versions, "device": "cuda" if torch.cuda.is_available() else "cpu"}


def _check_choices(recipe: PredictRecipe, records: list[Line]) -> None:
    """Refuse records whose labels are not those of their card."""
    if not (recipe.records / "cards.json").is_file():
        return
    known = {card.id: card_choices(card) for card in read_cards(recipe.records)}
    for record in records:
        if record["task"] not in known:
            raise UserError(f"{recipe.records}: records of {record['task']}, which has no card in cards.json; convert the tasks again")
        if sorted(record["choices"]) != sorted(known[record["task"]]):  # training shuffles them
            raise UserError(
                f"{recipe.records}: '{record['id']}' has the choices {', '.join(record['choices']) or 'none'}, its card "
                f"{', '.join(known[record['task']]) or 'none'}; convert the tasks again"
            )


def _batches(tokenizer: Any, records: list[Line], batch_tokens: int) -> Iterator[Batch]:
    """Records of one task, one choice list and one way to write an answer together, similar lengths together."""
    # the template could write an answer differently behind another prompt, so each record's own first answer is looked at
    first = [record["choices"][0] if record["choices"] else "." for record in records]
    pairs = conversations(tokenizer, [record["prompt"] for record in records], first)
    groups: dict[tuple[Any, ...], Batch] = defaultdict(list)
    for record, (prompt, answer) in zip(records, pairs, strict=True):
        groups[record["task"], tuple(record["choices"]), tuple(answer)].append((record, prompt))
    for group in groups.values():
        group.sort(key=lambda pair: len(pair[1]))
        nodes = len(Trie(_answers(tokenizer, group[0][0])))
        most = max(1, LOGITS // (max(1, nodes) * len(tokenizer)))
        batch: Batch = []
        for pair in group:
            # the tree of the answers stands behind every prompt
            if batch and ((len(batch) + 1) * (len(pair[1]) + nodes) > batch_tokens or len(batch) == most):
                yield batch
                batch = []
            batch.append(pair)
        yield batch


def _answers(tokenizer: Any, record: Line) -> list[list[int]]:
    """Ids of every choice as an answer; none for multilabel: its answer is any number of the choices, so no one of them has its score."""
    return [answer_ids(tokenizer, record["prompt"], choice) for choice in KINDS[record["kind"]].asked(record["choices"])]


def _predict_batch(model: Any, tokenizer: Any, batch: Batch, max_new_tokens: int, greedy: bool, prune_nats: float | None) -> Iterator[Line]:
    answers = _answers(tokenizer, batch[0][0])
    room = max(map(len, answers)) + MORE_ROOM if answers else max_new_tokens
    prune_nats = prune_nats if KINDS[batch[0][0]["kind"]].one_label else None  # an expectation asks for all of the grid
    rows, texts = answered(model, tokenizer, [ids for _, ids in batch], answers, room, greedy or not answers, prune_nats)
    known = answers if prune_nats is None or len(Trie(answers)) <= PRUNE_FROM else []  # bounds are not divided by lengths
    for index, (record, _) in enumerate(batch):
        yield _line(record, rows[index] if rows else None, texts[index] if texts else None, known)


def _line(record: Line, logprobs: list[float] | None, text: str | None, answers: Sequence[Sequence[int]] = ()) -> Line:
    """One prediction. `logprobs` are those of whole answers, so their softmax is the labels' probabilities; divided by
    `label_tokens`, end-of-turn token included, they are normalised by length. Where unlikely labels may be bounds only, it is null."""
    kind, choices = KINDS[record["kind"]], record["choices"]
    parsed = kind.parse(text, choices) if text is not None else None
    return {
        **head_of(record),
        "logprobs": logprobs,
        "label_tokens": [len(answer) for answer in answers] or None,
        "predicted": kind.predicted(text, parsed, logprobs, choices),
        "text": text,
        "parsed": parsed.value if parsed else None,
        "status": parsed.status if parsed else None,
    }
