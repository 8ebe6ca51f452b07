"""Answers of a model to records: label log-likelihoods first, greedy text second.

Batches depend on the records and the tokenizer only.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from data_convert.tasks.kinds import KINDS
from data_convert.tasks.parse import before_reason
from eval.ask.branches import PRUNE_FROM
from eval.ask.likelihood import answered
from eval.ask.trie import Trie
from eval.predictions import head_of
from eval.recipe import Asking
from tokenizer.conversations import answer_ids, conversations

Line = dict[str, Any]
Batch = list[tuple[Line, list[int]]]
"""Records of one task and one choice list, with their prompts' ids."""

ASKING = Asking()
MORE_ROOM = 4
"""Tokens beyond the longest allowed answer, so that a wrong long one shows as invalid, not as cut to fit."""
LOGITS = 1 << 28
"""Most logits of one forward pass over the candidates."""


def predictions(model: Any, tokenizer: Any, records: list[Line], asking: Asking = ASKING) -> Iterator[Line]:
    """One prediction per record, in batches of similar length and so in no order. Fields: eval.predictions.FIELDS.

    Where `asking` wants no greedy text, that of closed tasks is left out; `text`, `parsed` and `status` are then None.
    """
    for batch in batches_of(tokenizer, records, asking.batch_tokens):
        yield from answer_batch(model, tokenizer, batch, asking)


def batches_of(tokenizer: Any, records: list[Line], batch_tokens: int) -> Iterator[Batch]:
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
    asked = KINDS[record["kind"]].asked(record["choices"])
    return [candidate(tokenizer, record["prompt"], choice, "reason" in record) for choice in asked]


def candidate(tokenizer: Any, prompt: list[Line], choice: str, reasoned: bool) -> list[int]:
    """Ids of a choice as an answer: up to the end of its turn, or of its line where a reason stands on the next one."""
    if not reasoned:
        return answer_ids(tokenizer, prompt, choice)
    # what two reasons have in common is no part of them; templates strip a line's end that nothing follows
    pair = (answer_ids(tokenizer, prompt, f"{choice}\n{reason}") for reason in ("A", "The"))
    return [one for one, _ in takewhile(lambda both: both[0] == both[1], zip(*pair, strict=False))]


def answer_batch(model: Any, tokenizer: Any, batch: Batch, asking: Asking) -> Iterator[Line]:
    answers = _answers(tokenizer, batch[0][0])
    reasoned = "reason" in batch[0][0]
    room = (max(map(len, answers)) if answers else 0) + (asking.max_new_tokens if reasoned or not answers else MORE_ROOM)
    prune_nats = asking.prune_nats if KINDS[batch[0][0]["kind"]].one_label else None  # an expectation asks for all of the grid
    rows, texts = answered(model, tokenizer, [ids for _, ids in batch], answers, room, asking.greedy or not answers, prune_nats)
    known = answers if prune_nats is None or len(Trie(answers)) <= PRUNE_FROM else []  # bounds are not divided by lengths
    for index, (record, _) in enumerate(batch):
        yield prediction_of(record, rows[index] if rows else None, texts[index] if texts else None, known)


def prediction_of(record: Line, logprobs: list[float] | None, text: str | None, answers: Sequence[Sequence[int]] = ()) -> Line:
    """One prediction. `logprobs` are those of whole answers, so their softmax is the labels' probabilities; divided by
    `label_tokens`, end-of-turn token included, they are normalised by length. Where unlikely labels may be bounds only, it is null."""
    kind, choices = KINDS[record["kind"]], record["choices"]
    said = None if text is None else before_reason(text, "reason" in record)
    parsed = kind.parse(said, choices) if said is not None else None
    return {
        **head_of(record),
        "logprobs": logprobs,
        "label_tokens": [len(answer) for answer in answers] or None,
        "predicted": kind.predicted(said, parsed, logprobs, choices),
        "text": text,
        "parsed": parsed.value if parsed else None,
        "status": parsed.status if parsed else None,
    }
