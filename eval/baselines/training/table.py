"""The prediction CSV of the original's predict_v1: its columns, its labels, and going on where it ended.

`<table>.plan.json` beside it says what its rows are made by, so that nothing of another head or of other settings can slip in.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from artefacts.errors import UserError
from artefacts.folder import differing, new_file
from eval.baselines.training.recipe import Kind
from sequences.tables import Table


class PredictionTable:
    """Rows `seq_id,seq,prob,label` or `seq_id_a,seq_id_b,seq_a,seq_b,prob,label`, then top k and ground_truth where asked for."""

    def __init__(
        self,
        path: Path,
        kind: Kind,
        names: list[str],
        *,
        pair: bool,
        topk: int,
        threshold: float,
        truth: bool,
        plan: dict[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Look whether there are rows to go on with; a last one that was cut off is removed. The file is begun on entering.

        Args:
            plan: everything that decides a row, plain JSON values; None: not kept, so the table cannot be gone on with.
            overwrite: begin anew.

        Raises:
            UserError: the file was made by another plan, or nobody knows by which, or has other columns.
        """
        self.path, self.plan = path, plan
        self.kind, self.names, self.threshold = kind, names, threshold
        self.topk = min(topk, len(names)) if kind == "multiclass" else 1
        ids = ["seq_id_a", "seq_id_b"] if pair else ["seq_id"]
        texts = ["seq_a", "seq_b"] if pair else ["seq"]
        found = ["prob", "label"]
        if self.topk > 1:
            found = ["top1_prob", "top1_label", f"top{self.topk}_probs", f"top{self.topk}_labels"]
        self.header = [*ids, *texts, *found, *(["ground_truth"] if truth else [])]
        self.done: dict[tuple[str, ...], list[str]] = {}
        """Ids -> sequences as the table has them."""
        self._begun = path.is_file() and path.stat().st_size > 0 and not overwrite
        if self._begun:
            self._continue(path, len(ids))

    @property
    def _noted(self) -> Path:
        return self.path.with_name(f"{self.path.name}.plan.json")

    def _continue(self, path: Path, ids: int) -> None:
        if not self._noted.is_file():
            raise UserError(f"{path}: exists, and no {self._noted.name} says what made its rows; choose another --out, or pass --overwrite")
        before, now = json.loads(self._noted.read_text(encoding="utf-8")), self.plan or {}
        if differs := differing(before, now):
            old, new = before.get(differs[0]), now.get(differs[0])
            raise UserError(
                f"{path}: its rows were made with {differs[0]}={old}, now it is {new}; choose another --out, or pass --overwrite "
                "to predict all of them anew"
            )
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            with new_file(path, overwrite=True) as file:
                file.write_bytes(whole)
        table = Table(path, delimiter=",")
        if table.names != self.header:
            found = ",".join(table.names)
            raise UserError(f"{path}: has the columns {found}, not {','.join(self.header)}; choose another --out, or pass --overwrite")
        self.done = {tuple(row.cells[:ids]): row.cells[ids : 2 * ids] for row in table}

    def add(self, ids: list[str], letters: list[str], probabilities_C: np.ndarray, truth: str | None = None) -> None:
        """Write one row."""
        row: list[Any] = [*ids, *letters, *self._found(probabilities_C)]
        self._writer.writerow([*row, truth] if "ground_truth" in self.header else row)
        self.done[tuple(ids)] = letters

    def _found(self, p_C: np.ndarray) -> list[Any]:
        if self.kind == "regression":
            return [float(p_C[0]), str(float(p_C[0]))]
        if self.kind == "binary":
            return [float(p_C[0]), self.names[int(p_C[0] >= self.threshold)]]
        if self.kind == "multilabel":
            chosen = [i for i, p in enumerate(p_C) if p >= self.threshold]
            return [[float(p_C[i]) for i in chosen], [self.names[i] for i in chosen]]
        order = np.argsort(-p_C, kind="stable")[: self.topk]
        best = [float(p_C[order[0]]), self.names[order[0]]]
        return best if self.topk == 1 else [*best, [float(p_C[i]) for i in order], [self.names[i] for i in order]]

    def flush(self) -> None:
        """Rows so far are on disk."""
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def __enter__(self) -> PredictionTable:
        if not self._begun:
            self.path.unlink(missing_ok=True)  # before its plan is another one
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.plan is not None:
                with new_file(self._noted, overwrite=True) as file:
                    file.write_text(json.dumps(self.plan, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            with new_file(self.path, overwrite=True) as file, file.open("w", newline="", encoding="utf-8") as handle:
                csv.writer(handle).writerow(self.header)
        self._handle = self.path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.flush()
        self._handle.close()
