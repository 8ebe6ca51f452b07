"""groups.tsv beside a records folder: the group of related sequences of each test record.

Records of one group are no independent observations; the evaluation's intervals draw whole groups where this file is.
"""

from pathlib import Path

import numpy as np

from artefacts.errors import UserError, at
from data_convert.splits.pool import Ints, Pool

FILE = "groups.tsv"
HEADER = "id\tgroup"


def write_groups(folder: Path, pool: Pool, group: Ints, tested: dict[int, str]) -> None:
    """Write the file.

    Args:
        group: [nodes] of the split. Inputs of different groups are a group of their own: `3+17`.
        tested: number in the pool -> id, of each test record.
    """
    of_side = group[pool.node]
    groups = (np.unique(of_side[pool.sides[number] : pool.sides[number + 1]]) for number in tested)
    rows = [f"{name}\t{'+'.join(map(str, its))}" for name, its in zip(tested.values(), groups, strict=True)]
    (folder / FILE).write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


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
