"""`llama-gene baseline predict`: the original's predict_v1 with batches, a clear word on bad rows, and no download on the way."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from artefacts.command import path_exists
from artefacts.errors import Ledger, UserError
from artefacts.folder import check_absent, fingerprint, manifest_path, new_file, read_noted, write_manifest
from artefacts.owner import owned
from artefacts.ranks import rank, told
from artefacts.recipe import load
from artefacts.resume import check_rejected, work_on, write_rejected
from data_convert.tasks.kinds import KINDS
from eval.ask.subjects import machine
from eval.baselines.embedding.encoder import pick_device
from eval.baselines.embedding.inputs import InputRow, Item, fasta_rows, open_table, paired_rows, read_letters, usable
from eval.baselines.embedding.open import identity
from eval.baselines.embedding.recipe import EncoderUse, Windows
from eval.baselines.embedding.store import read_settings
from eval.baselines.heads.losses import loss_of
from eval.baselines.heads.nets import load_head, weights_file
from eval.baselines.lucaone.letters import SEQ_TYPES
from eval.baselines.split import read_task
from eval.baselines.training.data import Example, class_names, from_task, gather, score_lines
from eval.baselines.training.features import Features
from eval.baselines.training.fit import Fitted
from eval.baselines.training.fit import predict as probabilities
from eval.baselines.training.recipe import PredictRecipe, TrainRecipe, departures
from eval.baselines.training.root import as_trained, check_agrees, from_root
from eval.baselines.training.table import PredictionTable
from sequences.formats import FASTA
from sequences.readers import sequence_format


def predict(recipe: PredictRecipe, *, overwrite: bool = False) -> int:
    """Predict what the output does not hold yet; return how many that were.

    Args:
        overwrite: predict all rows anew; of records the lines of other tasks are kept all the same.

    Raises:
        UserError: a head, labels or rows that cannot be read, bad sequences, an output begun with another head, other settings or
            another sequence under an id.
    """
    path_exists(recipe.model, "head", "give a folder of `baseline train` or of a shipped head")
    recipe = from_root(recipe)
    trained, fitted, names = load_trained(recipe)
    check_agrees(recipe, trained)
    trained = trained.model_copy(update={name: getattr(recipe, name) for name in EncoderUse.model_fields} | {"cache_gb": 0.0})
    if recipe.llm_truncation_seq_length is not None:
        longest = [max(length, recipe.llm_truncation_seq_length) for length in trained.max_length]
        trained = trained.model_copy(update={"max_length": longest})
    if recipe.out is None:
        return _print_one(recipe, trained, fitted, names)
    if recipe.records is not None:
        return _predict_records(recipe, trained, fitted, names, overwrite=overwrite)
    check_rejected(recipe.out)
    if overwrite:
        check_absent(recipe.out, overwrite, [path for path in (recipe.input_file, recipe.model) if path is not None])
    # every row, before anything is computed
    ledger, rejected = Ledger(recipe.max_broken), list[list[str]]()
    given = list(usable(_rows(recipe, pair=trained.network.pair), ledger, recipe.on_bad, rejected))
    ledger.written = len(given)
    ledger.close(recipe.input_file or "command line", Ledger(), "row")
    # what an earlier run wrote stays
    table = PredictionTable(
        recipe.out,
        trained.loss.kind,
        names,
        pair=trained.network.pair,
        topk=recipe.topk,
        threshold=recipe.threshold,
        truth=recipe.ground_truth_idx is not None,
        plan=_plan(recipe, trained, fitted, names),
        overwrite=overwrite,
    )
    lacking = told([number for number, (row, items) in enumerate(given) if not _stands(row, items, table)])
    todo = [(row, Example(row.name, items, None)) for row, items in (given[number] for number in lacking)]
    examples = [example for _, example in todo]
    answer = _answerer(recipe, trained, fitted, examples) if todo else None

    def truth(row: InputRow) -> str | None:
        return None if recipe.ground_truth_idx is None else row.cells[recipe.ground_truth_idx]

    def rows(chosen: list[tuple[InputRow, Example]]) -> list[list[Any]]:
        assert answer is not None
        found_NC = answer([example for _, example in chosen])
        return [table.row(row.ids, row.texts, row_C, truth(row)) for (row, _), row_C in zip(chosen, found_NC, strict=True)]

    # the rest in batches, each kept before the next one
    of_rows = [[[i.id, i.modality, i.letters] for i in example.inputs] + [truth(row)] for row, example in todo]
    plan = {**(table.plan or {}), "batch": recipe.batch, "rows": hashlib.sha256(json.dumps(of_rows).encode()).hexdigest()[:16]}
    batches = [todo[start : start + recipe.batch] for start in range(0, len(todo), recipe.batch)]
    inputs = {"head": fingerprint(recipe.model)} | ({} if recipe.input_file is None else {"input_file": fingerprint(recipe.input_file)})
    made_by, noted = recipe.model_dump(mode="json"), read_noted(manifest_path(recipe.out))
    ended = not todo and table.done and noted is not None and (noted.get("recipe"), noted.get("inputs")) == (made_by, inputs)
    if told(bool(ended)):
        print(f"{recipe.out}: 0 predicted")
        return 0  # this very command was killed, or given again, after its end: its manifest says what it did
    with work_on(recipe.out, plan, overwrite=overwrite) as work, new_file(recipe.out, overwrite=True) as file:
        made = _counted(work.each(tqdm(batches, desc="predict", unit="batch", disable=None), rows), recipe.print_per_num, len(todo))
        work.check_rows(table.write(file, (row for batch in made for row in batch)), len(table.done) + len(todo))
        write_manifest(
            recipe.out,
            "prediction",
            recipe=made_by,
            inputs=inputs,
            counts={"rows": ledger.as_dict(), "predicted": len(todo)},
            rejected=write_rejected(recipe.out, ("reason", "where"), rejected),
        )
    if rank() == 0:
        table.note()
    print(f"{recipe.out}: {len(todo)} predicted")
    return len(todo)


def _answerer(
    recipe: PredictRecipe, trained: TrainRecipe, fitted: Fitted, examples: list[Example]
) -> Callable[[list[Example]], np.ndarray]:
    """What answers records, `[N, C]`, once all of them are known to be in the embeddings, or an encoder is open."""
    features = Features(trained, encoders=recipe.encoders, embeddings=recipe.embeddings, complete=recipe.matrix_embedding_exists)
    features.check(examples)
    device = pick_device(recipe.gpu_id)
    fitted.head.to(device)
    return lambda chosen: probabilities(fitted, chosen, features, device)


def _print_one(recipe: PredictRecipe, trained: TrainRecipe, fitted: Fitted, names: list[str]) -> int:
    """The answer to one sample, as predict_v1 prints it."""
    ((row, items),) = usable(_given(recipe, pair=trained.network.pair), Ledger(), "refuse", [])
    (row_C,) = _answerer(recipe, trained, fitted, [example := Example(row.name, items, None)])([example])
    table = PredictionTable(
        Path(), trained.loss.kind, names, pair=trained.network.pair, topk=recipe.topk, threshold=recipe.threshold, truth=False
    )
    cells = dict(zip(table.header, table.row(row.ids, row.texts, row_C), strict=True))
    ids = [f"{name}={cells.pop(name)}" for name in list(cells)[: len(row.ids)]]
    print("Predicted Result:", ", ".join(ids), *(f"{name}={cell}" for name, cell in cells.items()), sep="\n")
    return 1


def _counted(made: Iterator[list[Any]], every: int | None, of: int) -> Iterator[list[Any]]:
    """The batches, and a line whenever so many more rows are done."""
    done = 0
    for batch in made:
        before, done = done, done + len(batch)
        if every is not None and done // every > before // every:
            print(f"predicted {done} of {of}")
        yield batch


def _plan(recipe: PredictRecipe, trained: TrainRecipe, fitted: Fitted, names: list[str]) -> dict[str, Any]:
    """Everything that decides a row but its own sequences."""
    folders = recipe.embeddings or ([] if recipe.encoders else trained.embeddings)
    of_rows = ("max_length", *Windows.model_fields)
    return {
        **machine(),
        **({"device": "cpu"} if recipe.gpu_id == -1 else {}),
        "head": fingerprint(weights_file(recipe.model)),
        "network": trained.network.model_dump(mode="json"),
        "kind": trained.loss.kind,
        "classes": names,
        "mean": fitted.mean,
        "deviation": fitted.deviation,
        "embeddings": [read_settings(folder) or str(folder) for folder in folders],
        "encoders": [] if folders and recipe.matrix_embedding_exists else [identity(name) for name in recipe.encoders or trained.encoders],
        **{name: getattr(trained, name) for name in (*of_rows, "matrix_add_special_token", "use_bf16")},
        **{name: getattr(recipe, name) for name in ("threshold", "topk", "ground_truth_idx")},
    }


def _stands(row: InputRow, items: tuple[Item, ...], table: PredictionTable) -> bool:
    """Whether the table holds this row. Raises UserError where it holds the id with another sequence."""
    letters = table.done.get(tuple(row.ids))
    if letters is None:
        return False
    before = [read_letters(text, "gene" if item.modality == "dna" else "prot")[1] for text, item in zip(letters, items, strict=True)]
    if before != [item.letters for item in items]:
        raise UserError(
            f"{row.where}: {table.path} holds another sequence under the id '{row.name}'; choose another --out or id, or pass --overwrite"
        )
    return True


def _predict_records(recipe: PredictRecipe, trained: TrainRecipe, fitted: Fitted, names: list[str], *, overwrite: bool) -> int:
    """Lines for `eval score` of all test records of a task, whose choices have to be the head's classes, in any order."""
    assert recipe.records is not None
    assert recipe.out is not None
    task = read_task(recipe.records, recipe.records_task, ["test"])
    if task.kind != trained.loss.kind or len(task.test[0]["inputs"]) != 1 + trained.network.pair:
        inputs = len(task.test[0]["inputs"])
        raise UserError(f"{recipe.records}: task {task.id} is {task.kind} with {inputs} inputs, which this head is not for")
    if sorted(task.choices) != sorted(names) and not KINDS[task.kind].number:
        raise UserError(
            f"{recipe.records}: task {task.id} has the choices {', '.join(task.choices)}, the head {', '.join(names)}; "
            "pass labels=FILE, a label.txt with the task's choices in the order of the head's classes"
        )
    data = from_task(task)
    examples = data.splits["test"]
    answer = _answerer(recipe, trained, fitted, examples)
    made_from = {"head": fingerprint(recipe.model), "records": fingerprint(recipe.records)}
    plan = _plan(recipe, trained, fitted, names) | {"records": made_from["records"], "batch": recipe.batch}
    starts = tqdm(range(0, len(examples), recipe.batch), desc="predict", unit="batch", disable=None)
    own = recipe.out.with_name(f"{recipe.out.stem}-{task.id.replace('/', '_')}")
    with owned(recipe.out), work_on(own, plan, overwrite=overwrite) as work:
        made = work.each(starts, lambda start: answer(examples[start : start + recipe.batch]).tolist())
        found_NC = np.array([row for rows in made for row in rows])
        work.check_rows(len(found_NC), len(examples))
        gather(recipe.out, score_lines(data, examples, loss_of(task.kind).reordered(found_NC, names, task.choices)), departures(trained))
        write_manifest(recipe.out, "prediction", recipe=recipe.model_dump(mode="json"), inputs=made_from, counts={task.id: len(examples)})
    print(f"{recipe.out}: {len(examples)} predicted")
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
        trained = as_trained(trained, recipe.model)
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


