"""What a label cell says: class values, LucaOne's `label.txt`, numbers, texts, lists. Nothing is ever evaluated as code."""

import re
from pathlib import Path

from artefacts.errors import UserError, at
from data_convert.tasks.card_fields import Label
from data_convert.tasks.cards import TaskCard
from sequences.files import numbered_lines
from sequences.tables import Table, whole_number


def read_label_file(path: Path) -> list[str]:
    """Class names of a `label.txt`: below the header `label` one name per line, or below a header with a comma `index,name`.

    Raises:
        UserError: missing or empty file, not UTF-8, an empty or repeated name, or indices that are not 0, 1, 2, ..., each once.
    """
    lines = numbered_lines(path)
    head = next((raw for _, raw in lines if raw.strip()), b"")
    indexed = b"," in head
    names: dict[int, str] = {}
    for row in Table(path, lines, names=["index", "name"] if indexed else [], delimiter="," if indexed else "\t"):
        if row.problem:
            raise UserError(f"{at(path, row.line)}: {row.problem}; mend the label file")
        index, name = row.cells if indexed else (str(len(names)), "\t".join(row.cells))
        if (number := whole_number(index)) is None:
            raise UserError(f"{at(path, row.line)}: no index, but '{index}'; write index,name")
        if not name or name in names.values() or number in names:
            raise UserError(f"{at(path, row.line)}: {'a name or an index twice' if name else 'no name'} ('{name}'); mend the label file")
        names[number] = name
    if not names:
        raise UserError(f"{path}: no class names below the header line; fetch the label file again")
    if sorted(names) != list(range(len(names))):
        raise UserError(f"{path}: indices are not 0 to {len(names) - 1}, each once; mend the label file")
    return [names[index] for index in range(len(names))]


def resolve_labels(card: TaskCard, source: Path) -> tuple[dict[str, Label], str | None]:
    """Value in the file -> class, and what the split note must add about where the names come from.

    The names of a label file count where there is one: a card's own labels are matched to it by name, or, where the card
    names indices, by number.

    Raises:
        UserError: no label file where the card alone does not know the classes, or one that contradicts the card.
    """
    if card.label_file is None:
        return card.labels, None
    path = source / card.label_file
    indexed = list(card.labels) == [str(index) for index in range(len(card.labels))]
    if not path.is_file():
        if not card.labels:
            raise UserError(f"{path}: no such file, and only it knows the classes of {card.id}; fetch it with the data")
        values = card.labels.values()
        return {str(index): label for index, label in enumerate(values)}, "no label.txt, so classes are in the card's order"
    names = read_label_file(path)
    if not card.labels:
        plain = (" ".join(re.sub("[,;]", " ", name).split()) for name in names)  # without the marks that separate names in a list
        return {str(index): Label(name=name, meaning="as label.txt names it") for index, name in enumerate(plain)}, None
    if len(names) != len(card.labels):
        raise UserError(f"{path}: {len(names)} classes, where the card {card.id} has {len(card.labels)}; mend the card")
    if set(names) == set(card.labels):
        return {str(index): card.labels[name] for index, name in enumerate(names)}, None
    if indexed and not all(name.isdigit() for name in names):
        pairs = ", ".join(f"{index} {name}" for index, name in enumerate(names))
        return card.labels, f"label.txt names the classes {pairs}"
    raise UserError(f"{path}: its classes ({', '.join(names)}) are not the card's ({', '.join(card.labels)}); mend the card {card.id}")
