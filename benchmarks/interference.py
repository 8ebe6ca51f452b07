"""Does extending a base change the ids of ordinary text? Every line of real text through the base and the extended tokenizer.

    python benchmarks/interference.py --text ../shared/data/text --dna runs/dna.json --protein runs/protein.json \
        --base ../shared/data/tokenizers/mistral_tokenizer.model.v1

Without --base, a byte-level base (Llama 3's pattern, 8,000 ids) is trained on a part of the text. For a SentencePiece base the
sentencepiece library, which is the truth, is asked too. Text short of --megabytes is read again, sentence by sentence.
Prints MB, lines, changed lines, seconds; ends with 1 if any line changed. One process, one thread.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sentencepiece
from tokenizers import Tokenizer

from artefacts.errors import Ledger
from sequences.texts import read_texts
from tokenizer.base import Base, read_base, sentencepiece_file
from tokenizer.create import train_byte_level
from tokenizer.vocabulary import extend

BATCH = 4096


def lines_of(files: list[Path]) -> Iterator[str]:
    for file in files:
        for document in read_texts(file, Ledger()):
            yield from document.text.splitlines(keepends=True)


def sentences_of(files: list[Path]) -> Iterator[str]:
    """Another grouping: whole documents cut after full stops, line breaks inside."""
    for file in files:
        for document in read_texts(file, Ledger()):
            yield from re.split(r"(?<=[.?!]) ", document.text)


def enough(files: list[Path], megabytes: float) -> Iterator[str]:
    """All lines, then sentences of the same text until `megabytes` are reached."""
    seen = 0
    for name, grouping in (("lines", lines_of), ("sentences", sentences_of)):
        for text in grouping(files):
            if name == "sentences" and seen >= megabytes * 1e6:
                return
            seen += len(text.encode())
            yield text
        print(f"after all {name}: {seen / 1e6:.1f} MB", flush=True)


def toy_base(files: list[Path]) -> Base:
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "sample.txt"
        sample.write_text("".join(islice(lines_of(files), 20_000)), encoding="utf-8")
        return train_byte_level([sample], 8000, Ledger())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder of .txt and .jsonl files, gz too")
    parser.add_argument("--dna", type=Path, required=True, help="gene BPE of `llama-gene tokenizer train`")
    parser.add_argument("--protein", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="tokenizer.json, tokenizer.model or folder")
    parser.add_argument("--megabytes", type=float, default=50)
    options = parser.parse_args()
    files = sorted(file for file in options.text.iterdir() if re.search(r"\.(txt|jsonl)(\.gz)?$", file.name))
    base = read_base(options.base) if options.base else toy_base(files)
    model = sentencepiece_file(options.base) if options.base else None
    library = sentencepiece.SentencePieceProcessor(str(model)) if model else None
    extended, new, _ = extend(base, Tokenizer.from_file(str(options.dna)), Tokenizer.from_file(str(options.protein)))
    print(f"{base.family} base, {base.tokenizer.get_vocab_size()} ids, {len(new.all)} new ones", flush=True)
    size = lines = changed = other_than_library = 0
    seconds = {"base": 0.0, "extended": 0.0}
    texts = enough(files, options.megabytes)
    while batch := list(islice(texts, BATCH)):
        ids = {}
        for name, tokenizer in (("base", base.tokenizer), ("extended", extended)):
            started = time.perf_counter()
            ids[name] = [encoding.ids for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
            seconds[name] += time.perf_counter() - started
        differing = [text for text, one, two in zip(batch, ids["base"], ids["extended"], strict=True) if one != two]
        if differing and not changed:
            print(f"first changed: {differing[0]!r}")
        changed += len(differing)
        if library is not None:
            others = [text for text, one, two in zip(batch, library.encode(batch), ids["extended"], strict=True) if one != two]
            if others and not other_than_library:
                print(f"first that differs from the library: {others[0]!r}")
            other_than_library += len(others)
        size += sum(len(text.encode()) for text in batch)
        lines += len(batch)
    told = f", {other_than_library} other than the sentencepiece library" if library is not None else ""
    print(
        f"{size / 1e6:.1f} MB, {lines} lines, {changed} changed{told}; base {seconds['base']:.0f} s, extended {seconds['extended']:.0f} s"
    )
    return int(bool(changed or other_than_library))


if __name__ == "__main__":
    raise SystemExit(main())
