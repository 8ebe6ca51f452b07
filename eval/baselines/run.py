"""Run the baselines over a folder of records: `<out>/<system>.jsonl`, in the form that `eval score` reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from eval.baselines.recipe import BaselinesRecipe


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
    from eval.baselines.embedding.encoder import Encoder
    from eval.baselines.embedding.open import identity, open_encoder
    from eval.baselines.kmer import kmer
    from eval.baselines.luca import luca_base, why_not
    from eval.baselines.majority import majority
    from eval.baselines.nearest import nearest

    encoder: Encoder | None = None
    if "luca_base" in recipe.systems:
        assert recipe.encoder is not None, "the recipe's own check"
        encoder = open_encoder(recipe.encoder, batch_tokens=recipe.luca.batch_tokens)

    def predict(system: str, task: Task) -> Iterable[Record]:
        if system == "majority":
            return majority(task)
        if system == "kmer":
            return kmer(task, max_train=recipe.kmer_max_train, seed=recipe.seed)
        if system == "nearest":
            return nearest(task, recipe.search)
        assert encoder is not None
        return luca_base(task, encoder, recipe.luca, seed=recipe.seed)

    written: dict[str, Counter[str]] = {system: Counter() for system in recipe.systems}
    left_out: dict[str, dict[str, str]] = {}
    with new_folder(recipe.out, overwrite=overwrite) as folder, tqdm(total=len(recipe.systems) * len(tasks), unit="task") as bar:
        for system in recipe.systems:
            with (folder / f"{system}.jsonl").open("w", encoding="utf-8") as handle:
                for task in tasks:
                    bar.set_description(f"{system} {task.id}")
                    reason = why_not(task) if system == "luca_base" else None
                    if reason is not None:
                        left_out.setdefault(system, {})[task.id] = reason
                    else:
                        for line in predict(system, task):
                            handle.write(json.dumps(line, ensure_ascii=False) + "\n")
                            written[system][task.id] += 1
                    bar.update()
        inputs = {"records": fingerprint(recipe.records)}
        if recipe.encoder is not None:
            inputs["encoder"] = identity(recipe.encoder)
        counts: dict[str, Any] = {"written": written, "does_not_apply": left_out}
        write_manifest(folder, "predictions", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
    return written
