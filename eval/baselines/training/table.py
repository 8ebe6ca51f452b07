"""The prediction CSV of the original's predict_v1: its columns, its labels, and going on where it ended."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from artefacts.errors import UserError
from artefacts.folder import new_file
from eval.baselines.embedding.inputs import rows_of
from eval.baselines.training.recipe import Kind


class PredictionTable:
    """Rows `seq_id,seq,prob,label` or `seq_id_a,seq_id_b,seq_a,seq_b,prob,label`, then top k and ground_truth where asked for."""

    def __init__(self, path: Path, kind: Kind, names: list[str], *, pair: bool, topk: int, threshold: float, truth: bool) -> None:
        """Begin a file, or go on with one of the same columns; a last row that was cut off is removed.

        Raises:
            UserError: the file has other columns.
        """
        self.kind, self.names, self.threshold = kind, names, threshold
        self.topk = min(topk, len(names)) if kind == "multiclass" else 1
        ids = ["seq_id_a", "seq_id_b"] if pair else ["seq_id"]
        texts = ["seq_a", "seq_b"] if pair else ["seq"]
        found = ["prob", "label"]
        if self.topk > 1:
            found = ["top1_prob", "top1_label", f"top{self.topk}_probs", f"top{self.topk}_labels"]
        self.header = [*ids, *texts, *found, *(["ground_truth"] if truth else [])]
        self.done: set[tuple[str, ...]] = set()
        if path.is_file() and path.stat().st_size:
            self._continue(path, len(ids))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path, overwrite=True) as file, file.open("w", newline="", encoding="utf-8") as handle:
                csv.writer(handle).writerow(self.header)
        self._handle = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._handle)

    def _continue(self, path: Path, ids: int) -> None:
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            with new_file(path, overwrite=True) as file:
                file.write_bytes(whole)
        rows = [fields for _, fields in rows_of(path)]
        if not rows or rows[0] != self.header:
            found = ",".join(rows[0]) if rows else "of no table"
            raise UserError(f"{path}: has the columns {found}, not {','.join(self.header)}; choose another output")
        self.done = {tuple(fields[:ids]) for fields in rows[1:]}

    def add(self, ids: list[str], letters: list[str], probabilities_C: np.ndarray, truth: str | None = None) -> None:
        """Write one row."""
        row: list[Any] = [*ids, *letters, *self._found(probabilities_C)]
        self._writer.writerow([*row, truth] if "ground_truth" in self.header else row)
        self.done.add(tuple(ids))

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
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.flush()
        self._handle.close()
