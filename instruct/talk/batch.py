"""Predict a table or a FASTA file: `llama-gene predict`, into a CSV with the columns of LucaOne's prediction script.

Rows are predicted in groups of `group_rows`, which depend on the input alone, and are written in its order. A group that is done is
safe: an interrupted run goes on behind it and ends with the very bytes of an undisturbed one.
"""

import csv
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from tqdm import tqdm

from artefacts.errors import UserError, say_read
from artefacts.folder import check_absent, fingerprint, new_file, write_manifest
from artefacts.recipe import Recipe
from artefacts.resume import check_rejected, rejected_path, work_on, write_rejected
from data_convert.tasks.cards import TaskCard, load_card, read_cards
from data_convert.tasks.examples import Example
from data_convert.tasks.kinds import TableForm
from data_convert.tasks.parse import before_reason
from data_convert.tasks.records import RecordWriter
from eval.judge.calibration import temperature_of
from instruct.talk.batch_rows import Rows, Sample
from instruct.talk.session import Session, check_model


class BatchRecipe(Recipe):
    """Predict a task for every row of a file."""

    model: Path
    """Merged model folder (`merge`)."""
    files: list[Path] = Field(min_length=1)
    """CSV or TSV with a header, or FASTA (tasks of one sequence), plain or gz."""
    task: str
    """Card: id or YAML file."""
    out: Path
    """CSV. Rows that cannot be used stand in `<name>.rejected.csv` beside it, with place and reason."""
    records: Path | None = None
    """Folder of `convert tasks`, for a card whose labels stand in a label.txt: its cards.json has them."""
    max_broken: float = Field(0.1, ge=0, le=1)
    """Share of a file's rows that may be broken and set aside; more stop the run."""
    ground_truth: str | None = None
    """Column that is copied to `ground_truth`."""
    topk: int = Field(1, ge=1)
    """Multi-class tasks: so many labels a row."""
    threshold: float = Field(0.5, ge=0, le=1)
    """Two classes: the second one from this probability on."""
    temperatures: Path | None = None
    """metrics.json of `eval score dev=…`, by this very model: probabilities of classes are those at the temperature fitted there."""
    group_rows: int = Field(512, ge=1)
    """Rows predicted and written together; an interruption costs at most these."""
    batch_tokens: int = Field(8192, ge=1)
    max_new_tokens: int = Field(48, ge=1)
    """Of answers in words."""
    formulas: Literal["keep", "prefix"] = "keep"
    """prefix: a cell that a spreadsheet would run (it begins with = + - @, a tab or a carriage return, and
    is no number) gets an apostrophe in front. Ids and answers are a stranger's text."""


def predict(recipe: BatchRecipe, *, overwrite: bool = False) -> None:
    """Write the table, or go on with one that was interrupted.

    Raises:
        UserError: no such model, card or file; a header without the sequences; no usable row; the rest of another run.
    """
    check_absent(recipe.out, overwrite, recipe.files)
    check_rejected(recipe.out)
    check_model(recipe.model)
    card = card_of(recipe)
    for _ in Rows(card, recipe.files, recipe.ground_truth).read(recipe.max_broken):
        pass  # what is wrong with a file shows before a model is opened
    rows = Rows(card, recipe.files, recipe.ground_truth)
    inputs: dict[str, Any] = {"model": fingerprint(recipe.model), "files": [fingerprint(path) for path in recipe.files]}
    settings = recipe.model_dump(mode="json", exclude={"out", "files", "model", "records", "temperatures"})
    temperature = 1.0
    if recipe.temperatures is not None:
        if not card.answers.one_label:
            raise UserError(f"task {card.id}: a {card.kind} task has no temperature; leave temperatures out")
        temperature = inputs["temperature"] = temperature_of(recipe.temperatures, card.id, recipe.model)
    task = Task(card, recipe, rows.two_ids, Session(recipe.model), temperature)
    cells = harmless if recipe.formulas == "prefix" else list
    written = 0
    with (
        work_on(recipe.out, {**settings, "card": card.model_dump(mode="json"), **inputs}, overwrite=overwrite) as work,
        new_file(recipe.out, overwrite=overwrite) as file,
        tqdm(desc="predict", unit="row", disable=None) as progress,
    ):
        with file.open("w", newline="", encoding="utf-8") as handle:
            table = csv.writer(handle, lineterminator="\n")
            table.writerow(task.header)
            samples = task.fitting(rows)
            for lines in work.each(iter(lambda: list(islice(samples, recipe.group_rows)), []), task.predict):
                table.writerows(map(cells, lines))
                written += len(lines)
                progress.update(len(lines))
        if not rows.ledger.written:
            raise UserError(
                f"{recipe.files[0]}: not one row fits the model ({', '.join(rows.ledger.reasons)}); take one with a longer context"
            )
        work.check_rows(written, rows.ledger.written)
        rejected = write_rejected(recipe.out, ("where", "id", "reason"), [cells(row) for row in rows.rejected])
        say_read(", ".join(map(str, recipe.files)), rows.ledger.as_dict(), rejected_path(recipe.out))
        # before the table: whoever finds that finds how it came to be
        counts = {"rows": rows.ledger.as_dict()}
        write_manifest(recipe.out, "prediction", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts, rejected=rejected)


