"""Every file of a corpus packed, every letter accounted for, every document decoded and found again.

    python benchmarks/corpus_ledger.py --tokenizer runs/extended --genomes data/genomes --proteins data/proteins --text data/text \
        --exclude data/gue/*/*/test.csv

Packs all files below the folders, one source each, with `verify`, and prints a line per file: records and letters read =
packed + held out + rejected, by reason. The letters are counted a second time by a few lines that share no code with the
readers; a file for which the sums differ ends the script with an error.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source


def files_below(folders: list[Path]) -> list[Path]:
    return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())


def counted(file: Path) -> int:
    """Letters, or UTF-8 bytes of text, counted without the project's readers."""
    raw = file.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    name = file.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        return sum(len(json.loads(line)["text"].encode()) for line in raw.splitlines())
    if name.endswith(".tsv"):
        header, *rows = raw.decode().rstrip("\n").split("\n")
        place = [column.lower() for column in header.split("\t")].index("sequence")
        return sum(len(row.split("\t")[place]) for row in rows)
    if name.endswith(".gbff"):
        return sum(len(re.sub(rb"[\s\d/]", b"", part)) for part in re.findall(rb"\nORIGIN[^\n]*\n(.*?)//", raw, re.DOTALL))
    return sum(len(line.strip()) for line in raw.splitlines() if not line.startswith(b">"))


def sources(options: argparse.Namespace) -> Iterator[Source]:
    for file in files_below(options.genomes):
        yield Source(modality="dna", files=[file], window=options.window, heldout_share=options.heldout_share)
    for file in files_below(options.proteins):
        yield Source(modality="protein", files=[file], heldout_share=options.heldout_share)
    for file in files_below(options.text):
        yield Source(modality="text", files=[file], heldout_share=options.heldout_share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    for name in ("genomes", "proteins", "text", "exclude"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", default=[])
    parser.add_argument("--window", type=int, default=6000)
    parser.add_argument("--heldout-share", type=float, default=0.02)
    options = parser.parse_args()
    corpus = list(sources(options))
    with tempfile.TemporaryDirectory() as folder:
        recipe = PackRecipe(tokenizer=options.tokenizer, out=Path(folder) / "out", sources=corpus, verify=True, exclude=options.exclude)
        counts = pack(recipe)
    wrong = []
    for source, report in zip(corpus, counts["sources"], strict=True):
        file, letters = source.files[0], report["letters"]
        records = report["records"][str(file)]
        print(f"{file.name}: {records['read']} records = {records['written']} + {records['rejected']} {records['reasons']}; ", end="")
        print(f"{counted(file)} letters = {' + '.join(f'{number} {name}' for name, number in letters.items())}")
        if sum(letters.values()) != counted(file):
            wrong.append(f"{file}: {counted(file)} letters in it, {sum(letters.values())} accounted for")
    print(f"decoded and found again: {counts['verified']}")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
