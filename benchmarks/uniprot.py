"""Speed of the UniProt readers beside Biopython, on invented entries as heavy as Swiss-Prot's (8 kB each).

    python benchmarks/uniprot.py --entries 4000

Prints megabytes a second of processor time, the best of three runs, for the flat file, the same gz, XML and TSV.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import uniprot_writers as write
from Bio import SwissProt

from sequences.uniprot import checked_entries


def invented(number: int) -> write.Invented:
    draw = random.Random(number)
    text = f"{' '.join(draw.choices([word for word in write.WORDS if word.isascii()], k=40))}."
    terms = [(f"GO:{draw.randrange(10**7):07d}", "P", "regulation of a process in a place") for _ in range(8)]
    sequence = "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=360))
    return write.Invented(f"P{10_000 + number}", sequence=sequence, functions=[("", text, ["ECO:0000269"])], go=terms)


def heavy(entry: write.Invented) -> str:
    """The flat entry with as many cross references and features as real ones have."""
    references = "".join(f"DR   PDB; 1{place:03}; X-ray; 2.50 A; A/B=27-262, a further cross reference.\n" for place in range(45))
    features = "".join(f'FT   HELIX           {n}..{n + 5}\nFT                   /evidence="ECO:0007829|PDB:1OP8"\n' for n in range(20))
    return write.flat(entry).replace("PE   1", f"{references}PE   1").replace("SQ   SEQ", f"{features}SQ   SEQ")


def speed(work: Callable[[], int], size: int, entries: int) -> float:
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        assert work() == entries, "entries were lost"
        best = min(best, time.process_time() - started)
    return size / 1e6 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=4000)
    options = parser.parse_args()
    entries = [invented(number) for number in range(options.entries)]
    flat = "".join(map(heavy, entries)).encode()
    contents = {"flat": flat, "flat.gz": flat, "XML": write.xml(entries).encode(), "TSV": write.tsv(entries).encode()}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents.items():
            path = Path(folder) / name
            path.write_bytes(gzip.compress(content, 6) if name.endswith(".gz") else content)
            rate = speed(lambda path=path: sum(1 for _ in checked_entries(path)), len(content), len(entries))  # type: ignore[misc]
            print(f"{name:20} {rate:6.0f} MB/s")

        def biopython() -> int:
            with open(Path(folder) / "flat", encoding="utf-8") as handle:
                return sum(1 for _ in SwissProt.parse(handle))

        print(f"{'flat, Biopython':20} {speed(biopython, len(flat), len(entries)):6.0f} MB/s")


if __name__ == "__main__":
    main()
