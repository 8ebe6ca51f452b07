"""Our vocabulary extension beside the usual way (`add_tokens`), on the same base, gene BPEs and held-out files.

    python benchmarks/extension.py --base runs/quickstart/base --dna runs/quickstart/dna_bpe.json \
        --protein runs/quickstart/protein_bpe.json --genome runs/quickstart/organism/genome/heldout.fa \
        --text runs/quickstart/organism/text/heldout.jsonl

Both ways run in one process, one after the other, on one thread; prints each figure and the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer

from artefacts.errors import Ledger
from sequences.alphabets import DNA
from sequences.readers import read_sequences
from sequences.texts import read_texts
from tokenizer.base import read_base
from tokenizer.vocabulary import extend


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "dna", "protein", "genome", "text"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    base = read_base(options.base)
    dna, protein = (Tokenizer.from_file(str(path)) for path in (options.dna, options.protein))
    windows = [
        sequence.letters[start : start + 512]
        for sequence in read_sequences(options.genome, DNA, Ledger())
        for start in range(0, len(sequence.letters), 512)
    ][:400]
    lines = [line for document in read_texts(options.text, Ledger()) for line in document.text.splitlines()]
    letters = sum(map(len, windows))

    ours, _, _ = extend(base, dna, protein)
    wrapped = [DNA.wrap(window) for window in windows]
    theirs = Tokenizer.from_str(base.tokenizer.to_str())
    theirs.add_tokens([piece for bpe in (dna, protein) for piece in bpe.get_vocab() if len(piece) > 1])

    def run(tokenizer: Tokenizer, sequences: list[str], tags: int) -> dict[str, float]:
        tokens = [encoding.tokens for encoding in tokenizer.encode_batch(sequences, add_special_tokens=False)]
        before = [encoding.ids for encoding in base.tokenizer.encode_batch(lines, add_special_tokens=False)]
        after = [encoding.ids for encoding in tokenizer.encode_batch(lines, add_special_tokens=False)]
        return {
            "bases_per_token": letters / (sum(map(len, tokens)) - tags * len(sequences)),
            "text_lines_changed": sum(one != two for one, two in zip(before, after, strict=True)),
            "text_lines": len(lines),
            "dna_megabases_per_second": letters / 1e6 / seconds(lambda: tokenizer.encode_batch(sequences, add_special_tokens=False)),
        }

    figures = {"ours": run(ours, wrapped, 2), "add_tokens": run(theirs, windows, 0)}
    figures["ratio"] = {
        name: figures["ours"][name] / figures["add_tokens"][name] for name in ("bases_per_token", "dna_megabases_per_second")
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
