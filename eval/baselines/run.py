"""Run the baselines over a folder of records: `<out>/<system>.jsonl`, in the form that `eval score` reads."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from tqdm import tqdm

from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from eval.baselines.training.recipe import Schedule

System = Literal["majority", "kmer", "nearest", "luca_base"]


class LucaOptions(Schedule):
    """Training of LucaOne's heads. Its own scripts: 50 epochs, batch 16, learning rate 1e-4, warm-up 100 or 1000 steps."""

    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: float = Field(default=0.05, ge=0)
    batch: int = Field(default=32, ge=1)
    dropout: float = 0.1
    max_train: int = 2000
    """Train records per task; more are sampled by the seed."""
    max_dev: int = 500
    """Dev records per task that choose the epoch."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a batch, padding included; null: 8192 on a GPU, 1024 on the CPU, whose caches hold no more."""


class BaselinesRecipe(Recipe):
    """Train and run the baselines on every task that has test records: majority, k-mer regression, nearest training sequence, LucaOne's
    heads on frozen embeddings."""

    records: Path
    """Folder of instruction records; baselines read its labels and sequences, never its prompts."""
    out: Path
    """Folder of predictions to write, one file per system."""
    systems: list[System] = ["majority", "kmer", "nearest"]
    """luca_base needs `encoder`."""
    search: Literal["builtin", "mmseqs"] = "builtin"
    """What finds the nearest training sequence; mmseqs needs the program on PATH."""
    encoder: str | None = None
    """What luca_base reads: folder or hub id of a model (its frozen last hidden state), or one-hot, kmer or placed."""
    kmer_max_train: int = 50_000
    """Train records per task for kmer; more are sampled by the seed."""
    luca: LucaOptions = LucaOptions()
    seed: int = 0

    @model_validator(mode="after")
    def _encoder_given(self) -> Self:
        if "luca_base" in self.systems and self.encoder is None:
            raise ValueError("luca_base reads embeddings: pass encoder=FOLDER (a hub id, one-hot, kmer, placed) or leave it out of systems")
        if not self.systems or len(set(self.systems)) < len(self.systems):
            raise ValueError("systems: name at least one, each once")
        return self


def run(recipe: BaselinesRecipe, *, overwrite: bool = False) -> dict[str, Counter[str]]:
    """Write the predictions; return the number of lines per system and task.

    A system that does not apply to a task writes no line for it; the manifest says which and why.

    Raises:
        UserError: output exists, records without train lines, an encoder that cannot be read, a task of a single class.
    """
    from eval.baselines.split import Record, Task, scored_tasks

    check_absent(recipe.out, overwrite)
    tasks = scored_tasks(recipe.records)
    # scikit-learn and torch take seconds to import, which a bad record need not wait for
    from eval.baselines.embedding.open import identity, open_encoder
    from eval.baselines.kmer import kmer
    from eval.baselines.luca import head_recipe, luca_base, why_not
    from eval.baselines.nearest import majority, nearest
    from eval.baselines.training.recipe import departures
    from eval.predictions import DIFFERS

    answers: dict[str, Callable[[Task], Iterable[Record]]] = {
        "majority": majority,
        "kmer": partial(kmer, max_train=recipe.kmer_max_train, seed=recipe.seed),
        "nearest": partial(nearest, search=recipe.search),
    }
    if "luca_base" in recipe.systems and recipe.encoder is not None:
        encoder = open_encoder(recipe.encoder, batch_tokens=recipe.luca.batch_tokens)
        answers["luca_base"] = partial(luca_base, encoder=encoder, options=recipe.luca, seed=recipe.seed)
    written: dict[str, Counter[str]] = {system: Counter() for system in recipe.systems}
    left_out: dict[str, dict[str, str]] = {}
    with (
        new_folder(recipe.out, overwrite=overwrite) as folder,
        tqdm(total=len(recipe.systems) * len(tasks), unit="task", disable=None) as bar,
    ):
        for system in recipe.systems:
            with (folder / f"{system}.jsonl").open("w", encoding="utf-8") as handle:
                for task in tasks:
                    bar.set_description(f"{system} {task.id}")
                    reason = None if system == "majority" else task.without_sequences
                    if reason is None and system == "luca_base":
                        reason = why_not(task)
                    if reason is not None:
                        left_out.setdefault(system, {})[task.id] = reason
                    else:
                        for line in answers[system](task):
                            handle.write(json.dumps(line, ensure_ascii=False) + "\n")
                            written[system][task.id] += 1
                    bar.update()
            if system == "luca_base":
                differs = {task.id: departures(head_recipe(task, recipe.luca, recipe.seed)) for task in tasks if why_not(task) is None}
                (folder / f"{system}{DIFFERS}").write_text(json.dumps(differs, indent=1) + "\n", encoding="utf-8")
        inputs = {"records": fingerprint(recipe.records)}
        if recipe.encoder is not None:
            inputs["encoder"] = identity(recipe.encoder)
        counts: dict[str, Any] = {"written": written, "does_not_apply": left_out}
        write_manifest(folder, "predictions", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
    return written
