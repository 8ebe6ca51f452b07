"""Bulk encoding beside the public tokenizer: the same documents, the same ids, one process, one thread.

    python benchmarks/encode.py --tokenizer runs/quickstart/extended --dna runs/quickstart/organism/genome/heldout.fa \
        --protein runs/quickstart/organism/proteins/heldout.faa --text runs/quickstart/organism/text/heldout.jsonl

Sequences are cut to 10 kb, since the public tokenizer is several times slower on one long span, texts to 10,000
characters. Prints megabytes a second (of processor time, so that a busy machine counts less) and the ratio; stops if a
single id differs. `whole` is ours on all sequences as one span.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer

from artefacts.errors import Ledger
from sequences.alphabets import ALPHABETS
from sequences.readers import read_sequences
from sequences.texts import read_texts
from tokenizer.encoders import MAY_HOLD_SPANS, read_encoders, text_tokenizer

CUT = 10_000


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Of processor time, the best of some runs."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def cuts(parts: list[str], most: int) -> list[str]:
    """Parts of at most CUT characters, about `most` characters of them in all."""
    found, taken = [], 0
    for part in parts:
        for start in range(0, len(part), CUT):
            found.append(part[start : start + CUT])
            taken += len(found[-1])
            if taken >= most:
                return found
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder written by `llama-gene tokenizer extend`")
    for name in ("dna", "protein", "text"):
        parser.add_argument(f"--{name}", type=Path, help="FASTA" if name != "text" else ".txt or .jsonl")
    parser.add_argument("--letters", type=int, default=4_000_000, help="letters or characters of each")
    options = parser.parse_args()
    public = Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
    figures = {}
    for name in ("dna", "protein"):
        if (path := getattr(options, name)) is None:
            continue
        alphabet, encoder = ALPHABETS[name], read_encoders(public, [name])[name]
        documents = cuts([sequence.letters for sequence in read_sequences(path, alphabet, Ledger())], options.letters)
        wrapped = [f"{alphabet.open_tag}{document}{alphabet.close_tag}" for document in documents]
        whole = "".join(documents)
        mine = [[encoder.tags[0], *ids.tolist(), encoder.tags[1]] for ids in encoder.encode_many(documents)]
        figures[name] = compare(public, wrapped, mine, partial(encoder.encode_many, documents))
        figures[name]["whole"] = len(whole) / 1e6 / seconds(partial(encoder.encode, whole))
        figures[name]["letters_per_token"] = len(whole) / len(encoder.encode(whole))
    if options.text is not None:
        documents = cuts([text.text for text in read_texts(options.text, Ledger())], options.letters)
        documents = [document for document in documents if not MAY_HOLD_SPANS.search(document)]
        plain = text_tokenizer(public)

        def texts() -> list[list[int]]:
            assert not any(map(MAY_HOLD_SPANS.search, documents))  # its cost belongs to the way
            return [encoding.ids for encoding in plain.encode_batch_fast(documents, add_special_tokens=False)]

        figures["text"] = compare(public, documents, texts(), texts)
    print(json.dumps(figures, indent=1))


def compare(public: Tokenizer, documents: list[str], mine: list[list[int]], work: Callable[[], object]) -> dict[str, float]:
    theirs = [encoding.ids for encoding in public.encode_batch_fast(documents, add_special_tokens=False)]
    assert mine == theirs, "ids differ"
    megabytes = sum(len(document.encode()) for document in documents) / 1e6
    public_rate = megabytes / seconds(lambda: public.encode_batch_fast(documents, add_special_tokens=False), repeats=1)
    own_rate = megabytes / seconds(work)
    return {"megabytes": megabytes, "public": public_rate, "ours": own_rate, "ratio": own_rate / public_rate}


if __name__ == "__main__":
    main()
