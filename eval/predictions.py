"""Predictions as files: which systems there are, and their lines in the records' order, each checked against its record."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artefacts.errors import UserError, at
from artefacts.folder import fingerprint, noted_part, parsed_json
from data_convert.tasks.kinds import KINDS
from data_convert.tasks.records import with_choices
from eval.ask.controls import CONTROLS

Line = dict[str, Any]
DIFFERS = ".differs.json"
"""End of the name beside a head's predictions: task -> where its recipe is not LucaOne's."""
FIELDS: dict[str, Any] = {
    **dict.fromkeys(("id", "task", "split", "kind"), str),
    **{"gold": object, "choices": list, "logprobs": list | None, "predicted": object},
    **{"text": str | None, "parsed": object, "status": str | None},
}
"""Of a line, with their types.

Optional: `item_scores`, item -> score from 0 to 1, of answers that are sets; `label_tokens`, of each choice."""


@dataclass(frozen=True)
class Run:
    """One file of predictions: a system, and the training run it comes from."""

    name: str
    """The folder."""
    path: Path


def head_of(record: Line) -> Line:
    """What a prediction repeats of its record, so that it can be scored and checked against it."""
    same = {name: record[name] for name in ("id", "task", "split", "kind")}
    return {**same, "gold": record["label"], "choices": record["choices"]}


def read_lines(path: Path) -> Iterator[Line]:
    """JSON lines, one at a time. Raises UserError with the line where one cannot be read."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folder that the conversion of tasks wrote")
    with path.open("rb") as handle:
        for number, text in enumerate(handle, start=1):
            try:
                found = parsed_json(text)
            except ValueError as error:
                raise UserError(f"{at(path, number)}: not a JSON line ({error}); write the file again") from None
            if not isinstance(found, dict):
                raise UserError(f"{at(path, number)}: no JSON object; write the file again")
            yield found


def by_task(lines: Iterator[Line]) -> dict[str, list[Line]]:
    """Group lines by task, order kept."""
    tasks: dict[str, list[Line]] = {}
    for line in lines:
        tasks.setdefault(line["task"], []).append(line)
    return tasks


def prediction_lines(path: Path) -> Iterator[Line]:
    """Lines of a system, each with all of `FIELDS`."""
    for number, line in enumerate(read_lines(path), start=1):
        wrong = [field for field, kind in FIELDS.items() if field not in line or not isinstance(line[field], kind)]
        if wrong:
            raise UserError(f"{at(path, number)}: a prediction without '{wrong[0]}', or one of another kind; write the file again")
        yield line


def find_runs(folders: Sequence[Path], records: Path, parts: Sequence[Path] = ()) -> dict[str, list[Run]]:
    """System -> its runs. One system in several folders is one system trained with several seeds.

    Args:
        parts: other folders of records that predictions may come from (`check_parts`).

    Raises:
        UserError: a folder without predictions, the same predictions twice, a control of an unknown kind, or predictions whose
            manifest says that they were made from other records.
    """
    found: dict[str, list[Run]] = {}
    prints: dict[tuple[str, str], Path] = {}
    these, names = {fingerprint(path): path for path in (records, *parts)}, Counter(folder.name for folder in folders)
    for folder in folders:
        paths = sorted(folder.glob("*.jsonl"))
        if not paths:
            raise UserError(f"{folder}: no predictions (*.jsonl) here; predict with the model or the baselines first")
        made_from = noted_part(folder, "inputs").get("records")
        if made_from is not None and str(made_from) not in these:
            raise UserError(
                f"{folder}: predicted from other records (fingerprint {made_from}) than {', '.join(map(str, these.values()))}; "
                "predict again from these, score against those, or name those in parts= where theirs are among these"
            )
        for path in paths:
            control = path.stem.partition("@")[2]
            if control and control not in CONTROLS:
                raise UserError(f"{path}: '{control}' is no control; known after the @: {', '.join(CONTROLS)}")
            key = (path.stem, fingerprint(path))
            if key in prints:
                raise UserError(f"{path}: system '{path.stem}' is the same in {prints[key].parent}; give each system once")
            prints[key] = path
            name = folder.name if names[folder.name] == 1 else f"{folder.parent.name}/{folder.name}"
            found.setdefault(path.stem, []).append(Run(name, path))
    return dict(sorted(found.items()))


def check_parts(records: Path, parts: Sequence[Path]) -> None:
    """Refuse a folder whose test records do not stand in `records` just so, sequences and prompts included."""
    if not parts:
        return
    known = {record["id"]: record for record in with_choices(records, read_lines(records / "test.jsonl"))}
    for part in parts:
        for record in with_choices(part, read_lines(part / "test.jsonl")):
            if known.get(record["id"]) != record:
                what = "has another record of that id" if record["id"] in known else "has no record of that id"
                raise UserError(
                    f"{part / 'test.jsonl'}: '{record['id']}': {records} {what}; predict again from the records that are scored"
                )


def aligned(truth: list[Line], lines: list[Line], path: Path) -> list[Line]:
    """The system's lines in the records' order, after checking that they are the records' own."""
    task, choices = truth[0]["task"], truth[0]["choices"]
    known = {line["id"]: line for line in lines}
    if len(known) != len(lines):
        twice = next(name for name, times in Counter(line["id"] for line in lines).items() if times > 1)
        raise UserError(f"{path}: task {task}: record '{twice}' is predicted twice; write the file again")
    ids = [record["id"] for record in truth]
    missing = [name for name in ids if name not in known]
    if missing:
        raise UserError(
            f"{path}: task {task}: {len(missing)} of {len(ids)} test records have no prediction, the first is '{missing[0]}'; "
            "predict the whole test split, a part of it is no score"
        )
    if len(known) > len(ids):
        foreign = sorted(known.keys() - set(ids))
        raise UserError(
            f"{path}: task {task}: {len(foreign)} predictions are for no test record, the first is '{foreign[0]}'; "
            "use the records they were made from"
        )
    for record in truth:
        line = known[record["id"]]
        if line["gold"] != record["label"] or line["choices"] != choices:
            raise UserError(
                f"{path}: '{record['id']}' has gold {line['gold']!r}, the record {record['label']!r} (or other choices); "
                "predict again from these records"
            )
        if KINDS[record["kind"]].one_label:
            for field in ("predicted", "parsed"):
                if line[field] is not None and line[field] not in choices:
                    raise UserError(f"{path}: '{record['id']}': {field} {line[field]!r} is none of the choices; null stands for no answer")
        for field in ("logprobs", "label_tokens"):
            if line.get(field) is not None and len(line[field]) != len(choices):
                raise UserError(f"{path}: '{record['id']}': {len(line[field])} {field} for {len(choices)} choices; predict again")
    return [known[name] for name in ids]
