"""The prediction CSV of the original's predict_v1: its columns, its labels, and rows that are added to those of earlier runs.

`<table>.plan.json` beside it says what its rows are made by, so that nothing of another head or of other settings can slip in.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.errors import UserError
from artefacts.folder import read_noted, write_json
from artefacts.ranks import rank
from artefacts.resume import same_plan, whole_lines
from data_convert.tasks.kinds import KINDS, TableForm
from sequences.tables import Table


class PredictionTable:
    """Rows `seq_id,seq,prob,label` or `seq_id_a,seq_id_b,seq_a,seq_b,prob,label`, then top k and ground_truth where asked for."""

    def __init__(
        self,
        path: Path,
        kind: str,
        names: list[str],
        *,
        pair: bool,
        topk: int,
        threshold: float,
        truth: bool,
        plan: dict[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Look whether there are rows to add to; a last one that was cut off is removed.

        Args:
            plan: everything that decides a row, plain JSON values; None: not kept, so that nothing can be added.
            overwrite: begin anew, once the new rows are complete.

        Raises:
            UserError: the file was made by another plan, or nobody knows by which, or has other columns.
        """
        self.path, self.plan = path, plan
        self.kind, self.form = KINDS[kind], TableForm(names, threshold, min(topk, len(names)), float)
        ids = ["seq_id_a", "seq_id_b"] if pair else ["seq_id"]
        texts = ["seq_a", "seq_b"] if pair else ["seq"]
        self.header = [*ids, *texts, *self.kind.columns(self.form.topk), *(["ground_truth"] if truth else [])]
        self.done: dict[tuple[str, ...], list[str]] = {}
        """Ids -> sequences as the table has them."""
        self._old: list[bytes] = []
        if path.is_file() and path.stat().st_size > 0 and not overwrite and rank() == 0:  # which says what is lacking
            self._continue(path, len(ids))

    @property
    def _noted(self) -> Path:
        return self.path.with_name(f"{self.path.name}.plan.json")

    def _continue(self, path: Path, ids: int) -> None:
        if not self._noted.is_file():
            raise UserError(f"{path}: exists, and no {self._noted.name} says what made its rows; choose another --out, or pass --overwrite")
        same_plan(path, read_noted(self._noted), self.plan or {}, "choose another --out, or pass --overwrite to predict all rows anew")
        self._old = whole_lines(path)
        table = Table(path, delimiter=",")
        if table.names != self.header:
            found = ",".join(table.names)
            raise UserError(f"{path}: has the columns {found}, not {','.join(self.header)}; choose another --out, or pass --overwrite")
        self.done = {tuple(row.cells[:ids]): row.cells[ids : 2 * ids] for row in table}

    def row(self, ids: list[str], letters: list[str], probabilities_C: np.ndarray, truth: str | None = None) -> list[Any]:
        """The cells of one row."""
        cells: list[Any] = [*ids, *letters, *self.kind.cells(probabilities_C.tolist(), self.form)]
        return [*cells, truth] if "ground_truth" in self.header else cells

    def write(self, file: Path, rows: Iterable[list[Any]]) -> int:
        """Write the table to `file`: the rows it had and these; returns how many there are."""
        count = max(0, len(self._old) - 1)
        with file.open("wb") as handle:
            handle.writelines(self._old)
        with file.open("a", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            if not self._old:
                writer.writerow(self.header)
            for row in rows:
                writer.writerow(row)
                count += 1
        if self.plan is not None and not self.path.exists():
            self.note()  # before the table, which could not be added to without
        return count

    def note(self) -> None:
        """Say what the rows are made by."""
        write_json(self._noted, self.plan or {})
