"""`llama-gene baseline predict`: the original's predict_v1 with batches, a clear word on bad rows, and no download on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from artefacts.errors import Ledger, UserError, at
from artefacts.folder import check_absent, fingerprint, new_file, write_manifest
from artefacts.owner import owned
from artefacts.recipe import load
from artefacts.resume import check_rejected, work_on, write_rejected
from data_convert.kinds import KINDS
from eval.baselines.embedding.encoder import pick_device
from eval.baselines.embedding.inputs import check_seq_type, open_table, read_letters
from eval.baselines.embedding.open import identity
from eval.baselines.embedding.store import read_settings
from eval.baselines.heads.losses import loss_of
from eval.baselines.heads.shipped import load_head, weights_file
from eval.baselines.lucaone.letters import SEQ_TYPES
from eval.baselines.training.examples import Example, Input
from eval.baselines.training.features import Features
from eval.baselines.training.fit import Fitted
from eval.baselines.training.fit import predict as probabilities
from eval.baselines.training.official import class_names
from eval.baselines.training.recipe import PredictRecipe, TrainRecipe
from eval.baselines.training.records import from_task, gather, score_lines, test_task
from eval.baselines.training.table import PredictionTable
from sequences.alphabets import BadSequence
from sequences.formats import FASTA
from sequences.readers import fasta_records, sequence_format


@dataclass(frozen=True, slots=True)
class Sample:
    """One row to predict."""

    where: str
    example: Example
    letters: list[str]
    """As they stand in the file."""
    truth: str | None


def predict(recipe: PredictRecipe, *, overwrite: bool = False) -> int:
    """Predict what the output does not hold yet; return how many that were.

    Args:
        overwrite: predict all rows anew; of records the lines of other tasks are kept all the same.

    Raises:
        UserError: a head, labels or rows that cannot be read, bad sequences, an output begun with another head, other settings or
            another sequence under an id.
    """
    trained, fitted, names = load_trained(recipe)
    trained = trained.model_copy(
        update={"gpu_id": recipe.gpu_id, "use_bf16": recipe.use_bf16, "batch_tokens": recipe.batch_tokens, "cache_gb": 0.0}
    )
    if recipe.records is not None:
        return _predict_records(recipe, trained, fitted, names, overwrite=overwrite)
    check_rejected(recipe.out)
    if overwrite:
        check_absent(recipe.out, overwrite, [path for path in (recipe.input_file, recipe.model) if path is not None])
    ledger, rejected = Ledger(recipe.max_broken), []
    samples = []
    for sample, row, wrong in _samples(recipe, pair=trained.network.pair):
        ledger.read += 1
        if sample is not None:
            samples.append(sample)
            ledger.written += 1
        elif recipe.on_bad == "refuse" or wrong is None:
            raise UserError(f"{row[0]}: {wrong}; mend it, or pass on_bad=set_aside to go on without it")
        else:
            ledger.reject(wrong.reason, row[0])
            rejected.append([str(wrong), *row])
    ledger.close(recipe.input_file or "command line", Ledger(), "row")
    truth = recipe.ground_truth_idx is not None
    table = PredictionTable(
        recipe.out,
        trained.loss.kind,
        names,
        pair=trained.network.pair,
        topk=recipe.topk,
        threshold=recipe.threshold,
        truth=truth,
        plan=_plan(recipe, trained, fitted, names),
        overwrite=overwrite,
    )
    todo = [sample for sample in samples if not _stands(sample, table)]
    features = Features(trained, encoders=recipe.encoders, embeddings=recipe.embeddings) if todo else None
    if features is not None:
        features.check([s.example for s in todo])
    device = pick_device(recipe.gpu_id)
    fitted.head.to(device)

    def rows(chosen: list[Sample]) -> list[list[Any]]:
        assert features is not None
        found_NC = probabilities(fitted, [s.example for s in chosen], features, device)
        return [
            table.row([i.id for i in sample.example.inputs], sample.letters, row_C, sample.truth)
            for sample, row_C in zip(chosen, found_NC, strict=True)
        ]

    of_rows = [[[i.id, i.modality, i.letters] for i in sample.example.inputs] + [sample.truth] for sample in todo]
    plan = {**(table.plan or {}), "batch": recipe.batch, "rows": hashlib.sha256(json.dumps(of_rows).encode()).hexdigest()[:16]}
    batches = [todo[start : start + recipe.batch] for start in range(0, len(todo), recipe.batch)]
    inputs = {"head": fingerprint(recipe.model)} | ({} if recipe.input_file is None else {"input_file": fingerprint(recipe.input_file)})
    with work_on(recipe.out, plan, overwrite=overwrite) as work, new_file(recipe.out, overwrite=True) as file:
        made = work.each(tqdm(batches, desc="predict", unit="batch", disable=None), rows)
        work.check_rows(table.write(file, (row for batch in made for row in batch)), len(table.done) + len(todo))
        write_manifest(
            recipe.out,
            "prediction",
            recipe=recipe.model_dump(mode="json"),
            inputs=inputs,
            counts={"rows": ledger.as_dict(), "predicted": len(todo)},
            rejected=write_rejected(recipe.out, ("reason", "where"), rejected),
        )
    table.note()
    return len(todo)


def _plan(recipe: PredictRecipe, trained: TrainRecipe, fitted: Fitted, names: list[str]) -> dict[str, Any]:
    """Everything that decides a row but its own sequences."""
    folders = recipe.embeddings or ([] if recipe.encoders else trained.embeddings)
    of_rows = ("max_length", "trunc_type", "embedding_complete", "embedding_complete_seg_overlap", "embedding_fixed_len_a_time")
    return {
        "head": fingerprint(weights_file(recipe.model)),
        "network": trained.network.model_dump(mode="json"),
        "kind": trained.loss.kind,
        "classes": names,
        "mean": fitted.mean,
        "deviation": fitted.deviation,
        "embeddings": [read_settings(folder) or str(folder) for folder in folders],
        "encoders": [] if folders else [identity(name) for name in recipe.encoders or trained.encoders],
        **{name: getattr(trained, name) for name in (*of_rows, "matrix_add_special_token", "use_bf16")},
        **{name: getattr(recipe, name) for name in ("threshold", "topk", "ground_truth_idx")},
    }


def _stands(sample: Sample, table: PredictionTable) -> bool:
    """Whether the table holds this row. Raises UserError where it holds the id with another sequence."""
    inputs = sample.example.inputs
    letters = table.done.get(tuple(item.id for item in inputs))
    if letters is None:
        return False
    before = [read_letters(text, "gene" if item.modality == "dna" else "prot")[1] for text, item in zip(letters, inputs, strict=True)]
    if before != [item.letters for item in inputs]:
        raise UserError(
            f"{sample.where}: {table.path} holds another sequence under the id '{sample.example.id}'; "
            "choose another --out or id, or pass --overwrite"
        )
    return True


def _predict_records(recipe: PredictRecipe, trained: TrainRecipe, fitted: Fitted, names: list[str], *, overwrite: bool) -> int:
    """Lines for `eval score` of all test records of a task, whose choices have to be the head's classes, in any order."""
    assert recipe.records is not None
    task = test_task(recipe.records, recipe.records_task)
    if task.kind != trained.loss.kind or len(task.test[0]["inputs"]) != 1 + trained.network.pair:
        inputs = len(task.test[0]["inputs"])
        raise UserError(f"{recipe.records}: task {task.id} is {task.kind} with {inputs} inputs, which this head is not for")
    if sorted(task.choices) != sorted(names) and not KINDS[task.kind].number:
        raise UserError(
            f"{recipe.records}: task {task.id} has the choices {', '.join(task.choices)}, the head {', '.join(names)}; "
            "pass labels=FILE, a label.txt with the task's choices in the order of the head's classes"
        )
    data = from_task(task)
    features = Features(trained, encoders=recipe.encoders, embeddings=recipe.embeddings)
    examples = data.splits["test"]
    features.check(examples)
    device = pick_device(recipe.gpu_id)
    fitted.head.to(device)
    made_from = {"head": fingerprint(recipe.model), "records": fingerprint(recipe.records)}
    plan = _plan(recipe, trained, fitted, names) | {"records": made_from["records"], "batch": recipe.batch}
    starts = tqdm(range(0, len(examples), recipe.batch), desc="predict", unit="batch", disable=None)
    own = recipe.out.with_name(f"{recipe.out.stem}-{task.id.replace('/', '_')}")
    with owned(recipe.out), work_on(own, plan, overwrite=overwrite) as work:
        made = work.each(starts, lambda start: probabilities(fitted, examples[start : start + recipe.batch], features, device).tolist())
        found_NC = np.array([row for rows in made for row in rows])
        work.check_rows(len(found_NC), len(examples))
        gather(recipe.out, score_lines(data, examples, loss_of(task.kind).reordered(found_NC, names, task.choices)))
    write_manifest(recipe.out, "prediction", recipe=recipe.model_dump(mode="json"), inputs=made_from, counts={task.id: len(examples)})
    return len(examples)