def _rows(recipe: PredictRecipe, *, pair: bool) -> Iterator[InputRow]:
    """Each row; one whose id stands before is marked as bad."""
    seen: dict[str, str] = {}
    for row in _given(recipe, pair=pair):
        first = seen.setdefault(row.name, row.where)
        yield row if first == row.where else replace(row, problem=f"an id that stands before, at {first}")


def _given(recipe: PredictRecipe, *, pair: bool) -> Iterator[InputRow]:
    path, count = recipe.input_file, 1 + pair
    types = [recipe.seq_type_a or recipe.seq_type, recipe.seq_type_b or recipe.seq_type] if pair else [recipe.seq_type]
    given = [kind for kind in types if kind is not None]
    if path is None:
        yield _one_sample(recipe, given, pair=pair)
        return
    path_exists(path, "file", "give a CSV, TSV or FASTA file")
    if sequence_format(path) == FASTA:
        if pair or not given:
            raise UserError(f"{path}: " + ("pairs come as CSV or TSV" if pair else "a FASTA file needs --seq-type gene or prot"))
        yield from fasta_rows(path, given[0])
        return
    table = open_table(path)
    header = table.names
    # by position, whatever the header says: where a cell is a type, another that is none is refused later, not read as a sequence
    cells = {cell for row in table for cell in row.cells[count : 2 * count]}
    are_types = bool(cells & SEQ_TYPES.keys()) or {cell.lower() for cell in cells} <= SEQ_TYPES.keys()
    typed = len(header) >= 3 * count and (are_types or any("type" in name.lower() for name in header[count : 2 * count]))
    if len(header) < (3 if typed else 2) * count:
        wanted = "seq_id_a,seq_id_b,seq_type_a,seq_type_b,seq_a,seq_b" if pair else "seq_id,seq_type,seq"
        raise UserError(f"{path}: {len(header)} columns; expected {wanted}, or the same without types and --seq-type")
    if not typed and len(given) < count:
        raise UserError(f"{path}: its header names no type of sequence; pass --seq-type gene or prot")
    if recipe.ground_truth_idx is not None and recipe.ground_truth_idx >= len(header):
        raise UserError(f"{path}: no column {recipe.ground_truth_idx}, so no ground truth; the last is {len(header) - 1}")
    yield from paired_rows(path, count, None if typed else given)


def _one_sample(recipe: PredictRecipe, types: list[str], *, pair: bool) -> InputRow:
    if pair != (recipe.seq_a is not None):
        raise UserError("this head reads " + ("pairs: give seq_a and seq_b" if pair else "one sequence: give seq"))
    if len(types) < 1 + pair:
        raise UserError("say what the sequence is: --seq-type gene or prot, of pairs --seq-type-a and --seq-type-b")
    if pair:
        return InputRow("command line", [recipe.seq_id_a or "a", recipe.seq_id_b or "b"], types, [recipe.seq_a or "", recipe.seq_b or ""])
    return InputRow("command line", [recipe.seq_id or "seq"], types, [recipe.seq or ""])
