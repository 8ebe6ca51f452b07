"""How long `eval score` and `eval report` take on as many invented predictions as GUE has test records.

    python benchmarks/score.py

28 tasks, 4 systems with probabilities, the first of them with written answers too; nothing here was ever measured on DNA.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder, whose eval.py would pass for the room `eval`

from eval.judge.score import score
from eval.show.report import ReportRecipe, report

TESTS = (
    [5920, 5307, 613] * 2
    + [1000] * 5
    + [810, 6745, 328, 239, 1883]
    + [4562]
    + [1497, 3305, 3488, 3168, 3069, 3680, 2884, 2779, 1461, 3410, 9168]
)
CLASSES = [2] * 16 + [3] + [2] * 10 + [9]
SYSTEMS = ("llama-gene", "kmer", "luca", "nearest")


def invent(folder: Path) -> None:
    rng = np.random.default_rng(0)
    cards, records, lines = [], [], {name: [] for name in SYSTEMS}
    for number, (n, classes) in enumerate(zip(TESTS, CLASSES, strict=True)):
        task, names = f"bench/{number}", [f"class {c}" for c in range(classes)]
        kind = "binary" if classes == 2 else "multiclass"
        card = {
            "id": task,
            "title": task,
            "version": 1,
            "simulated": True,
            "kind": kind,
            "split_note": "invented",
            "source": {"name": "-", "licence": None},
        }
        cards.append({**card, "metrics": ["mcc"], "primary_metric": "mcc", "published": [], "traps": []})
        for row, gold in enumerate(rng.integers(0, classes, n)):
            record = {"id": f"{task}/{row}", "task": task, "split": "test", "kind": kind, "choices": names}
            records.append({**record, "label": names[gold], "inputs": [{"letters": "A" * int(rng.integers(50, 400))}]})
            for name in SYSTEMS:
                logprobs = rng.normal(size=classes) + 2 * (np.arange(classes) == gold)
                said = names[int(logprobs.argmax())]
                written = (
                    {"text": said, "parsed": said, "status": "valid"}
                    if name == "llama-gene"
                    else dict.fromkeys(("text", "parsed", "status"))
                )
                lines[name].append({**record, "gold": names[gold], "logprobs": logprobs.tolist(), "predicted": said, **written})
    (folder / "records").mkdir()
    (folder / "predictions").mkdir()
    (folder / "records" / "cards.json").write_text(json.dumps(cards))
    (folder / "records" / "test.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for name, own in lines.items():
        (folder / "predictions" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in own))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        invent(folder)
        begin, cpu = time.perf_counter(), time.process_time()
        score(folder / "records", folder / "predictions", folder / "metrics.json", seed=0)
        middle, cpu_middle = time.perf_counter(), time.process_time()
        report(ReportRecipe(metrics=folder / "metrics.json", out=folder / "report.html"))
        end, cpu_end = time.perf_counter(), time.process_time()
        size = (folder / "report.html").stat().st_size
        print(f"{sum(TESTS):,} test records, {len(TESTS)} tasks, {len(SYSTEMS)} systems")
        print(f"score: {middle - begin:.1f} s wall, {cpu_middle - cpu:.1f} s processor")
        print(f"report: {end - middle:.1f} s wall, {cpu_end - cpu_middle:.1f} s processor, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