def load_trained(recipe: PredictRecipe) -> tuple[TrainRecipe, Fitted, list[str]]:
    """Recipe, head and class names of a folder of ours or of a shipped head."""
    path = recipe.model / "head.json"
    mean, deviation = 0.0, 1.0
    if path.is_file():
        try:
            saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            trained = TrainRecipe.model_validate(saved["recipe"])
            mean, deviation = float(saved["mean"]), float(saved["deviation"])
        except (ValueError, KeyError, TypeError) as error:  # of JSON and of pydantic
            raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}); train the head again") from None
    elif recipe.task is not None:
        overrides = ["data=.", "out=."] + ([f"comparison={recipe.comparison}"] if recipe.comparison else [])
        trained = load(TrainRecipe, recipe.task, overrides).resolved()
        # shipped heads were trained with the two zero rows
        trained = trained.model_copy(update={"network": trained.network.model_copy(update={"zero_rows": True})})
    else:
        raise UserError(f"{recipe.model}: no head.json; of a shipped head say task=configs/baselines/<task>.yaml")
    head = load_head(recipe.model, trained.network)
    labels = recipe.labels or recipe.model / "label.txt"
    kind = KINDS[trained.loss.kind]
    names = class_names(kind, labels)
    if loss_of(kind.name).outputs(len(names)) != head.outputs or (kind.two_labels and len(names) != 2):
        raise UserError(f"{labels}: {len(names)} classes, but the head has {head.outputs} outputs; give its own label.txt")
    return trained, Fitted(head, trained.loss, mean, deviation), names


