"""What the near-duplicate search of `llama-gene convert audit` finds: simulated mutated copies among real sequences.

Originals are random letters; each copy has a share of its letters changed (nine in ten of the changes substitutions, the rest
insertions and deletions), DNA copies on either strand. `found`: the search from the copy leads to its original. `joined`: of
the pairs whose identity by a full alignment is at least the threshold, those that end up in one cluster. The background
makes the index as crowded as a real one.

    python -m benchmarks.splits --background records/train.jsonl

With --exhaustive N: N sequences of a leak-controlled test set are aligned in full with every training sequence, to see
whether the search has missed a nearer one.

    python -m benchmarks.splits --exhaustive 10 --records records-controlled --longest 110
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
from numba import njit

from data_convert.splits.align import GAP, SCORES, equal_letters, identity
from data_convert.splits.contain import COMPLEMENT_CODES
from data_convert.splits.near import best_identity, join_near
from data_convert.splits.pool import TEST, TRAIN, read_pool, space_of
from data_convert.splits.union import Parents
from sequences.alphabets import DNA, PROTEIN, Alphabet, reverse_complement

CASES = (
    (DNA, "ACGT", (70, 101, 300, 500), (0.7, 0.8, 0.9, 0.95)),
    (PROTEIN, "ACDEFGHIKLMNPQRSTVWY", (50, 100, 300), (0.4, 0.5, 0.7, 0.8, 0.9, 0.95)),
)


def mutated(rng: random.Random, sequence: str, alike: float, letters: str) -> str:
    out = []
    for letter in sequence:
        if rng.random() < alike:
            out.append(letter)
        elif (kind := rng.random()) < 0.05:
            continue
        elif kind < 0.1:
            out += [letter, rng.choice(letters)]
        else:
            out.append(rng.choice([other for other in letters if other != letter]))
    return "".join(out)


def sensitivity(alphabet: Alphabet, letters: str, lengths: tuple, shares: tuple, background: list[str], number: int, least: float) -> None:
    rng = random.Random(0)
    pairs = []
    for size in lengths:
        for alike in shares:
            for place in range(number):
                original = "".join(rng.choices(letters, k=size))
                copy = mutated(rng, original, alike, letters)
                pairs.append((size, alike, original, reverse_complement(copy) if alphabet is DNA and place % 2 else copy))
    numbers: dict[bytes, int] = {}

    def place_of(sequence: str) -> int:
        return numbers.setdefault((min(sequence, reverse_complement(sequence)) if alphabet is DNA else sequence).encode(), len(numbers))

    rows = [(place_of(original), place_of(copy)) for *_, original, copy in pairs]
    for sequence in background:
        place_of(sequence)
    space, rank = space_of(alphabet, numbers, 0)
    nodes = rank[np.array(rows)]
    targets = np.setdiff1d(np.arange(len(space)), nodes[:, 1])
    started = time.process_time()
    _, where = best_identity(space, nodes[:, 1], targets)
    middle = time.process_time()
    parents = Parents(len(space))
    join_near(space, parents, least)
    roots = parents.roots()
    ended = time.process_time()
    print(
        f"{alphabet.name}: {len(space):,} sequences, {len(space.codes):,} letters; processor time: search {middle - started:.0f} s, "
        f"clusters at {least} {ended - middle:.0f} s"
    )
    for size in lengths:
        cells = []
        for alike in shares:
            mine = [row for row, pair in enumerate(pairs) if pair[:2] == (size, alike)]
            found = np.mean([nodes[row, 0] in (where[row], nodes[row, 1]) for row in mine])  # a copy may have stayed equal
            true = [row for row in mine if true_identity(alphabet, *pairs[row][2:]) >= least]
            joined = np.mean([roots[nodes[row, 0]] == roots[nodes[row, 1]] for row in true]) if len(true) >= 10 else None
            cells.append(f"{100 * found:.1f} %" + (f" ({100 * joined:.1f} % of {len(true)})" if joined is not None else ""))
        print(f"| {size} | " + " | ".join(cells) + " |", flush=True)


def true_identity(alphabet: Alphabet, original: str, copy: str) -> float:
    strands = [copy, reverse_complement(copy)] if alphabet is DNA else [copy]
    return max(identity(alphabet, original, strand) for strand in strands)


@njit(cache=True, nogil=True)
def _all(codes, starts, query, targets, scores, gap, both):
    best = 0.0
    a = codes[starts[query] : starts[query + 1]].copy()
    turned = a[::-1].copy()
    if both:
        for i in range(len(turned)):
            turned[i] = COMPLEMENT_CODES[turned[i]]
    for target in targets:
        b = codes[starts[target] : starts[target + 1]]
        shorter = min(len(a), len(b))
        for strand in range(2 if both else 1):
            equal = equal_letters(turned if strand else a, b, 0, len(a) + len(b), scores, gap)[1]
            best = max(best, equal / shorter)
    return best


def exhaustive(records: Path, number: int, longest: int) -> None:
    pool = read_pool(records)
    space = next(space for space in pool.spaces if len(space))
    of = pool.split[pool.side_record]
    test = np.unique(pool.node[of == TEST])
    test = test[pool.lengths[test] <= longest]
    chosen = np.sort(np.random.default_rng(0).permutation(test)[:number])
    train = np.unique(pool.node[of == TRAIN])
    quick, _ = best_identity(space, chosen, train)
    name = space.alphabet.name
    for node, found in zip(chosen, quick, strict=True):
        full = _all(space.codes, space.starts, node - space.first, train - space.first, SCORES[name], GAP[name], name == "dna")
        print(f"{pool.lengths[node]} letters: search {found:.3f}, full alignment with all {len(train):,}: {full:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--background", type=Path, help="a .jsonl of records; its DNA surrounds the DNA copies")
    parser.add_argument("--number", type=int, default=300, help="copies per length and identity")
    parser.add_argument("--exhaustive", type=int, default=0)
    parser.add_argument("--records", type=Path)
    parser.add_argument("--longest", type=int, default=110)
    options = parser.parse_args()
    if options.exhaustive:
        exhaustive(options.records, options.exhaustive, options.longest)
        return
    background: dict[str, list[str]] = {"dna": [], "protein": []}
    if options.background:
        for line in options.background.open(encoding="utf-8"):
            for item in json.loads(line)["inputs"]:
                background["protein" if item["modality"] == "protein" else "dna"].append(item["letters"])
    for alphabet, letters, lengths, shares in CASES:
        least = 0.8 if alphabet is DNA else 0.5
        sensitivity(alphabet, letters, lengths, shares, background[alphabet.name], options.number, least)


if __name__ == "__main__":
    main()
