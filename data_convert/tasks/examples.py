"""Rows -> examples: every check a row must pass, the length policy, and the ledger of the rows that did not pass."""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from artefacts.errors import Ledger, UserError, at
from data_convert.tasks.card_fields import Input, Region
from data_convert.tasks.cards import Patterns, TaskCard
from data_convert.tasks.kinds import Rejected
from data_convert.tasks.labels import resolve_labels
from data_convert.tasks.places import fits, places
from data_convert.tasks.rows import Row, read_rows, read_sequences_by_id
from sequences.alphabets import ALPHABETS, BadSequence
from sequences.regions import Genome, Place, cut
from sequences.spans import remarks, sequences, spans, with_letters
from sequences.tables import whole_number

TAGS = tuple(tag for alphabet in ALPHABETS.values() for tag in (alphabet.open_tag, alphabet.close_tag))
TYPES = {"gene": ("dna", "rna"), "prot": ("protein",)}
"""LucaOne's `seq_type`, and the modalities that it may stand for."""
BARE = re.compile(r"(?<![A-Za-z])[A-Z*]{30,}(?![A-Za-z])")
BARE_NOTE = "with 30 capitals in a row outside tags, which are read as English"


@dataclass(slots=True)
class Example:
    """A row that passed every check."""

    row: str
    """What names the row inside its file."""
    line: int
    inputs: dict[str, str]
    """Input name -> letters, upper case, cropped."""
    label: str | float | list[str]
    answer: str
    meta: dict[str, Any] | None
    file: str = ""
    """Below the source folder."""
    texts: dict[str, str] = field(default_factory=dict)
    """What the prompts show besides: the card's texts, and its options as they are shown."""
    history: list[dict[str, str]] = field(default_factory=list)
    """Messages before the question, of a conversation."""
    reason: str | None = None
    """What follows the answer, where the card says that something does."""
    found: list[dict[str, str]] = field(default_factory=list)
    """Sequences that stand in a conversation's questions and earlier answers, as records have inputs."""

    @property
    def opening(self) -> tuple[list[str], str]:
        """Inputs and answer by which rows are told to be the same: of a conversation its first question, and the answer to that."""
        spoken = [message["content"] for message in self.history if message["role"] != "system"]
        return (spoken[:1], spoken[1]) if spoken else (list((self.inputs or self.texts).values()), self.answer)


class TaskLedger(Ledger):
    """A ledger that knows rows which are left out on purpose (another task's, too long for the card) from broken ones."""

    def __init__(self, max_broken: float = 1.0) -> None:
        super().__init__(max_broken)
        self.changes = {"cropped": 0, "beyond_grid": 0}

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "left_out": self.left_out, **self.changes}