def harmless(row: Iterable[Any]) -> list[Any]:
    """The cells of a row, an apostrophe before those that a spreadsheet would take for a formula (OWASP, CSV injection)."""
    return [f"'{cell}" if str(cell).startswith(("=", "+", "-", "@", "\t", "\r")) and not is_number(cell) else cell for cell in row]


def is_number(cell: Any) -> bool:
    """Whether a cell reads as one number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def card_of(recipe: BatchRecipe) -> TaskCard:
    """The card, with its labels. Raises UserError where only a label.txt knows them."""
    if recipe.records is not None:
        found = {card.id: card for card in read_cards(recipe.records)}
        if recipe.task not in found:
            raise UserError(f"{recipe.records}: no task '{recipe.task}'; there are {', '.join(found)}")
        return found[recipe.task]
    card = load_card(recipe.task)
    if card.label_file and not card.labels:
        raise UserError(
            f"task {card.id}: only its label.txt knows the labels; give --records with a folder that `convert tasks` made of it"
        )
    return card


class Task:
    """From samples to lines of the table."""

    def __init__(self, card: TaskCard, recipe: BatchRecipe, two_ids: bool, session: Session, temperature: float = 1.0) -> None:
        self.card, self.recipe, self.session, self._temperature = card, recipe, session, temperature
        self._labels = card.choices
        self._writer = RecordWriter(card, "held-out", 0)
        self._reason = None if card.answer_then_reason is None else ""  # its label is asked for as if one followed
        self.topk = min(recipe.topk, len(self._labels))
        pair = len(card.inputs) == 2
        self.header = [
            *(["seq_id_a", "seq_id_b"] if two_ids else ["seq_id"]),
            *(["seq_a", "seq_b"] if pair else ["seq"]),
            *card.answers.columns(self.topk),
            *(["status"] if self.written else []),
            *(["ground_truth"] if recipe.ground_truth is not None else []),
        ]

    @property
    def written(self) -> bool:
        """Whether the model writes the answer, instead of choosing among labels or numbers."""
        return not self.card.answers.ranked

    def fitting(self, rows: Rows) -> Iterator[tuple[Sample, dict[str, Any]]]:
        """Samples with their records; one whose prompt leaves no room for an answer is set aside."""
        from eval.ask.answer import candidate
        from tokenizer.conversations import prompt_ids

        tokenizer, answer = self.session.tokenizer, 0
        for number, sample in enumerate(rows.read()):
            example = Example(str(number), number, sample.inputs, "", "", {}, "input", reason=self._reason)
            record = {**next(self._writer.records(example, "test")), "choices": self._labels}
            if not answer and self._labels and not self.written:
                answer = max(len(candidate(tokenizer, record["prompt"], label, "reason" in record)) for label in self._labels)
            needed = len(prompt_ids(tokenizer, record["prompt"])) + (answer or 1)
            if needed > self.session.context:
                rows.set_aside(sample, "too long for the model", f"{needed:,} tokens, it has {self.session.context:,}")
                continue
            yield sample, record

    def predict(self, group: list[tuple[Sample, dict[str, Any]]]) -> list[list[Any]]:
        """Lines in the order of the samples."""
        from eval.ask.answer import predictions
        from eval.recipe import Asking

        records = [record for _, record in group]
        session, recipe = self.session, self.recipe
        asking = Asking(batch_tokens=recipe.batch_tokens, max_new_tokens=recipe.max_new_tokens, greedy=self.written)
        made = predictions(session.model, session.tokenizer, records, asking)
        found = {prediction["id"]: prediction for prediction in made}
        return [self._line(sample, found[record["id"]]) for sample, record in group]

    def _line(self, sample: Sample, prediction: dict[str, Any]) -> list[Any]:
        line = [*sample.ids, *sample.raw, *self._found(prediction)]
        return [*line, sample.truth] if self.recipe.ground_truth is not None else line

    def _found(self, prediction: dict[str, Any]) -> list[Any]:
        if self.written:
            said = before_reason(prediction["text"], self._reason is not None)
            return ["", said.strip(), prediction["status"]]
        if self.card.answers.number:
            row = [prediction["predicted"]]
        else:
            highest = max(prediction["logprobs"])
            weights = [math.exp((value - highest) / self._temperature) for value in prediction["logprobs"]]
            row = [weight / sum(weights) for weight in weights]
        return self.card.answers.cells(row, TableForm(self._labels, self.recipe.threshold, self.topk, _short))


def _short(value: float) -> str:
    return f"{value:.6g}"
