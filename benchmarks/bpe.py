"""The exact BPE trainer beside sentencepiece, Hugging Face's BpeTrainer, gigabpe and rustbpe, on the same windows of real sequence.

    python benchmarks/bpe.py --letters 64e6 --pieces 4096 30000 genomes/*.fa.gz
    python benchmarks/bpe.py --alphabet protein --letters 1e9 --pieces 30000 --ways ours proteins/*.faa

Files are tiled to the size asked for; every copy but the first is mutated at a tenth of its positions, and so is called
simulated beyond the first. Each way runs in a process of its own, one after the other, once on one thread and once on all cores
(ours has one). Its time is that from a file of windows, one a line, to merges; its memory the peak resident size less what the
process held before. A package that is not installed is named and left out.
Held-out letters per token are those of the first 2 % of the windows, which no way trains on.
sentencepiece is tuned: no dummy prefix, identity normalisation, 512-letter lines. rustbpe works on bytes and has no longest piece:
it learns as many merges, some of them longer than the others may. sentencepiece and gigabpe spend no piece on letters that do not occur.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artefacts.errors import Ledger
from sequences.alphabets import ALPHABETS
from sequences.readers import read_sequences
from tokenizer.bpe.learn import BREAK, learn
from tokenizer.bpe.train import plain_tokenizer
from tokenizer.bpe.windows import Cutting, WindowStore

LONGEST = 12


def corpus(alphabet: str, files: list[Path], letters: int, mutated: float = 0.1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Training codes and held-out codes."""
    store = WindowStore(ALPHABETS[alphabet], Cutting(512, alphabet == "dna", unknown_run=10))
    for file in files:
        for record in read_sequences(file, ALPHABETS[alphabet], Ledger()):
            store.add(record.letters.encode())
    real = store.codes()
    held = int(np.flatnonzero(real == BREAK)[int(0.02 * store.windows)]) + 1
    heldout, real = real[:held], real[held:]
    frequency = np.bincount(real, minlength=256)[: len(store.letters)]
    common = np.argsort(-frequency)[: 4 if alphabet == "dna" else 20].astype(np.uint8)
    draw = np.random.default_rng(0)
    out = np.empty(letters, np.uint8)
    for start in range(0, letters, real.size):
        tile = real[: letters - start].copy()
        if start:
            for part in range(0, tile.size, 1 << 24):
                piece = tile[part : part + (1 << 24)]
                hit = np.flatnonzero((draw.random(piece.size, dtype=np.float32) < mutated) & (piece != BREAK))
                piece[hit] = draw.choice(common, hit.size)
        out[start : start + tile.size] = tile
    out[-1] = BREAK
    return out, heldout


def resident_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (the peak) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status: this benchmark needs Linux")


def ours(folder: Path, letters: str, pieces: int, threads: int) -> tuple[float, float, Any]:
    for dense_share in (0, 10**9):  # compile both phases
        learn(np.array([0, 1, 0, 1, 0, BREAK], np.uint8), len(letters), len(letters) + 3, None, dense_share=dense_share)
    before = resident_mib("VmRSS")
    table = np.full(256, BREAK, np.uint8)
    table[list(letters.encode())] = np.arange(len(letters))
    started = time.perf_counter()
    codes = np.fromfile(folder / "windows.txt", np.uint8)
    np.take(table, codes, out=codes, mode="clip")
    merges = learn(codes, len(letters), pieces, LONGEST)
    return time.perf_counter() - started, resident_mib("VmHWM") - before, plain_tokenizer(letters, merges)


def hugging_face(folder: Path, letters: str, pieces: int, threads: int) -> tuple[float, float, Any]:
    from tokenizers import Tokenizer, models, trainers

    trainer = trainers.BpeTrainer(
        vocab_size=pieces, initial_alphabet=list(letters), limit_alphabet=len(letters), max_token_length=LONGEST + 1, show_progress=False
    )
    tokenizer = Tokenizer(models.BPE())
    before = resident_mib("VmRSS")
    started = time.perf_counter()
    with (folder / "windows.txt").open() as lines:
        windows = (line.rstrip() for line in lines)
        tokenizer.train_from_iterator(windows, trainer)
    return time.perf_counter() - started, resident_mib("VmHWM") - before, tokenizer


def sentencepiece(folder: Path, letters: str, pieces: int, threads: int) -> tuple[float, float, Any]:
    import sentencepiece as spm

    before = resident_mib("VmRSS")
    started = time.perf_counter()
    spm.SentencePieceTrainer.train(
        input=str(folder / "windows.txt"),
        model_prefix=str(folder / "spm"),
        vocab_size=pieces + 1,  # its unknown piece
        model_type="bpe",
        add_dummy_prefix=False,
        normalization_rule_name="identity",
        character_coverage=1.0,
        max_sentence_length=20000,
        max_sentencepiece_length=LONGEST,
        bos_id=-1,
        eos_id=-1,
        num_threads=threads,
        input_sentence_size=0,
        minloglevel=2,
    )
    seconds, peak = time.perf_counter() - started, resident_mib("VmHWM") - before
    return seconds, peak, spm.SentencePieceProcessor(model_file=str(folder / "spm.model"))


