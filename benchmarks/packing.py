"""Packing beside the usual route: the same documents, the same tokenizer, the same number of processes.

    python benchmarks/packing.py --tokenizer runs/quickstart/extended --dna ecoli.fna.gz --protein swissprot.faa --text books.jsonl.gz \
        --megabytes 12 48 --workers 1 2 --sizes 10 20 40

The usual route is that of the original's training script: `datasets.map` with the Hugging Face tokenizer, batched, then
`group_texts`, which joins everything and cuts it every `block_tokens`. It is given the documents ready-made, one JSON line
each; ours reads FASTA and JSON lines, drops duplicates, holds documents out and packs. Each run is a process of its own,
start included, and so is its cost. Prints tokens (of documents, without padding) a second, ratios, and for `--sizes`
(megabytes) the greatest memory of all processes together, in MiB; `--plot` draws it over time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from artefacts.errors import Ledger
from data_convert.corpus.pack_recipe import PackRecipe, Source
from sequences.alphabets import ALPHABETS
from sequences.readers import read_sequences
from sequences.texts import read_texts

WINDOW = 3000
BLOCK = 2048


def write_corpus(options: argparse.Namespace, folder: Path, megabytes: float) -> dict[str, Path]:
    """Equal amounts of each modality. Files too short are read again, cut elsewhere, so that nothing is a duplicate."""
    found = {}
    kinds = [name for name in ("dna", "protein", "text") if getattr(options, name)]
    for name in kinds:
        found[name] = folder / (f"{name}.jsonl" if name == "text" else f"{name}.fa")
        left = int(megabytes * 1e6 / len(kinds))
        with found[name].open("w", encoding="utf-8") as handle:
            for turn in range(1000):
                for number, letters in enumerate(_records(name, getattr(options, name), turn)):
                    if left <= 0:
                        break
                    left -= handle.write(json.dumps({"text": letters}) + "\n" if name == "text" else f">{turn}.{number}\n{letters}\n")
                if left <= 0:
                    break
    return found


def _records(name: str, files: list[Path], turn: int) -> Any:
    for file in files:
        if name == "text":
            yield from (text.text[turn * 37 :] for text in read_texts(file, Ledger()) if len(text.text) > turn * 37)
        else:
            sequences = read_sequences(file, ALPHABETS[name], Ledger())
            shift = turn * (37 if name == "dna" else 1)
            yield from (sequence.letters[shift : shift + 1_000_000] for sequence in sequences if len(sequence.letters) > shift)


def ours(tokenizer: Path, corpus: dict[str, Path], out: Path, workers: int) -> int:
    from data_convert.corpus.pack import pack

    sources = [Source(modality=name, files=[file], window=WINDOW if name == "dna" else None) for name, file in corpus.items()]
    size = min(64 << 20, max(file.stat().st_size for file in corpus.values()) // 4)
    counts = pack(PackRecipe(tokenizer=tokenizer, out=out, block_tokens=BLOCK, sources=sources, workers=workers, part_bytes=size))
    return sum(modality["tokens"] for split in ("train", "heldout") for modality in counts[split].values())


def usual(tokenizer: Path, documents: Path, out: Path, workers: int) -> int:
    import datasets
    from transformers import AutoTokenizer

    public: Any = AutoTokenizer.from_pretrained(str(tokenizer))
    data = datasets.load_dataset("json", data_files=str(documents), split="train", cache_dir=str(out / "cache"))
    data = data.map(lambda rows: public(rows["text"]), batched=True, num_proc=workers, remove_columns=["text"])

    def group_texts(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        joined = {name: [item for row in column for item in row] for name, column in rows.items()}
        total = len(joined["input_ids"]) // BLOCK * BLOCK
        cut = {name: [column[i : i + BLOCK] for i in range(0, total, BLOCK)] for name, column in joined.items()}
        return cut | {"labels": cut["input_ids"].copy()}

    data = data.map(group_texts, batched=True, num_proc=workers)
    data.save_to_disk(str(out / "data"))
    return len(data) * BLOCK


def prepared(corpus: dict[str, Path], file: Path) -> Path:
    """The documents as the usual route wants them: windows cut, tags in place."""
    with file.open("w", encoding="utf-8") as handle:
        for name, source in corpus.items():
            if name == "text":
                handle.writelines(source.open(encoding="utf-8"))
                continue
            alphabet = ALPHABETS[name]
            for sequence in read_sequences(source, alphabet, Ledger()):
                step = WINDOW if name == "dna" else len(sequence.letters)
                for start in range(0, len(sequence.letters), step):
                    text = f"{alphabet.open_tag}{sequence.letters[start : start + step]}{alphabet.close_tag}"
                    handle.write(json.dumps({"text": text}) + "\n")
    return file


def measured(arguments: list[str], parallel: bool, memory: list[tuple[float, float]] | None = None) -> dict[str, float]:
    """Run a route in a process of its own: tokens, seconds, and the greatest memory of it and its children.

    `memory` gets (seconds, MiB) of the whole run.
    """
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true" if parallel else "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
    process, most = psutil.Process(child.pid), 0
    while child.poll() is None:
        total = 0
        for one in [process, *_children(process)]:
            try:
                total += one.memory_info().rss
            except psutil.Error:
                continue
        most = max(most, total)
        if memory is not None:
            memory.append((time.monotonic() - started, total / 2**20))
        time.sleep(0.05)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert child.stdout is not None
    lines = child.stdout.read().splitlines()
    if child.returncode:
        raise SystemExit(f"{arguments}: failed")
    tokens = int(lines[-1])
    return {"tokens": tokens, "seconds": seconds, "cpu_seconds": cpu, "tokens_per_second": tokens / seconds, "peak_mib": most / 2**20}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def plot(runs: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Memory of each run over its time; long runs are thinned to the greatest of every 200th of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, samples in runs.items():
        length = samples[-1][0]
        most = [0.0] * 200
        for second, mib in samples:
            place = min(199, int(200 * second / length))
            most[place] = max(most[place], mib)
        axes.plot([length * (place + 0.5) / 200 for place in range(200)], most, label=f"{name}, greatest {max(most):,.0f} MiB")
    axes.axhline(4096, color="grey", linestyle="--", linewidth=0.8)
    axes.set(xscale="log", xlabel="seconds", ylabel="MiB, all processes together", ylim=(0, 4500), title="Memory of `convert pack`")
    axes.legend(frameon=False)
    figure.savefig(path)


def _cpu(mine: dict[str, float], theirs: dict[str, float]) -> float:
    """Tokens per second of processor time against the same: a busy machine counts less."""
    return mine["tokens"] / mine["cpu_seconds"] / (theirs["tokens"] / theirs["cpu_seconds"])


def main() -> None:
    if sys.argv[1:2] == ["--route"]:
        route, tokenizer, files, out, workers = sys.argv[2:]
        found = json.loads(files)
        if route == "ours":
            print(ours(Path(tokenizer), {name: Path(file) for name, file in found.items()}, Path(out), int(workers)))
        else:
            print(usual(Path(tokenizer), Path(found), Path(out), int(workers)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder written by `llama-gene tokenizer extend`")
    for name in ("dna", "protein", "text"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", default=[])
    parser.add_argument("--megabytes", type=float, nargs="*", default=[12], help="of the corpora of the comparison")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--sizes", type=float, nargs="*", default=[], help="megabytes of the corpora whose memory is measured, with the last of --workers"
    )
    parser.add_argument("--plot", type=Path, help="where to draw the memory of --sizes (.svg, .png)")
    options = parser.parse_args()
    runs: dict[str, list[tuple[float, float]]] = {}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def route(name: str, files: Any, workers: int, memory: list[tuple[float, float]] | None = None) -> dict[str, float]:
            place = folder / f"{name}-{workers}-{time.monotonic_ns()}"
            return measured(
                ["--route", name, str(options.tokenizer), json.dumps(files, default=str), str(place), str(workers)], False, memory
            )

        for size in options.megabytes:
            corpus = write_corpus(options, folder, size)
            documents = prepared(corpus, folder / "documents.jsonl")
            for workers in options.workers:
                mine, theirs = route("ours", corpus, workers), route("usual", str(documents), workers)
                ratio = mine["tokens_per_second"] / theirs["tokens_per_second"]
                both = {"ours": mine, "usual": theirs, "ratio": ratio, "ratio_of_cpu": _cpu(mine, theirs)}
                figures[f"{size:g} MB, workers {workers}"] = both
        for size in options.sizes:
            memory = runs.setdefault(f"{size:,g} MB", [])
            figures[f"{size:g} MB"] = route("ours", write_corpus(options, folder, size), options.workers[-1], memory)
        if options.plot:
            plot(runs, options.plot)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
