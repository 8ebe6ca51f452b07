"""`eval predict`: held-out records asked of a model or an endpoint, with their negative controls.

Each batch is kept once it is answered, so a run that was interrupted goes on behind the last of them and ends with the same bytes.
Records and model are looked at before torch is imported, which takes seconds.
"""

import json
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.resume import work_on
from data_convert.tasks.cards import read_cards
from data_convert.tasks.kinds import KINDS
from data_convert.tasks.records import REVERSED, read_records
from eval.ask.controls import averaged, controlled, turned, undone
from eval.ask.subjects import Endpoint, check_fit, check_subject, identity, machine, open_model, open_tokenizer
from eval.recipe import PredictRecipe
from training.launch import share_cores

Line = dict[str, Any]
Batch = list[tuple[Line, list[int]]]
"""Records of one task and one choice list, with their prompts' ids."""


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
    strands = {system + REVERSED: its for system, records in asked.items() if (its := _turned(recipe, records))}
    everything = asked | strands
    share_cores()
    batches, answer = _endpoint(recipe, asked) if recipe.endpoint is not None else _local(recipe, everything)
    found: dict[str, dict[str, Line]] = {system: {} for system in everything}
    originals = {record["id"]: record for record in records}
    with work_on(recipe.out, _plan(recipe, inputs), overwrite=overwrite) as work:
        with tqdm(total=sum(map(len, everything.values())), desc="predict", unit="record", disable=None) as progress:
            for (system, _), lines in zip(batches, work.each(batches, lambda batch: answer(batch[1])), strict=True):
                found[system].update({line["id"]: line for line in lines})
                progress.update(len(lines))
        with new_folder(recipe.out, overwrite=overwrite) as folder:
            for system, its in asked.items():
                work.check_rows(len(found[system]), len(its))
                with (folder / f"{system}.jsonl").open("w", encoding="utf-8") as handle:
                    other = found.get(system + REVERSED, {})
                    for record in its:
                        line = found[system][record["id"]]
                        line = averaged(line, other[record["id"]]) if record["id"] in other else line
                        line = undone(line, originals[record["id"]]) if system.endswith("@permuted") else line
                        handle.write(json.dumps(line, ensure_ascii=False) + "\n")
            counts = {"predictions": sum(map(len, asked.values()))}
            write_manifest(folder, "predictions", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)


def _turned(recipe: PredictRecipe, records: list[Line]) -> list[Line]:
    """The other strand of the records of tasks that are the same on both, where that is asked for."""
    if not recipe.both_strands:
        return []
    if recipe.endpoint is not None:
        raise UserError("both_strands is the mean of two likelihoods, which an endpoint does not give; predict from the model folder")
    symmetric = {card.id for card in read_cards(recipe.records) if card.strand_symmetric}
    found = [turned(record) for record in records if record["task"] in symmetric and KINDS[record["kind"]].asked(record["choices"])]
    if not found:
        raise UserError(f"{recipe.records}: both_strands, but no card of its tasks says strand_symmetric: true; leave both_strands out")
    return found


def _local(recipe: PredictRecipe, asked: dict[str, list[Line]]) -> tuple[list[tuple[str, Batch]], Callable[[Batch], list[Line]]]:
    """All batches with their systems, and what answers one. The model is loaded when the first batch is asked."""
    from eval.ask import answer as answering

    tokenizer = open_tokenizer(recipe)
    batches = [(system, batch) for system, its in asked.items() for batch in answering.batches_of(tokenizer, its, recipe.batch_tokens)]
    longest = max((len(ids) for _, batch in batches for _, ids in batch), default=0)
    check_fit(recipe, tokenizer, longest)
    loaded: list[Any] = []

    def answer(batch: Batch) -> list[Line]:
        if not loaded:
            loaded.append(open_model(recipe))
        return list(answering.answer_batch(loaded[0], tokenizer, batch, recipe))

    return batches, answer


def _endpoint(recipe: PredictRecipe, asked: dict[str, list[Line]]) -> tuple[list[tuple[str, Batch]], Callable[[Batch], list[Line]]]:
    """The same for a server: batches in the records' order, four rounds of questions each."""
    from eval.ask.answer import MORE_ROOM, prediction_of

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
        return [prediction_of(record, None, text) for record, text in zip(records, texts, strict=True)]

    return batches, answer


def _plan(recipe: PredictRecipe, inputs: dict[str, str]) -> dict[str, Any]:
    """All that decides the bytes of the output."""
    settings = recipe.model_dump(mode="json", exclude={"out", "model", "adapter", "records", "concurrency"})
    return {**settings, **inputs, **machine()}


def _check_choices(recipe: PredictRecipe, records: list[Line]) -> None:
    """Refuse records whose labels are not those of their card."""
    if not (recipe.records / "cards.json").is_file():
        return
    known = {card.id: card.choices for card in read_cards(recipe.records)}
    for record in records:
        if record["task"] not in known:
            raise UserError(f"{recipe.records}: records of {record['task']}, which has no card in cards.json; convert the tasks again")
        if sorted(record["choices"]) != sorted(known[record["task"]]):  # training shuffles them
            raise UserError(
                f"{recipe.records}: '{record['id']}' has the choices {', '.join(record['choices']) or 'none'}, its card "
                f"{', '.join(known[record['task']]) or 'none'}; convert the tasks again"
            )
