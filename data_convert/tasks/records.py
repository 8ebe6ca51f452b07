"""Instruction records: written as JSON lines by `RecordWriter`, and read back, each checked before any of them is used.

Records of a task whose labels are too many to list carry no `choices`; they stand in cards.json beside the records, and readers put
them back (`with_choices`), the same list for every record.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artefacts.command import path_exists
from artefacts.errors import UserError, at
from artefacts.folder import parsed_json
from data_convert.tasks.cards import TaskCard, read_cards
from data_convert.tasks.examples import Example
from data_convert.tasks.kinds import KINDS, are_texts, is_text
from data_convert.tasks.prompts import fill
from sequences.alphabets import ALPHABETS, reverse_complement

INPUT = ("name", "modality", "letters")
"""Fields of a record's inputs."""
REVERSED = "/rc"
"""Ends the id of a record that is the reverse complement of another one."""


class RecordWriter:
    """Turns the examples of one task into records. A record depends on its row, the card and the seed, on nothing before it."""

    def __init__(self, card: TaskCard, wording: str, seed: int) -> None:
        self.card, self.seed = card, seed
        self._rng = random.Random()  # seeded anew for each row: making one seeds it twice
        self._templates = [*card.prompts.train, *([card.prompts.eval] if wording == "shared" else [])]
        self._choices = card.choices
        self._listed = self._choices if card.list_choices else None
        self._tags = {item.name: (ALPHABETS[item.modality].open_tag, ALPHABETS[item.modality].close_tag) for item in card.inputs}
        self._encode = json.JSONEncoder(ensure_ascii=False).encode

    def line(self, record: dict[str, Any]) -> str:
        """The JSON line."""
        return self._encode(record) + "\n"

    def records(self, example: Example, split: str, *, both_strands: bool = False) -> Iterator[dict[str, Any]]:
        """One record, and with `both_strands` that of the reverse complement (of all inputs)."""
        identity = f"{self.card.id}/{split}/{example.row}"
        yield self._record(example, example.inputs, identity, split)
        if both_strands:
            turned = {name: reverse_complement(letters) for name, letters in example.inputs.items()}
            yield self._record(example, turned, identity + REVERSED, split)

    def _record(self, example: Example, inputs: dict[str, str], identity: str, split: str) -> dict[str, Any]:
        card = self.card
        template, names, history = card.prompts.eval, self._choices, example.history
        if split == "train":
            rng = self._rng
            rng.seed(f"{self.seed}/{identity}")  # a stream of its own: a row's prompt does not depend on the rows before it
            template = rng.choice(self._templates)
            if card.list_choices and card.answers.labelled:
                names = names.copy()
                rng.shuffle(names)
        fields = {name: f"{self._tags[name][0]}{letters}{self._tags[name][1]}" for name, letters in inputs.items()}
        fields |= example.texts
        if card.earlier and not history:
            roles = ("user", "assistant") * len(card.earlier)
            history = [{"role": role, "content": fill(turn, fields, names)} for role, turn in zip(roles, card.earlier, strict=False)]
        record: dict[str, Any] = {
            "id": identity,
            "task": card.id,
            "split": split,
            "kind": card.kind,
            "prompt": [*history, {"role": "user", "content": fill(template, fields, names)}],
            "completion": [{"role": "assistant", "content": example.answer}],
            "label": example.label,
            "choices": self._listed,
            "inputs": [{"name": item.name, "modality": item.modality, "letters": inputs[item.name]} for item in card.inputs]
            + example.found,
            "source": f"{example.file}:{example.line}",
        }
        if example.texts:
            record["texts"] = example.texts
        if example.reason is not None:
            record["completion"][0]["content"] += f"\n{example.reason}"
            record["reason"] = example.reason
        if self._listed is None:
            del record["choices"]
        if example.meta:
            record["meta"] = example.meta
        return record


def answer_of(record: dict[str, Any]) -> str:
    """The answer that is trained, without the reason that may follow it on the next line."""
    answer: str = record["completion"][0]["content"]
    return answer.removesuffix(f"\n{record['reason']}") if "reason" in record else answer


