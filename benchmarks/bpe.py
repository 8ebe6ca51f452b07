"""The exact BPE trainer beside sentencepiece and Hugging Face's BpeTrainer, on the same windows of real sequence.

    python benchmarks/bpe.py --letters 64e6 --pieces 4096 30000 genomes/*.fa.gz
    python benchmarks/bpe.py --alphabet protein --letters 1e9 --pieces 30000 --ways ours proteins/*.faa

Files are tiled to the size asked for; every copy but the first is mutated at a tenth of its positions, and so is called
simulated beyond the first. Each way runs in a process of its own, one after the other. Its time is that of training, from
letter codes in memory (ours) or from a file of windows (the others, which read it as they train); its memory the peak resident
size less what the process held before the corpus came in.
Held-out letters per token are those of the first 2 % of the windows, which no way trains on.
sentencepiece is tuned: two threads, no dummy prefix, identity normalisation, 512-letter lines.
"""

from __future__ import annotations

import argparse
import json
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


def ours(folder: Path, letters: str, pieces: int) -> tuple[float, float, Any]:
    for dense_share in (0, 10**9):  # compile both phases
        learn(np.array([0, 1, 0, 1, 0, BREAK], np.uint8), len(letters), len(letters) + 3, None, dense_share=dense_share)
    before = resident_mib("VmRSS")
    codes = np.fromfile(folder / "codes.bin", np.uint8)
    started = time.perf_counter()
    merges = learn(codes, len(letters), pieces, LONGEST)
    return time.perf_counter() - started, resident_mib("VmHWM") - before, plain_tokenizer(letters, merges)


def hugging_face(folder: Path, letters: str, pieces: int) -> tuple[float, float, Any]:
    from tokenizers import Tokenizer, models, trainers

    trainer = trainers.BpeTrainer(
        vocab_size=pieces, initial_alphabet=list(letters), limit_alphabet=len(letters), max_token_length=LONGEST + 1, show_progress=False
    )
    tokenizer = Tokenizer(models.BPE())
    before = resident_mib("VmRSS")
    with (folder / "windows.txt").open() as lines:
        windows = (line.rstrip() for line in lines)
        started = time.perf_counter()
        tokenizer.train_from_iterator(windows, trainer)
    return time.perf_counter() - started, resident_mib("VmHWM") - before, tokenizer


def sentencepiece(folder: Path, letters: str, pieces: int) -> tuple[float, float, Any]:
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
        num_threads=2,
        input_sentence_size=0,
        minloglevel=2,
    )
    seconds, peak = time.perf_counter() - started, resident_mib("VmHWM") - before
    return seconds, peak, spm.SentencePieceProcessor(model_file=str(folder / "spm.model"))


WAYS = {"ours": ours, "sentencepiece": sentencepiece, "hugging_face": hugging_face}


def one(way: str, folder: Path, letters: str, size: int, pieces: int) -> dict[str, float]:
    seconds, peak, tokenizer = WAYS[way](folder, letters, pieces)
    windows = (folder / "heldout.txt").read_text().split()
    tokens = sum(len(ids) if way == "sentencepiece" else len(ids.ids) for ids in _encode(tokenizer, windows))
    held = sum(map(len, windows))
    return {
        "seconds": round(seconds, 2),
        "peak_mib": round(peak, 1),
        "bytes_per_letter": round(peak * 2**20 / size, 2),
        "heldout_letters": held,
        "letters_per_token": round(held / tokens, 3),
    }


def _encode(tokenizer: Any, windows: list[str]) -> Any:
    return tokenizer.encode(windows) if hasattr(tokenizer, "piece_to_id") else tokenizer.encode_batch(windows)


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
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size, letters = int(options.letters), "".join(sorted(ALPHABETS[options.alphabet].letters))
    if options.one:
        print(json.dumps(one(options.one[0], Path(options.one[1]), letters, size, options.pieces[0])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        codes, heldout = corpus(options.alphabet, options.files, size)
        codes.tofile(folder / "codes.bin")
        (folder / "heldout.txt").write_text("\n".join(strings(heldout, letters)))
        if options.ways != ["ours"]:
            with (folder / "windows.txt").open("w") as lines:
                lines.writelines(f"{window}\n" for window in strings(codes, letters))
        del codes
        for pieces in options.pieces:
            compare(options, pieces, size, folder)


def compare(options: argparse.Namespace, pieces: int, size: int, folder: Path) -> None:
    results = {}
    for way in options.ways:
        command = [sys.executable, __file__, "-", "--alphabet", options.alphabet, "--letters", str(size), "--pieces", str(pieces)]
        done = subprocess.run([*command, "--one", way, str(folder)], capture_output=True, text=True)
        if done.returncode:
            results[way] = {"exit": done.returncode, "said": done.stderr[-400:]}
        else:
            results[way] = json.loads(done.stdout.splitlines()[-1])
        print(f"{options.alphabet}, {size / 1e6:g} M letters, {pieces} pieces, {way}: {json.dumps(results[way])}", flush=True)
    for way in options.ways:
        if way != "ours" and "seconds" in results[way] and "seconds" in results.get("ours", {}):
            faster = results[way]["seconds"] / results["ours"]["seconds"]
            smaller = results["ours"]["peak_mib"] / results[way]["peak_mib"]
            print(f"  ours against {way}: {faster:.1f} times as fast, {smaller:.2f} of its memory", flush=True)


if __name__ == "__main__":
    main()
