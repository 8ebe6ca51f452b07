"""The leak-controlled split as a records folder, of the same format as the official one."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from artefacts.errors import Ledger, UserError, at, ensure
from artefacts.folder import MANIFEST, fingerprint, new_folder, read_manifest, write_manifest
from data_convert.splits.assign import MIXED, TURNED, Split, crossing
from data_convert.splits.groups import write_groups
from data_convert.splits.pool import SPLITS, Pool, stream
from data_convert.tasks.examples import Example
from data_convert.tasks.records import RecordWriter, answer_of

STAGE = "tasks"
"""What later stages ask for: they need not know that the split is another one."""


def rewrite(pool: Pool, split: Split, source: Path, out: Path, *, recipe: dict[str, Any], rule: str, overwrite: bool = False) -> None:
    """Write the records of `source` under another split, with cards and manifest.

    Beside them stands groups.tsv: which test records are related, for intervals that draw whole groups (groups.py).
    A record that changes its split gets an id of its new split (`task/test/train-17`) and is written as the conversion would have
    written it there, wording included; inputs, answer, label, source and meta stay. One without a sequence stays in its split.

    Args:
        recipe: what made the split, for the manifest.
        rule: one sentence for the cards' split_note.

    Raises:
        UserError: output exists; or the records were made by something else than `convert tasks`.
    """
    ensure(not crossing(pool, split).any(), "a group stands on two sides")
    made = (read_manifest(source).get("recipe") if (source / MANIFEST).is_file() else None) or {}
    writers = {card.id: RecordWriter(card, made.get("wording", "held_out"), made.get("seed", 0)) for card in pool.cards}
    ledgers = {card.id: Ledger() for card in pool.cards}
    with new_folder(out, overwrite=overwrite) as folder:
        tested: dict[int, str] = {}
        with ExitStack() as stack:
            handles = {name: stack.enter_context((folder / f"{name}.jsonl").open("w", encoding="utf-8")) for name in SPLITS}
            bar = tqdm(stream(source), total=len(pool.task), desc="write", unit="record", unit_scale=True, disable=None)
            number = -1
            for path, line, record in bar:
                ledger = ledgers[record["task"]]
                ledger.read += 1
                if not record["inputs"]:
                    ledger.written += 1
                    handles[record["split"]].write(writers[record["task"]].line(record))
                    continue
                number += 1
                if split.split[number] < 0:
                    ledger.reject(TURNED if pool.turned[number] else MIXED, f"{at(path.name, line)} ({record['id']})")
                    continue
                ledger.written += 1
                name = SPLITS[split.split[number]]
                try:
                    moved = _moved(record, name, writers[record["task"]])
                except (KeyError, TypeError, IndexError, ValueError):
                    raise UserError(f"{at(path, line)}: no record of `llama-gene convert tasks`; convert the tasks again") from None
                handles[name].write(moved)
                if name == "test":
                    tested[number] = json.loads(moved)["id"]
        write_groups(folder, pool, split.group, tested)
        counts, written = {}, []
        for card, row in zip(pool.cards, split.report, strict=True):
            plain = pool.plain.get(card.id, dict.fromkeys(SPLITS, 0))
            sizes = {name: (row["official"][name], row["leak_controlled"][name], plain[name]) for name in SPLITS}
            n = {name: now + own for name, (before, now, own) in sizes.items() if before or now or own}
            stay = [f"{sum(plain.values()):,} records without a sequence stay where they are"] if any(plain.values()) else []
            note = "; ".join([rule, *split.notes[card.id], *stay, f"official split: {card.split_note}"])
            written.append(card.model_copy(update={"n": n, "split_note": note}).model_dump(mode="json"))
            counts[card.id] = {**ledgers[card.id].as_dict(), "n": n, "inputs_also_in_train": {name: 0 for name in n if name != "train"}}
        (folder / "cards.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_manifest(folder, STAGE, recipe=recipe, inputs={"records": fingerprint(source)}, counts=counts, split="leak-controlled")


def _moved(record: dict[str, Any], name: str, writer: RecordWriter) -> str:
    """The record's line in the split `name`: as it is, or as the conversion writes a row `train-17` of the same file there."""
    old = record["split"]
    if old == name:
        return writer.line(record)
    prefix = f"{record['task']}/"
    row = record["id"].removeprefix(f"{prefix}{old}/").removeprefix(prefix)
    file, line = record["source"].rsplit(":", 1)
    own = len(writer.card.inputs)
    inputs = {item["name"]: item["letters"] for item in record["inputs"][:own]}
    meta, texts = record.get("meta", {}), record.get("texts", {})
    history, reason = record["prompt"][:-1], record.get("reason")
    example = Example(f"{old}-{row}", int(line), inputs, record["label"], answer_of(record), meta, file, texts, history, reason)
    example.found = record["inputs"][own:]
    return writer.line(next(writer.records(example, name)))
