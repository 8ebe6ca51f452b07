"""What every `eval sequences` command does: batches kept once they are answered, rows, figures with intervals, one folder.

A run that was interrupted goes on behind its last batch, and ends with the same bytes.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from artefacts.errors import SET_ASIDE, Ledger, say_read, write_set_aside
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.resume import work_on
from eval.ask.subjects import check_subject, identity, machine
from eval.judge.bootstrap import RESAMPLES, Resamples
from eval.judge.metrics import Statistic
from eval.sequences.frame import EXACT, Ask, Frame
from eval.sequences.recipe import FIELDS, FIGURES, SequencesRecipe
from eval.show.content import sequences
from training.launch import share_cores

STAGE = "sequences"
ROWS = "rows.csv"
READ = ("model", "adapter", "files", "variants", "genome", "counted")
"""Fields whose content is fingerprinted, so that their names do not matter to a run that goes on."""
NATS_TO_BITS = 1.4426950408889634

Rows = list[dict[str, Any]]
"""Of rows.csv: column -> cell."""
Answer = Callable[[Any], list[Any]]


class Evaluation:
    """One command at work.

    Args:
        what: its last word.
    """

    def __init__(self, recipe: SequencesRecipe, what: str, overwrite: bool) -> None:
        """Refuses a missing model or an existing output before anything is read."""
        check_subject(recipe.subject)
        check_absent(recipe.out, overwrite)
        self.recipe, self.what, self.overwrite = recipe, what, overwrite
        self.ledger = Ledger(recipe.max_broken)
        self.others: dict[str, Ledger] = {}
        """Of files that are read beside those that are measured: what they are for -> their records."""
        self.figures: list[dict[str, Any]] = []
        self.extra: dict[str, list[str]] = {}
        """Further files: name -> lines."""
        self.note = ""
        """What a reader of the figures has to know."""

    @cached_property
    def frame(self) -> Frame:
        """How the model spells; read after the inputs, since it takes seconds."""
        share_cores()
        return Frame.of(self.recipe)

    def log_likelihoods(self, asks: Sequence[Ask], then: Callable[[list[list[float]]], Rows], overlap: float | None = None) -> None:
        """Write the folder whose rows `then` makes of the log-likelihoods of the asks (see `Frame.log_likelihoods`)."""
        from eval.sequences.likelihood import Reader

        frame = self.frame
        windows = frame.windows(asks, overlap)

        def made(found: list[Any]) -> Rows:
            return then(frame.log_likelihoods(asks, windows, found))

        self.finish(windows, len(frame.head), Reader(self.recipe, frame), made)

    def finish(self, asked: Sequence[Any], more: int, answer: Answer, made: Callable[[list[Any]], Rows]) -> None:
        """Ask in batches of like length, and write the folder whose rows `made` makes of all answers, in the order of what is asked.

        Args:
            more: tokens that each row of a batch has beside its own.
        """
        from eval.baselines.embedding.encoder import batches  # torch, once the inputs are known to be sound

        recipe, inputs = self.recipe, self._inputs()
        order = list(batches([more + len(one) for one in asked], recipe.batch_tokens))
        with work_on(recipe.out, self._plan(inputs), overwrite=self.overwrite) as work:
            found: dict[int, Any] = {}
            with tqdm(total=len(asked), desc=self.what, unit="window", disable=None) as progress:
                for batch, part in zip(order, work.each([[asked[i] for i in batch] for batch in order], answer), strict=True):
                    found |= zip(batch, part, strict=True)
                    progress.update(len(part))
            work.check_rows(len(found), len(asked))
            rows = made([found[i] for i in range(len(asked))])
            document = self._document()
            with new_folder(recipe.out, overwrite=self.overwrite) as folder:
                with (folder / ROWS).open("w", newline="", encoding="utf-8") as handle:
                    csv.writer(handle, lineterminator="\n").writerows([list(rows[0]), *(row.values() for row in rows)])
                for name, lines in self.extra.items():
                    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
                (folder / FIGURES).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                write_set_aside(folder / SET_ASIDE, self.ledger, *self.others.values())
                read = {name: ledger.as_dict() for name, ledger in {"records": self.ledger, **self.others}.items()}
                counts = {**read, "rows": len(rows)}
                write_manifest(folder, STAGE, recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
        for name, ledger in {self.what: self.ledger, **self.others}.items():
            say_read(name, ledger.as_dict(), recipe.out / SET_ASIDE)
        print(sequences([document]).terminal())
        print(f"{self.what}: {len(rows):,} rows in {recipe.out / ROWS}, figures in {recipe.out / FIGURES}")

    def add(self, of: str, metrics: Mapping[str, Statistic], n: int) -> None:
        """Figures of `n` rows, with intervals over them where there are two or more."""
        for metric, sampled in Resamples(n, seed=self.recipe.seed).of_all(metrics).items():
            found = sampled.interval().as_dict()
            self.figures.append({"of": of, "metric": metric, "n": n, **found, **({} if n > 1 else {"low": None, "high": None})})

    def _document(self) -> dict[str, Any]:
        intervals = f"95 % percentile intervals of {RESAMPLES:,} resamples of the rows"
        recipe, way = self.recipe, self.frame.way
        values = (self.what, recipe.system, recipe.alphabet, way, EXACT[way], self.note, recipe.seed, intervals, self.figures)
        return dict(zip(FIELDS, values, strict=True))

    def _inputs(self) -> dict[str, str]:
        values = {name: getattr(self.recipe, name, None) for name in READ[2:]}
        read = {name: [value] if isinstance(value, Path) else value for name, value in values.items() if value not in (None, [])}
        return {**identity(self.recipe.subject), **{name: fingerprint(*paths) for name, paths in read.items()}}

    def _plan(self, inputs: dict[str, str]) -> dict[str, Any]:
        """All that decides the bytes of the output."""
        settings = self.recipe.model_dump(mode="json", exclude={"out", *READ})
        return {**settings, **inputs, **machine(), "what": self.what, "batches": "longest first"}


def rounded(value: float) -> float:
    """As it is written: 6 digits behind the point."""
    return round(value, 6)
