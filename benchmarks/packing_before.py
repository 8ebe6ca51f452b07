"""Packing now beside packing at an earlier commit: the same file, one process each, in turn.

    python benchmarks/packing_before.py --commit 92f3c35^ --tokenizer runs/corpora/seed0/extended \
        --modality dna genomes/saccharomyces.fa.gz

Both pack in windows of 6,000 (DNA) or whole (else), with no regions, words or weights. Seconds are of
processor time inside `pack`, after a first packing that compiles; so a busy machine counts less. Prints
each round, the letters of a second for the best round of both, their ratio, and whether the shards are
the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from artefacts.folder import fingerprint

PROGRAM = """
import json, sys, time
from pathlib import Path
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
tokenizer, modality, file, first, out = sys.argv[1:]
def packed(file, out):
    source = Source(modality=modality, files=[file], window=6000 if modality == "dna" else None)
    started = time.process_time()
    counts = pack(PackRecipe(tokenizer=tokenizer, out=out, block_tokens=2048, sources=[source], workers=1))
    letters = sum(found["letters"] for split in ("train", "heldout") for found in counts[split].values())
    return time.process_time() - started, letters
packed(first, Path(out + ".first"))
print(json.dumps(packed(file, Path(out))))
"""
HERE = Path(__file__).resolve().parents[1]


def measured(code: Path, arguments: list[str]) -> tuple[float, int]:
    command = [sys.executable, "-P", "-c", PROGRAM, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(code), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, cwd=code, stdout=subprocess.PIPE, check=True, text=True)
    seconds, letters = json.loads(done.stdout.splitlines()[-1])
    return seconds, letters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of an extended tokenizer")
    parser.add_argument("--modality", default="dna", choices=("dna", "protein", "text"))
    parser.add_argument("--first", type=Path, help="small file that is packed first; null: the same")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "code").mkdir()
        archive = subprocess.run(["git", "archive", options.commit], cwd=HERE, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", folder / "code"], input=archive.stdout, check=True)
        best: dict[str, float] = {}
        marks = set()
        for turn in range(options.rounds):
            for way, code in (("before", folder / "code"), ("now", HERE)):
                out = folder / f"{way}{turn}"
                first = options.first or options.file
                paths = [str(path.resolve()) for path in (options.file, first)]
                words = [str(options.tokenizer.resolve()), options.modality, *paths, str(out)]
                seconds, letters = measured(code, words)
                best[way] = max(best.get(way, 0.0), letters / seconds)
                marks.add(fingerprint(out / "train"))
                print(f"{way}: {letters:,} letters in {seconds:.2f} s", flush=True)
    print(
        f"letters a second before {best['before']:,.0f}, now {best['now']:,.0f}: "
        f"{best['now'] / best['before']:.3f}; {'the same bytes' if len(marks) == 1 else 'other bytes'}"
    )


if __name__ == "__main__":
    main()