def with_choices(folder: Path, records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Records with the choices of their cards where they carry none.

    Raises:
        UserError: such a record, and no card for it in cards.json.
    """
    known: dict[str, list[str]] | None = None
    for record in records:
        if isinstance(record, dict) and "choices" not in record and "task" in record:
            if known is None:
                known = {card.id: card.choices for card in read_cards(folder)}
            if not isinstance(record["task"], str) or record["task"] not in known:
                raise UserError(f"{folder}: records of {record['task']}, which has no card in cards.json; convert the tasks again")
            record["choices"] = known[record["task"]]
        yield record


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """All instruction records of a file, checked. Raises UserError as `each_record` does."""
    return list(each_record(path))


def each_record(path: str | Path) -> Iterator[dict[str, Any]]:
    """Read and check instruction records one at a time.

    Raises:
        UserError: file:line of a line that is not JSON, lacks a field or has one of another type, has no answer or several, answers
            outside its choices or other than its label says, or repeats an id.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such records; run `llama-gene convert tasks` first")
    seen: set[str] = set()
    number = 0

    def lines() -> Iterator[dict[str, Any]]:
        nonlocal number
        with Path(path).open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip():
                    continue
                try:
                    yield parsed_json(line)
                except ValueError as error:
                    raise UserError(f"{at(path, number)}: not a JSON line ({error}); convert the tasks again") from None

    for record in with_choices(Path(path).parent, lines()):
        if problem := _problem(record):
            raise UserError(f"{at(path, number)}: {problem}; mend the line or convert the tasks again")
        if record["id"] in seen:
            raise UserError(f"{at(path, number)}: id '{record['id']}' stands in the file twice; ids must be unique")
        seen.add(record["id"])
        yield record


def _problem(record: Any) -> str | None:
    """What is wrong with a record, or None."""
    if not isinstance(record, dict):
        return "not a record"
    for field in ("id", "task", "split", "kind", "prompt", "completion", "choices", "inputs"):
        if field not in record:
            return f"no '{field}'"
    for field in ("id", "task", "split", "kind"):
        if not record[field] or not is_text(record[field]):
            return f"its {field} is no text"
    if record["kind"] not in KINDS:
        return f"its kind '{record['kind']}' is none of {', '.join(KINDS)}"
    return problem_of_inputs(record) or _problem_of_messages(record) or _problem_of_label(record)


def problem_of_inputs(record: dict[str, Any]) -> str | None:
    """What is wrong with the sequences of a record that has `inputs`, or None."""
    inputs = record["inputs"]
    if not isinstance(inputs, list) or not all(isinstance(item, dict) and all(map(is_text, map(item.get, INPUT))) for item in inputs):
        return f"its inputs are no list of sequences with {', '.join(INPUT)}"
    return None


def _problem_of_messages(record: dict[str, Any]) -> str | None:
    for field, role in (("prompt", "user"), ("completion", "assistant")):
        messages = record[field]
        none = "the record has no answer (completion)" if field == "completion" else "the record has no prompt"
        if not isinstance(messages, list) or not messages:
            return none
        for message in messages:
            if not (isinstance(message, dict) and is_text(message.get("role")) and is_text(message.get("content"))):
                return f"a message of the {field} has no role or content that is text"
        if not messages[-1]["content"].strip():
            return none
        if messages[-1]["role"] != role:
            return f"the {field} does not end with the {role}'s words"
    return "its completion has several messages, and one answer is trained" if len(record["completion"]) > 1 else None


def _problem_of_label(record: dict[str, Any]) -> str | None:
    label, choices = record.get("label"), record["choices"]
    if label in (None, ""):
        return "the record has no answer (label)"
    if not are_texts(choices):
        return "its choices are no list of texts"
    if not is_text(record.get("reason", "")) or ("\n" in (answer := answer_of(record)) and "reason" in record):
        return "its reason is not the text behind the first line of its answer"
    return KINDS[record["kind"]].problem(label, choices, answer)


def check_inputs(model: Path | None, records: Path, *splits: str) -> dict[str, list[dict[str, Any]]]:
    """Refuse a missing model and bad records before the work imports torch, which takes seconds. Returns the records by split."""
    if model is not None:
        path_exists(model / "config.json", "model", "give a model folder: of `tokenizer extend`, `pretrain` or `merge`")
    return {split: read_records(records / f"{split}.jsonl") for split in splits}
