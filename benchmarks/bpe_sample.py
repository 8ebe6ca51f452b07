"""What a vocabulary loses when it is trained on a sample: `tokenizer train` with `max_letters` beside all letters.

    python benchmarks/bpe_sample.py --pieces 4096 30000 genomes/*.fa*
    python benchmarks/bpe_sample.py --alphabet protein --pieces 4096 proteins/*.faa

Every fiftieth stretch of 512 letters is held out; the trainer's own sampler draws 1/4 and 1/16 of the
others, with three seeds. Reported on the held-out letters: letters per token, and bits per token of a
code that knows how often each piece stands (counted in every fourth training stretch, the same for all
vocabularies, half a count added). `lost` is what the sample's vocabulary needs more, per token of the
full vocabulary: (bits per letter - those of the full one) x letters per token of the full one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from artefacts.errors import Ledger
from sequences.alphabets import ALPHABETS
from sequences.readers import read_sequences
from tokenizer.bpe.encode import GeneEncoder
from tokenizer.bpe.learn import learn
from tokenizer.bpe.windows import Cutting, WindowStore

STRETCH, HELD_OUT, LONGEST = 512, 50, 12


def encoder(letters: str, merges: np.ndarray, alphabet: str) -> GeneEncoder:
    pieces, named = list(letters), []
    for left, right in merges.tolist():
        named.append((pieces[left], pieces[right]))
        pieces.append(pieces[left] + pieces[right])
    ids = {piece: number for number, piece in enumerate(pieces)}
    return GeneEncoder(ALPHABETS[alphabet], ids, named, (len(ids), len(ids) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--alphabet", choices=("dna", "protein"), default="dna")
    parser.add_argument("--pieces", type=int, nargs="+", default=[4096, 30000])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    alphabet = ALPHABETS[options.alphabet]
    stretches = [
        record.letters[start : start + STRETCH]
        for file in options.files
        for record in read_sequences(file, alphabet, Ledger())
        for start in range(0, len(record.letters), STRETCH)
    ]
    heldout = stretches[::HELD_OUT]
    train = [one for place, one in enumerate(stretches) if place % HELD_OUT]
    size, held = sum(map(len, train)), sum(map(len, heldout))
    print(f"{size:,} letters to train on, {held:,} held out")
    print("| pieces | trained on | seed | seconds | letters per token | bits per letter | lost, bits per token |")
    print("|---|---|---|---|---|---|---|")
    for count in options.pieces:
        full = (0.0, 0.0)
        for share, seed in [(1, 0), *((share, seed) for share in (4, 16) for seed in range(options.seeds))]:
            cutting = Cutting(STRETCH, options.alphabet == "dna", unknown_run=10, seed=seed)
            store = WindowStore(alphabet, cutting, size // share if share > 1 else None)
            for one in train:
                store.add(one.encode())
            codes, started = store.codes(), time.process_time()
            merges = learn(codes, len(store.letters), count, LONGEST)
            seconds = time.process_time() - started
            gene = encoder(store.letters, merges.pairs, options.alphabet)
            seen = np.bincount(np.concatenate(gene.encode_many(train[::4])), minlength=count)
            ids = np.concatenate(gene.encode_many(heldout))
            bits = -np.log2((seen + 0.5) / (seen + 0.5).sum())[ids].sum() / held
            full = (bits, held / len(ids)) if share == 1 else full
            print(
                f"| {count:,} | {'all' if share == 1 else f'1/{share}'} | {seed} | {seconds:.1f} "
                f"| {held / len(ids):.4f} | {bits:.4f} | {(bits - full[0]) * full[1]:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
