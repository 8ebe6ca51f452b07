"""Many damaged files through every reader of the corpora.

    python benchmarks/fuzz_readers.py --inputs 100000

A third of the inputs has its damage in one record (formats that recover), the rest anywhere, half of them inside the gz
stream. Stops at the first input that breaks a promise (see tests/sequences/reader_fuzz.py) and prints its seed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "sequences"))

import reader_fuzz as fuzz


def one(seed: int, folder: Path) -> tuple[str, str]:
    """Format, and what came of it."""
    draw = random.Random(seed)
    name = list(fuzz.EXAMPLES)[seed % len(fuzz.EXAMPLES)]
    example = fuzz.EXAMPLES[name]
    edits = fuzz.random_edits(example, draw)
    if example.recovers and draw.random() < 1 / 3:
        return name, fuzz.check_one_record(example, edits, folder, draw.randrange(1, len(example.records)))
    return name, fuzz.check_anywhere(example, edits, folder, draw.random() < 0.5, draw.choice(("document", "section", "paragraph")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--keep-going", action="store_true", help="print every failure instead of stopping at the first")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    started, failed = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.first, options.first + options.inputs):
            try:
                counts[one(seed, Path(folder))] += 1
            except Exception as error:
                failed += 1
                print(f"seed {seed}, {list(fuzz.EXAMPLES)[seed % len(fuzz.EXAMPLES)]}: {type(error).__name__}: {error}"[:400])
                if not options.keep_going:
                    raise
            if time.monotonic() - started > options.seconds:
                break
    for (name, result), count in sorted(counts.items()):
        print(f"{name:22} {result:22} {count:7}")
    print(f"{sum(counts.values())} inputs as they should be, {failed} not, in {time.monotonic() - started:.0f} s")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
