"""The original's CSV layout; every mistake found before a model is loaded.

Its readers go by column position: single `seq_id,seq_type,seq,label`, pair `seq_id_a,seq_id_b,seq_type_a,seq_type_b,seq_a,seq_b,label`.
A label is a class index, a class name (of a whole data set, where names are numbers of another class), a number (regression) or a
list of indices (multilabel), read as JSON and never evaluated as code.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from artefacts.errors import Ledger, UserError, say_read
from data_convert.tasks.kinds import KINDS, AnswerKind, class_index
from data_convert.tasks.labels import read_label_file
from data_convert.tasks.mixing import SPLITS
from eval.baselines.embedding.inputs import open_table, paired_rows, usable
from eval.baselines.training.examples import Data, Example
from eval.baselines.training.recipe import TrainRecipe
from sequences.tables import Table

SINGLE, PAIR = 4, 7
"""Columns."""


def class_names(kind: AnswerKind, path: Path) -> list[str]:
    """Class names of label.txt; of two classes without the file 0 and 1, of numbers none."""
    if kind.number:
        return []
    return ["0", "1"] if kind.two_labels and not path.is_file() else read_label_file(path)


def _named(names: list[str], files: Iterable[Path], labels: Path) -> bool:
    """Whether the label cells of a data set are names, where a name is the index of another class; its files have one format.

    Raises:
        UserError: they can be read both ways, or neither.
    """
    if all(class_index(name, names) in (None, code) for code, name in enumerate(names)):
        return False  # both readings agree
    cells = {row.cells[-1] for path in files for row in Table(path) if row.cells}
    indices, named = all(class_index(cell, names) is not None for cell in cells), cells <= set(names)
    if indices == named:
        either = "are indices and names alike" if named else "are neither all indices nor all names"
        raise UserError(
            f"{labels}: classes are called by numbers that are indices of others, and the label cells {either}; "
            "put a word before the names in label.txt (class 1) and indices from 0 into the cells"
        )
    return named


def from_csv(recipe: TrainRecipe) -> Data:
    """The CSV files of a folder.

    Raises:
        UserError: files missing, or a bad row (file:line).
    """
    folder, kind = recipe.data, KINDS[recipe.loss.kind]
    names = class_names(kind, folder / "label.txt")
    if kind.two_labels and len(names) != 2:
        raise UserError(f"{folder / 'label.txt'}: a binary task has two classes, not {len(names)}")
    files = {}
    for split in SPLITS:
        path = next((p for p in (folder / split / f"{split}.csv", folder / f"{split}.csv") if p.is_file()), None)
        if path is not None:
            files[split] = path
        elif split != "dev":
            raise UserError(
                f"{folder / split / f'{split}.csv'}: no such file; the layout is train/train.csv, dev/dev.csv, test/test.csv, label.txt"
            )
    data = Data(recipe.loss.kind, names, {})
    named = kind.one_label and _named(names, files.values(), folder / "label.txt")
    for split, path in files.items():
        ledger = Ledger(recipe.max_broken)
        data.splits[split] = _read_split(path, data, recipe.network.pair, ledger, named=named)
        data.ledgers[split] = ledger.as_dict()
        say_read(str(path), data.ledgers[split], recipe.out / "rejected.csv")
        if ledger.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(ledger.reasons.items()))
            data.notes.append(f"{split}: {ledger.rejected} of {ledger.read} rows set aside ({reasons})")
    return data


def _read_split(path: Path, data: Data, pair: bool, ledger: Ledger, *, named: bool) -> list[Example]:
    """Rows of one file; a row with a bad sequence is set aside and counted, one with a bad label or form is refused."""
    table = open_table(path)
    wanted = PAIR if pair else SINGLE
    if len(table.names) != wanted:
        raise UserError(
            f"{path}: {len(table.names)} columns, where {'pairs have 7' if pair else 'single sequences have 4'}; is network.net right?"
        )
    examples: list[Example] = []
    seen: dict[str, str] = {}
    for row, items in usable(paired_rows(path, 1 + pair), ledger, "set_aside", data.rejected):
        if (first := seen.setdefault(row.name, row.where)) != row.where:
            raise UserError(f"{row.where}: id '{row.name}' stands also in line {first.rpartition(':')[2]}; ids must be unique in a file")
        try:
            label = KINDS[data.kind].read_code(row.cells[-1], data.names, named)
        except ValueError as error:
            raise UserError(f"{row.where}: {error}; mend the label") from None
        examples.append(Example(row.name, items, label))
        ledger.written += 1
    ledger.close(path, Ledger(), "row")
    return examples
