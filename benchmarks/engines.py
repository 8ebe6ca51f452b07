"""`convert pack` and `convert tasks` on each engine with one and two workers: speed, equal bytes, one worker killed.

    python benchmarks/engines.py --tokenizer runs/corpora/seed0/extended --dna genomes/*.fna genomes/*.fa \
        --tasks ../shared/data/gue --cards 'gue/tf_*' --times 4

Seconds are those of the command's own work in this process, the start of workers (and of Ray) included,
the import of this program not. DNA is read `--times` times in windows of another length each, so that no
document is a duplicate. In the last rounds a worker kills itself at its first part: Ray and datatrove
give the part again, local stops and the same command is given once more. The load of the machine is
printed beside each row; on a busy one the seconds say little.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from artefacts.folder import fingerprint
from data_convert.corpus import pack as packing
from data_convert.corpus import parts
from data_convert.corpus.crew import WorkerLost
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.tasks.convert import convert
from data_convert.tasks.task_recipe import TasksRecipe


def dying_once(job: Any) -> None:
    mark = job[0].out.with_name("killed")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    parts.convert_part(job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--dna", type=Path, nargs="+", required=True)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--tasks", type=Path, help="folder of the cards' files")
    parser.add_argument("--cards", default="gue/tf_*")
    parser.add_argument("--engines", nargs="+", default=["local", "ray", "datatrove"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    sources = [
        Source(modality="dna", files=[path.resolve() for path in options.dna], window=3000 + 36 * turn) for turn in range(options.times)
    ]
    logging.disable(logging.WARNING)
    packing.TOKENS_WORTH_A_WORKER = 1
    prints: dict[str, set[str]] = {"pack": set(), "tasks": set()}
    print("| command | engine | workers | seconds | items/s | tokens/s | load |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def say(command: str, engine: str, workers: str, started: float, items: int, tokens: int, out: Path) -> None:
            seconds = time.monotonic() - started
            prints[command].add(fingerprint(out))
            speed = f"{items / seconds:,.0f} | {f'{tokens / seconds:,.0f}' if tokens else ''}"
            print(f"| {command} | {engine} | {workers} | {seconds:.1f} | {speed} | {os.getloadavg()[0]:.1f} |", flush=True)

        def pack(engine: str, workers: int, note: str = "") -> None:
            out = folder / f"{engine}{workers}{note}"
            recipe = PackRecipe(
                tokenizer=options.tokenizer.resolve(), out=out, block_tokens=2048, sources=sources,
                workers=workers, engine=engine, part_bytes=2 << 20, shard_blocks=256,
            )  # fmt: skip
            started = time.monotonic()
            try:
                counts = packing.pack(recipe)
            except WorkerLost:
                note += ", given twice"
                counts = packing.pack(recipe)
            found = [modality for split in ("train", "heldout") for modality in counts[split].values()]
            items, tokens = (sum(int(one[key]) for one in found) for key in ("fragments", "tokens"))
            say("pack", engine, f"{workers}{note}", started, items, tokens, out)

        for engine in options.engines:
            if engine != "local" and importlib.util.find_spec(engine) is None:
                print(f"{engine}: not installed, left out")
                continue
            for workers in options.workers:
                pack(engine, workers)
                if options.tasks is not None:
                    out, started = folder / f"tasks-{engine}{workers}", time.monotonic()
                    recipe = TasksRecipe(
                        out=out, cards=[options.cards], source=options.tasks.resolve(), engine=engine, workers=workers, missing="skip"
                    )
                    items = sum(sum(card.n.values()) for card in convert(recipe))
                    say("tasks", engine, str(workers), started, items, 0, out)
            packing.convert_part, own = dying_once, packing.convert_part
            pack(engine, 2, ", one killed")
            (folder / "killed").unlink()  # no such file: nobody was killed
            packing.convert_part = own
    print("; ".join(f"{command}: {len(found)} kind of bytes" for command, found in prints.items() if found))


if __name__ == "__main__":
    main()
