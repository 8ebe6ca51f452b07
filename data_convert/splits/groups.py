"""groups.tsv beside a records folder: the group of related sequences of each test record.

Records of one group are no independent observations; the evaluation's intervals draw whole groups where this file is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from artefacts.errors import UserError, at
from data_convert.splits.pool import Ints, Pool

FILE = "groups.tsv"
HEADER = "id\tgroup"


class GroupWriter:
    """Collects rows while records are written."""

    def __init__(self, pool: Pool, group: Ints) -> None:
        """Args: group: [nodes] of the split."""
        self._sides, self._group_of_side, self._rows = pool.sides, group[pool.node], [HEADER]

    def add(self, number: int, name: str) -> None:
        """The record of this number in the pool, under this id. Inputs of different groups are a group of their own: `3+17`."""
        groups = np.unique(self._group_of_side[self._sides[number] : self._sides[number + 1]])
        self._rows.append(f"{name}\t{'+'.join(map(str, groups))}")

    def write(self, folder: Path) -> None:
        """Write the file."""
        (folder / FILE).write_text("\n".join(self._rows) + "\n", encoding="utf-8")


def read_groups(folder: Path) -> dict[str, str]:
    """Record -> group; empty where the folder has no such file.

    Raises:
        UserError: file:line of what is no row of it.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    found = {}
    for number, row in enumerate(rows, start=2):
        name, tab, group = row.partition("\t")
        if header != HEADER or not tab or not group:
            raise UserError(f"{at(path, number)}: not a row of '{HEADER}'; write the split again, or remove the file")
        found[name] = group
    return found
