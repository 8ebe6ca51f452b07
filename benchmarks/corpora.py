"""The table of docs/corpora.md from runs of configs/recipes/corpora.yaml, one folder a seed.

    python benchmarks/corpora.py runs/corpora/seed0 runs/corpora/seed1 runs/corpora/seed2

Each cell: the mean over the seeds that are finished, how far the seeds are apart, and their number; of
pairs also the interval over genes of each seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

CORPORA = ("windows", "genic", "interleaved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="of one seed each")
    cells: dict[str, dict[str, list[float]]] = {}
    intervals: dict[str, list[str]] = {}
    for folder in parser.parse_args().folders:
        for corpus in CORPORA:
            history = folder / corpus / "pretrained" / "history.jsonl"
            if history.is_file():
                lines = map(json.loads, history.read_text(encoding="utf-8").splitlines())
                last = [line["heldout"] for line in lines if "heldout" in line][-1]
                for name, bits in last.items():
                    cells.setdefault(f"bits, {name}", {}).setdefault(corpus, []).append(bits)
            figures = folder / corpus / "pairs" / "figures.json"
            if figures.is_file():
                for one in json.loads(figures.read_text(encoding="utf-8"))["figures"]:
                    name = f"{one['of']}: {one['metric']} (n = {one['n']})"
                    cells.setdefault(name, {}).setdefault(corpus, []).append(one["value"])
                    interval = f"{folder.name} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
                    intervals.setdefault(f"{corpus}, {name}", []).append(interval)
    print(f"| | {' | '.join(CORPORA)} |\n|---|{'---|' * len(CORPORA)}")
    for name, found in cells.items():
        row = []
        for values in (found.get(corpus, []) for corpus in CORPORA):
            apart = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
            row.append(f"{sum(values) / len(values):.3f}{apart}, {len(values)} seeds" if values else "")
        print(f"| {name} | {' | '.join(row)} |")
    for name, found in intervals.items():
        print(f"{name}: {'; '.join(found)}")


if __name__ == "__main__":
    main()