class Reader:
    """Reads the files of one task, as often as wanted, one row in memory at a time.

    Raises:
        UserError: a label file or a file of sequences that is missing or does not fit the card.
    """

    def __init__(self, card: TaskCard, source: Path) -> None:
        self.source = source
        labels, self.note = resolve_labels(card, source)
        self.card = card.model_copy(update={"labels": labels})
        self._row_id = card.row_id or ["id"]
        self._reasons, self._meanings = card.reasons, {label.name: label.meaning for label in labels.values()}
        files = {item.sequences for item in card.inputs if item.sequences}
        genomes = {item.region.genome for item in card.inputs if item.region is not None}
        self._inputs = InputReader(
            card,
            {file: read_sequences_by_id(source / file) for file in sorted(files)},
            {file: Genome(source / file) for file in sorted(genomes)},
        )

    def read(self, file: str, ledger: TaskLedger, split: str = "") -> Iterator[Example]:
        """Usable rows of a file, or of all that fit a pattern; the others go to the ledger with file, line and reason.

        Args:
            file: relative to the source folder.
            split: what the card's `split_where` is asked for.

        Raises:
            UserError: no such file, or one that cannot be read.
        """
        seen: set[int] = set()
        of_split = self.card.split_where.get(split, {})  # type: ignore[call-overload]
        found = places(self.source, file, self.card.where)
        if not found:
            raise UserError(f"{self.source / file}: no such file; set source")
        for place in found:
            prefix = f"{place.own}:" if place.own else ""
            last = number = 0
            for row in read_rows(self.card, place.path, place.fields):
                ledger.read += 1
                last, number = row.line, number + 1 if row.line == last else 1
                unnamed = f"{row.line}" if number == 1 else f"{row.line}.{number}"  # an array may be one line, a conversation several rows
                try:
                    example = self._example(row, seen, ledger, of_split, prefix, unnamed)
                except Rejected as problem:
                    where = at(str(place.path), row.line)
                    where = f"{where} ({problem.detail})" if problem.detail else where
                    ledger.reject(problem.reason, where, on_purpose=problem.on_purpose)
                    continue
                example.file = place.name
                ledger.written += 1
                yield example

    def _example(self, row: Row, seen: set[int], ledger: TaskLedger, of_split: dict[str, Patterns], prefix: str, unnamed: str) -> Example:
        if row.problem:
            raise Rejected(row.problem)
        if row.rejected is not None:
            raise row.rejected
        card, values = self.card, row.values
        for column, patterns in card.where.items():
            if not fits(str(values.get(column, "")), patterns):
                raise Rejected("of another task", on_purpose=True)
        for column, patterns in of_split.items():
            if not fits(str(values.get(column, "")), patterns):
                raise Rejected("of another split", on_purpose=True)
        name = "+".join([str(values.get(column, "")).strip() for column in self._row_id])
        if prefix and name and not card.row_id:
            name = prefix + name  # each file has ids of its own
        # eight bytes a row; two ids that share them are one chance in millions of millions
        if name and (identity := hash(name)) in seen:
            raise Rejected("duplicated id", f"'{name[:60]}'")
        raw, texts, history, found = self._raw_label(values), {}, [], []
        if card.format == "chat":
            history, texts = values["history"], {"question": values["question"]}
            found = _tagged([*(message["content"] for message in history), values["question"]], raw, ledger)
        elif card.texts:
            texts = {column: _text(column, values) for column in card.texts}
        if card.options:
            raw, texts["options"] = self._lettered(raw, values, name or prefix + unnamed)
        label, answer, beyond = card.answers.read(card, raw)
        reason = None if card.answer_then_reason is None else self._reason(card.answer_then_reason, values, answer)
        inputs, cropped = self._inputs.read(values)
        ledger.changes["cropped"] += cropped
        ledger.changes["beyond_grid"] += beyond
        if name:
            seen.add(identity)
        example = Example(name or prefix + unnamed, row.line, inputs, label, answer, row.meta, texts=texts, history=history)
        example.found, example.reason = found, reason
        return example

    def _reason(self, template: str, values: dict[str, Any], answer: str) -> str:
        if "\n" in answer:
            raise Rejected("an answer of several lines, and its reason begins on the next")
        shown = {column: _text(column, values, "reason") for column in self._reasons}
        return template.format_map({**shown, "answer": answer, "meaning": self._meanings.get(answer, "")})

    def _lettered(self, raw: Any, values: dict[str, Any], name: str) -> tuple[str, str]:
        """The letter of the right option, and the row's options as they are shown, in an order that follows from its name."""
        cells = [values.get(column, "") for column in self.card.options]
        listed = [_checked(str(item)) for cell in cells for item in (cell if isinstance(cell, list) else [cell])]
        letters, right = list(self.card.labels), str(raw).strip()
        if not all(listed) or len(set(listed)) < len(listed) or not 1 < len(listed) <= len(letters):
            raise Rejected(f"options that are empty or the same, or not 2 to {len(letters)} of them", f"{len(listed)} options")
        if right not in listed:
            raise Rejected("the answer is none of the options", f"'{right[:60]}'")
        random.Random(f"{self.card.id}/{name}").shuffle(listed)
        shown = "\n".join(f"{letter}) {text}" for letter, text in zip(letters, listed, strict=False))
        return letters[listed.index(right)], shown

    def _raw_label(self, values: dict[str, Any]) -> Any:
        card = self.card
        raw = values.get(card.label or "label", "")
        if card.format == "uniprot" and not raw:
            raise Rejected("entry without this annotation", on_purpose=True)
        if card.label_key is not None:
            try:
                found = json.loads(raw)
            except (TypeError, ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise Rejected("label is no JSON object", f"'{str(raw)[:60]}'")
            if (raw := found.get(card.label_key)) is None:
                raise Rejected("of another task", on_purpose=True)
        return raw


def _text(column: str, values: dict[str, Any], what: str = "prompt") -> str:
    text = values.get(column, "")
    if isinstance(text, list):
        text = "\n".join(str(part) for part in text)
    if not text.strip():
        raise Rejected(f"no text for the {what}", column, on_purpose=what == "reason")
    return _checked(text)


def _checked(text: str) -> str:
    """A text of the row without outer blanks. Raises Rejected where it would pass for a sequence."""
    if tag := next((tag for tag in TAGS if tag in text), None):
        raise Rejected("a sequence's tag inside a text", f"'{tag}'")
    return text.strip()


def _tagged(texts: list[str], answer: str, ledger: TaskLedger) -> list[dict[str, str]]:
    """The sequences between tags in the texts, as records have inputs. Raises Rejected where a tag or a letter there or in the answer
    is not what it seems."""
    found: list[dict[str, str]] = []
    shown = 0  # before the answer
    for text in [*texts, answer]:
        shown = len(found)
        wrong = next(remarks(text), "") or ("" if all(span.closed for span in spans(text)) else "a tag is never closed")
        if wrong:
            raise Rejected("a tag that is not closed, closes nothing, or holds other letters", wrong)
        for span in sequences(text):
            try:
                letters = span.alphabet.read("".join(text[span.start : span.end].split()))
            except BadSequence as problem:
                raise Rejected(problem.reason, problem.detail) from None
            found.append({"name": f"sequence {len(found) + 1}", "modality": span.alphabet.name, "letters": letters})
    if any(BARE.search(with_letters(text, lambda letters: "")) for text in [*texts, answer]):
        ledger.notes[BARE_NOTE] += 1
    return found[:shown]


class InputReader:
    """The sequences of a row: found by the card's columns, checked, and cropped as the card says.

    Args:
        sequences: file named by an input -> its letters by id.
        genomes: file named by a region -> the genome.
    """

    def __init__(self, card: TaskCard, sequences: dict[str, dict[str, str]], genomes: dict[str, Genome] | None = None) -> None:
        self.card, self._sequences, self._genomes = card, sequences, genomes or {}
        self._items = [
            (
                item,
                item.max_letters or card.max_letters,
                ALPHABETS[item.modality].read,
                item.elsewhere or item.type_column,
            )
            for item in card.inputs
        ]

    def read(self, values: dict[str, Any]) -> tuple[dict[str, str], bool]:
        """Input name -> letters, and whether one was cropped. Raises Rejected with the reason."""
        inputs, cropped = {}, False
        for item, most, clean, elsewhere in self._items:
            raw = str(values.get(item.column, ""))
            try:
                letters = clean(self._found(raw.strip(), values, item) if elsewhere else raw)
            except BadSequence as problem:
                raise Rejected(problem.reason, f"{item.name}: {problem.detail}" if problem.detail else item.name) from None
            if len(letters) > most:
                letters, cropped = self._crop(letters, most, item.name, values), True
            inputs[item.name] = letters
        return inputs, cropped

    def _found(self, raw: str, values: dict[str, Any], item: Input) -> str:
        """The letters inside a cell's text, or those that it names by an id, after checking what the type column says."""
        if item.type_column is not None:
            said = str(values.get(item.type_column, "")).strip()
            if item.modality not in TYPES.get(said, ()):
                raise Rejected("type column disagrees with the card", f"'{said[:20]}' for {item.name}, which is {item.modality}")
        if item.region is not None:
            return self._stretch(item.region, values)
        if item.inside is not None:
            part = re.search(item.inside, raw)
            if part is None:
                raise Rejected("no sequence inside the text", f"{item.name}: '{raw[:60]}'")
            raw = "".join((part[1] or "").split())  # it may be wrapped, as in FASTA
        if raw and item.sequences is not None:
            found = self._sequences[item.sequences].get(raw)
            if not found:
                raise Rejected("no sequence of this id", f"{item.name}: '{raw[:60]}'")
            raw = found
        return raw

    def _stretch(self, region: Region, values: dict[str, Any]) -> str:
        name, *places = (str(values.get(column, "")).strip() for column in region.columns)
        shown = f"{name}:{'-'.join(places[:2])}"
        start, end = map(whole_number, places[:2])
        if start is None or end is None:
            raise Rejected("start or end is no number", shown)
        if start >= end:
            raise Rejected("an empty region", shown)
        strand = places[2] if region.strand else "+"
        if strand not in ("+", "-", "."):
            raise Rejected("strand is none of + - .", f"'{strand[:20]}'")
        place = Place(start - region.flank, end + region.flank, strand == "-")
        try:
            return cut(partial(self._genomes[region.genome].letters, name), [place])
        except KeyError:
            raise Rejected("no such chromosome", f"'{name[:60]}'") from None
        except IndexError as problem:
            raise Rejected("beyond the ends of the chromosome", f"{shown} and {region.flank} beside; {problem}") from None

    def _crop(self, letters: str, most: int, name: str, values: dict[str, Any]) -> str:
        crop = self.card.crop
        if crop == "refuse":
            raise Rejected(f"longer than {most} letters", f"{name}: {len(letters)}", on_purpose=True)
        last = len(letters) - most
        if crop == "column":
            said = str(values.get(self.card.crop_column or "", "")).strip()
            if (place := whole_number(said)) is None or place >= len(letters):
                raise Rejected("no position inside the sequence to crop around", f"'{said[:20]}'")
            start = min(max(place - most // 2, 0), last)
        else:
            start = {"start": 0, "centre": last // 2, "end": last}[crop]
        return letters[start : start + most]