def gigabpe(folder: Path, letters: str, pieces: int, threads: int) -> tuple[float, float, Any]:
    import gigabpe as library
    from tokenizers import Tokenizer, models

    before, started = resident_mib("VmRSS"), time.perf_counter()
    vocab, merges = library.train_bpe(
        [str(folder / "windows.txt")], vocab_size=pieces, max_token_length=LONGEST, pretokenizer="whitespace", threads=threads
    )
    return time.perf_counter() - started, resident_mib("VmHWM") - before, Tokenizer(models.BPE(vocab, merges))


def rustbpe(folder: Path, letters: str, pieces: int, threads: int) -> tuple[float, float, Any]:
    import rustbpe as library

    tokenizer = library.Tokenizer()
    before, started = resident_mib("VmRSS"), time.perf_counter()
    with (folder / "windows.txt").open() as lines:
        tokenizer.train_from_iterator(lines, vocab_size=256 + pieces - len(letters), pattern=r"\S+")
    return time.perf_counter() - started, resident_mib("VmHWM") - before, tokenizer


WAYS = {"ours": ours, "sentencepiece": sentencepiece, "hugging_face": hugging_face, "gigabpe": gigabpe, "rustbpe": rustbpe}
PACKAGES = {"sentencepiece": "sentencepiece", "hugging_face": "tokenizers", "gigabpe": "gigabpe", "rustbpe": "rustbpe"}


def one(way: str, folder: Path, letters: str, size: int, pieces: int, threads: int) -> dict[str, float]:
    seconds, peak, tokenizer = WAYS[way](folder, letters, pieces, threads)
    windows = (folder / "heldout.txt").read_text().split()
    tokens = sum(len(getattr(ids, "ids", ids)) for ids in _encode(tokenizer, windows))
    held = sum(map(len, windows))
    return {
        "seconds": round(seconds, 2),
        "peak_mib": round(peak, 1),
        "bytes_per_letter": round(peak * 2**20 / size, 2),
        "heldout_letters": held,
        "letters_per_token": round(held / tokens, 3),
    }


def _encode(tokenizer: Any, windows: list[str]) -> Any:
    if hasattr(tokenizer, "encode_batch"):
        return tokenizer.encode_batch(windows)
    return [tokenizer.encode(window) for window in windows]


def strings(codes: NDArray[np.uint8], letters: str) -> list[str]:
    """The windows as text, for trainers that want lines."""
    table = bytes(ord(letters[code]) if code < len(letters) else 10 for code in range(256))
    return codes.tobytes().translate(table).decode("ascii").split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--alphabet", choices=("dna", "protein"), default="dna")
    parser.add_argument("--letters", type=float, default=64e6)
    parser.add_argument("--pieces", type=int, nargs="+", default=[4096, 30000])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, len(os.sched_getaffinity(0))}))
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size, letters = int(options.letters), "".join(sorted(ALPHABETS[options.alphabet].letters))
    if options.one:
        print(json.dumps(one(options.one[0], Path(options.one[1]), letters, size, options.pieces[0], options.threads[0])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        codes, heldout = corpus(options.alphabet, options.files, size)
        (folder / "heldout.txt").write_text("\n".join(strings(heldout, letters)))
        with (folder / "windows.txt").open("w") as lines:
            lines.writelines(f"{window}\n" for window in strings(codes, letters))
        del codes
        for pieces in options.pieces:
            compare(options, pieces, size, folder)


def compare(options: argparse.Namespace, pieces: int, size: int, folder: Path) -> None:
    absent = {way for way in options.ways if way in PACKAGES and importlib.util.find_spec(PACKAGES[way]) is None}
    for way in sorted(absent):
        print(f"{way}: left out, pip install {PACKAGES[way]}")
    results: dict[tuple[str, int], dict[str, Any]] = {}
    for way, threads in itertools.product([way for way in options.ways if way not in absent], options.threads):
        if way == "ours" and threads != options.threads[0]:
            results[way, threads] = results[way, options.threads[0]]  # it has one
            continue
        command = [sys.executable, __file__, "-", "--alphabet", options.alphabet, "--letters", str(size), "--pieces", str(pieces)]
        command += ["--threads", str(threads), "--one", way, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RAYON_NUM_THREADS": str(threads)})
        if done.returncode:
            results[way, threads] = {"exit": done.returncode, "said": done.stderr[-400:]}
        else:
            results[way, threads] = json.loads(done.stdout.splitlines()[-1])
        named = f"{options.alphabet}, {size / 1e6:g} M letters, {pieces} pieces, {way}, {threads} threads"
        print(f"{named}: {json.dumps(results[way, threads])}", flush=True)
    for (way, threads), found in results.items():
        own = results.get(("ours", threads), {})
        if way != "ours" and "seconds" in found and "seconds" in own:
            faster, smaller = found["seconds"] / own["seconds"], own["peak_mib"] / found["peak_mib"]
            print(f"  ours against {way} on {threads} threads: {faster:.1f} times as fast, {smaller:.2f} of its memory", flush=True)


if __name__ == "__main__":
    main()