def _samples(recipe: PredictRecipe, *, pair: bool) -> Iterator[tuple[Sample | None, list[str], BadSequence | None]]:
    """Each row with its place and what is wrong with it."""
    seen: dict[tuple[str, ...], str] = {}
    for where, ids, types, texts, truth, fields in _rows(recipe, pair=pair):
        key = tuple(ids)
        try:
            clean = [read_letters(text, check_seq_type(seq_type, where)) for text, seq_type in zip(texts, types, strict=True)]
            if not all(ids):
                raise BadSequence("no id")
            if key in seen:
                raise BadSequence("an id that stands before", f"at {seen[key]}")
        except BadSequence as bad:
            yield None, [where, *fields], bad
            continue
        seen[key] = where
        inputs = tuple(Input(name, modality, letters) for name, (modality, letters) in zip(ids, clean, strict=True))
        yield Sample(where, Example("#".join(ids), inputs, None), texts, truth), [where, *fields], None


Row = tuple[str, list[str], list[str], list[str], str | None, list[str]]


def _rows(recipe: PredictRecipe, *, pair: bool) -> Iterator[Row]:
    """Place, ids, types, sequences, ground truth and all fields of each row."""
    if recipe.input_file is None:
        yield _one_sample(recipe, pair=pair)
        return
    path = recipe.input_file
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a CSV, TSV or FASTA file")
    types = [recipe.seq_type_a or recipe.seq_type, recipe.seq_type_b or recipe.seq_type] if pair else [recipe.seq_type]
    if sequence_format(path) == FASTA:
        if pair or types[0] is None:
            raise UserError(f"{path}: " + ("pairs come as CSV or TSV" if pair else "a FASTA file needs --seq-type gene or prot"))
        for line, title, letters in fasta_records(path):
            yield at(path, line), [title.strip()], [str(types[0])], [letters], None, [title]
        return
    table = open_table(path)
    header, rows = table.names, list(table)
    count = 1 + pair
    # by position, whatever the header says: where a cell is a type, another that is none is refused later, not read as a sequence
    cells = {cell for row in rows for cell in row.cells[count : 2 * count]}
    are_types = bool(cells & SEQ_TYPES.keys()) or {cell.lower() for cell in cells} <= SEQ_TYPES.keys()
    typed = len(header) >= 3 * count and (are_types or any("type" in name.lower() for name in header[count : 2 * count]))
    if len(header) < (3 if typed else 2) * count:
        wanted = "seq_id_a,seq_id_b,seq_type_a,seq_type_b,seq_a,seq_b" if pair else "seq_id,seq_type,seq"
        raise UserError(f"{path}: {len(header)} columns; expected {wanted}, or the same without types and --seq-type")
    if not typed and None in types:
        raise UserError(f"{path}: its header names no type of sequence; pass --seq-type gene or prot")
    for row in rows:
        line, fields = row.line, row.cells
        if row.problem:
            raise UserError(f"{at(path, line)}: {row.problem}; mend the line")
        parts = [fields[i * count : (i + 1) * count] for i in range(3)]
        own = parts[1] if typed else [str(t) for t in types]
        truth = None
        if recipe.ground_truth_idx is not None:
            if recipe.ground_truth_idx >= len(fields):
                raise UserError(f"{path}: no column {recipe.ground_truth_idx}, so no ground truth; the last is {len(fields) - 1}")
            truth = fields[recipe.ground_truth_idx]
        yield at(path, line), [name.strip().lstrip(">") for name in parts[0]], own, parts[2 if typed else 1], truth, fields


def _one_sample(recipe: PredictRecipe, *, pair: bool) -> Row:
    if pair != (recipe.seq_a is not None):
        raise UserError("this head reads " + ("pairs: give seq_a and seq_b" if pair else "one sequence: give seq"))
    if pair:
        ids, texts = [recipe.seq_id_a or "a", recipe.seq_id_b or "b"], [recipe.seq_a or "", recipe.seq_b or ""]
        types = [recipe.seq_type_a or recipe.seq_type, recipe.seq_type_b or recipe.seq_type]
    else:
        ids, texts, types = [recipe.seq_id or "seq"], [recipe.seq or ""], [recipe.seq_type]
    if None in types:
        raise UserError("say what the sequence is: --seq-type gene or prot, of pairs --seq-type-a and --seq-type-b")
    return "command line", ids, [str(t) for t in types], texts, None, texts
