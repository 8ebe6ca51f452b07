"""Predict held-out records with a model: label log-likelihoods first, greedy text second."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.command import path_exists
from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.launch import share_cores
from data_convert.conversations import answer_ids, prompt_ids
from data_convert.records import read_records
from eval.likelihood import choice_logprobs, greedy
from eval.parse import Parsed, parse_items, parse_label, parse_number, parse_text
from eval.recipe import PredictRecipe


def predict(recipe: PredictRecipe, *, overwrite: bool = False) -> None:
    """Write `<out>/<system>.jsonl`, one prediction per record of the split, in the records' order.

    Raises:
        UserError: missing model or records, existing output.
    """
    path_exists(recipe.model / "config.json", "model", "give a merged model folder (`llama-gene merge`) or any causal LM folder")
    check_absent(recipe.out, overwrite)
    records = list(read_records(recipe.records / f"{recipe.split}.jsonl"))
    share_cores()
    tokenizer = AutoTokenizer.from_pretrained(recipe.model)
    if tokenizer.chat_template is None:
        raise UserError(f"{recipe.model}: its tokenizer has no chat template; extend the base with `llama-gene tokenizer extend`")
    model = AutoModelForCausalLM.from_pretrained(recipe.model, dtype="auto").eval()
    if torch.cuda.is_available():
        model = model.cuda()
    found: dict[str, dict[str, Any]] = {}
    with tqdm(total=len(records), desc="predict", disable=None) as progress:
        for prediction in predictions(model, tokenizer, records, recipe.batch_tokens, recipe.max_new_tokens):
            found[prediction["id"]] = prediction
            progress.update()
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        with (folder / f"{recipe.system}.jsonl").open("w", encoding="utf-8") as handle:
            for record in records:
                handle.write(json.dumps(found[record["id"]], ensure_ascii=False) + "\n")
        write_manifest(
            folder,
            "predictions",
            recipe=recipe.model_dump(mode="json"),
            inputs={"model": fingerprint(recipe.model), "records": fingerprint(recipe.records)},
            counts={"predictions": len(records)},
        )


def predictions(
    model: Any, tokenizer: Any, records: list[dict[str, Any]], batch_tokens: int = 8192, max_new_tokens: int = 48
) -> Iterator[dict[str, Any]]:
    """One prediction per record, in batches of similar length and so in no order. Fields: eval.score.FIELDS."""
    for batch in _batches(tokenizer, records, batch_tokens):
        yield from _predict_batch(model, tokenizer, batch, max_new_tokens)


def _batches(tokenizer: Any, records: list[dict[str, Any]], batch_tokens: int) -> Iterator[list[tuple[dict[str, Any], list[int]]]]:
    """Records of one task and one choice list together, similar lengths together."""
    groups: dict[tuple[str, tuple[str, ...]], list[tuple[dict[str, Any], list[int]]]] = defaultdict(list)
    for record in records:
        groups[record["task"], tuple(record["choices"])].append((record, prompt_ids(tokenizer, record["prompt"])))
    for (_, choices), group in groups.items():
        group.sort(key=lambda pair: len(pair[1]))
        batch: list[tuple[dict[str, Any], list[int]]] = []
        for pair in group:
            # answers are scored on copies of the prompt's cache, so many choices count like many short rows
            width = len(pair[1]) + 4 * len(choices)
            if batch and (len(batch) + 1) * width > batch_tokens:
                yield batch
                batch = []
            batch.append(pair)
        yield batch


def _predict_batch(
    model: Any, tokenizer: Any, batch: list[tuple[dict[str, Any], list[int]]], max_new_tokens: int
) -> Iterator[dict[str, Any]]:
    prompts = [ids for _, ids in batch]
    first = batch[0][0]
    choices = first["choices"]
    # a multilabel answer is any number of the choices, so no likelihood of one of them is its score
    closed = first["kind"] != "multilabel"
    answers = [answer_ids(tokenizer, first["prompt"], choice) for choice in choices if closed]
    rows: list[list[float]] | None = None
    if answers:
        rows = choice_logprobs(model, prompts, answers, tokenizer.pad_token_id).tolist()
    # room for the longest allowed answer and a little more, so that a wrong long one shows as invalid, not as cut to fit
    room = max(map(len, answers)) + 4 if answers else max_new_tokens
    texts = greedy(model, tokenizer, prompts, room)
    for index, ((record, _), text) in enumerate(zip(batch, texts, strict=True)):
        parsed = _parse(record, text)
        logprobs = rows[index] if rows else None
        yield {
            "id": record["id"],
            "task": record["task"],
            "split": record["split"],
            "kind": record["kind"],
            "gold": record["label"],
            "choices": choices,
            "logprobs": logprobs,
            "predicted": _predicted(record["kind"], choices, logprobs, text, parsed),
            "text": text,
            "parsed": parsed.value,
            "status": parsed.status,
        }


def _parse(record: dict[str, Any], text: str) -> Parsed:
    if record["kind"] == "regression":
        return parse_number(text)
    if record["kind"] == "text":
        return parse_text(text)
    if record["kind"] in ("set", "multilabel"):
        return parse_items(text, record["choices"])
    return parse_label(text, record["choices"])


def _predicted(kind: str, choices: list[str], logprobs: list[float] | None, text: str, parsed: Parsed) -> Any:
    """Classification: the likeliest label. Regression: expectation over the grid. Text: the greedy answer. Sets: its items."""
    if kind in ("set", "multilabel"):
        return parsed.value
    if logprobs is None:
        return text
    scores = torch.tensor(logprobs, dtype=torch.float64)
    if kind == "regression":
        grid = torch.tensor([float(choice) for choice in choices], dtype=torch.float64)
        return float((scores.softmax(0) * grid).sum())
    return choices[int(scores.argmax())]
