"""LucaOne's heads without any pre-training on data of the ten tasks' kinds: is each learnt better than by chance?

    llama-gene convert tasks --cards lucaone_type/central_dogma_150 --source data --out records/central_dogma_150
    llama-gene convert audit records/central_dogma_150 --out audit/central_dogma_150 --write-split controlled/central_dogma_150
    python benchmarks/lucaone_tasks.py controlled records [task ...]

The folders hold one records folder per card of `RUNS`; the first folder that has it with a test set is taken, and its name stands in the
table. k-mer composition or letters at their places instead of an encoder's rows, the published network without its Transformer, the
shipped recipe's loss unless a run says otherwise. Prints a row per run: the metric on test, its 95 % bootstrap interval, and chance.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder, whose eval.py would pass for the room `eval`

from artefacts.recipe import load
from configs import CONFIGS
from eval.baselines.training.command import train
from eval.baselines.training.recipe import TrainRecipe

MEAN = "network={{net: {}, layers: 0, pooling: mean{}}}"
FC = ", fc: [128]"
PLAIN = "loss={kind: binary}"


def schedule(rate: float, epochs: int, batch: int = 32) -> str:
    return f"schedule={{learning_rate: {rate}, warmup: 0.1, batch: {batch}, accumulation: 1, epochs: {epochs}, patience: 5}}"


RUNS: dict[str, tuple[str, str, str, list[str]]] = {
    "centraldogma": (
        "central_dogma_150",  # the gene's last 53 letters, where it is translated
        "placed",
        "mcc",
        [MEAN.format("lucappi2", FC), PLAIN, schedule(1e-3, 20), "trunc_type=left", "max_length=[55, 52]"],
    ),
    "supktax": ("tax_kingdom_mito", "kmer", "mcc", [MEAN.format("luca_base", ""), schedule(3e-3, 30)]),
    "genustax": ("tax_vertebrate_mito", "kmer", "mcc", [MEAN.format("luca_base", ""), schedule(3e-3, 30)]),
    "speciestax": ("tax_dengue", "kmer", "mcc", [MEAN.format("luca_base", ""), schedule(3e-3, 30)]),
    "protloc": ("protloc_deeplocpro", "kmer", "mcc", [MEAN.format("luca_base", ""), "loss={kind: multiclass}", schedule(3e-3, 30)]),
    "protstab": (
        "protstab_tape",
        "placed",
        "spearman",
        [MEAN.format("luca_base", ""), "standardise=true", "max_train=20000", schedule(1e-3, 6, 64)],
    ),
    "ncrnafam": ("ncrnafam_nrc", "kmer", "mcc", [MEAN.format("luca_base", ""), schedule(3e-3, 30)]),
    "infa": (
        "infa_h3n2",  # antigenic distances instead of two classes
        "kmer",
        "spearman",
        [MEAN.format("lucappi", FC), "loss={kind: regression}", "standardise=true", schedule(3e-3, 20)],
    ),
    "ppi": ("ppi_yeast", "kmer", "mcc", [MEAN.format("lucappi", FC), schedule(3e-3, 20)]),
    "ncrpi": ("ncrpi_rpi1807", "kmer", "mcc", [MEAN.format("lucappi2", FC), schedule(3e-3, 20)]),
}
"""Task -> card under lucaone_type, encoder, metric that chooses the epoch and is reported, changes to the shipped recipe."""


def has_test(records: Path) -> bool:
    """A task that is one group of relatives has no test set under a leak-controlled split (docs/splits.md)."""
    return (records / "test.jsonl").is_file() and (records / "test.jsonl").stat().st_size > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="folders of records, then tasks")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--set", action="append", default=[], help="another change to the recipe")
    options = parser.parse_args()
    folders = [Path(name) for name in options.folders if name not in RUNS]
    wanted = [name for name in options.folders if name in RUNS] or list(RUNS)
    print(
        "| task | data (split) | features, pooling | train / dev / test | metric | value | chance | seed | epoch | CPU s |\n"
        + "|---" * 10
        + "|"
    )
    for task in wanted:
        card, encoder, metric, changes = RUNS[task]
        records = next((folder / card for folder in folders if has_test(folder / card)), None)
        if records is None:
            print(f"| {task} | {card}: not here |" + " |" * 8)
            continue
        for seed in options.seeds:
            with TemporaryDirectory() as out:
                given = [f"data={records}", f"out={out}/head", f"encoders=[{encoder}]", f"metric={metric}", f"seed={seed}"]
                changed = [*given, "embedding_complete=false", *changes, *options.set]
                recipe = load(TrainRecipe, CONFIGS / "baselines" / f"{task}.yaml", changed)
                start = time.process_time()
                figures = train(recipe)
            found = figures["test"]["interval"]
            sizes = " / ".join(f"{figures[split]['n']:,}" for split in ("train", "dev", "test"))
            print(
                f"| {task} | {card} ({records.parent.name}) | {recipe.encoders[0]}, {recipe.network.pooling} | {sizes} | {metric} "
                f"| {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}] | 0 | {seed} "
                f"| {figures['best_epoch']} | {time.process_time() - start:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
