"""Text through an extended tokenizer beside its own base: the same lines, the same ids, one thread.

    python benchmarks/text.py --base BASE --dna runs/my/dna.json --protein runs/my/protein.json --text ../shared/data/text/*.jsonl.gz

What others pay who read the folder (vLLM, lm-eval, `datasets.map`); `convert pack` has a faster way of its own. Prints megabytes
a second of processor time, the best of some runs in turn, and how many times the time of the base's the extended one's is;
stops if a single id differs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer

from artefacts.errors import Ledger
from sequences.texts import read_texts
from tokenizer.base import read_base
from tokenizer.encoders import MAY_HOLD_SPANS
from tokenizer.vocabulary import extend

DOCUMENT = 8000
"""Characters of a text as a pipeline gives it; single lines pay more for each step of a normalizer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder, tokenizer.json or tokenizer.model")
    for name in ("dna", "protein"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="gene BPE")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help=".txt or .jsonl, plain or gz")
    parser.add_argument("--characters", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    base = read_base(options.base)
    extended, _, _ = extend(base, Tokenizer.from_file(str(options.dna)), Tokenizer.from_file(str(options.protein)))
    texts = [document.text for path in options.text for document in read_texts(path, Ledger())]
    whole = "\n".join(texts)[: options.characters]
    parts = {"lines": whole.split("\n"), "documents": [whole[at : at + DOCUMENT] for at in range(0, len(whole), DOCUMENT)]}
    for unit, found in parts.items():
        found = [text for text in found if text and not MAY_HOLD_SPANS.search(text)]
        best, ids = {}, {}
        for _ in range(options.repeats):
            for name, tokenizer in (("base", base.tokenizer), ("extended", extended)):
                started = time.process_time()
                encodings = tokenizer.encode_batch(found, add_special_tokens=False)
                best[name] = min(time.process_time() - started, best.get(name, float("inf")))
                ids[name] = [encoding.ids for encoding in encodings]
        assert ids["base"] == ids["extended"], "ids differ"
        megabytes = sum(len(text.encode()) for text in found) / 1e6
        rates = {name: round(megabytes / seconds, 3) for name, seconds in best.items()}
        print(json.dumps({"of": unit, "megabytes": round(megabytes, 3), **rates, "times": round(best["extended"] / best["base"], 3)}))


if __name__ == "__main__":
    main()
