"""What drawn sequences are made of, beside real ones: composition, k-mers, codons.

Distances are Jensen-Shannon divergences in bits: 0 for equal shares, 1 for none in common. Few letters have rough shares, so as
many real letters, drawn by the seed from the reference, stand beside them: their distance is what chance alone gives.
"""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from artefacts.errors import Ledger, UserError, say_read
from pages.charts import Axis, Series, chart
from pages.page import render_page
from sequences.alphabets import PLAIN_LETTERS, Alphabet
from sequences.codons import CODONS
from sequences.readers import read_sequences

TEMPLATE = Path(__file__).with_name("page.html.jinja")
REFERENCE_LETTERS = 5_000_000
"""Letters read of the reference."""
WINDOW = 500
"""Letters of the real pieces that stand beside the drawn sequences."""
LONGEST = {"dna": 6, "rna": 6, "protein": 2}
SHOWN = {"dna": 3, "rna": 3, "protein": 1}
"""k of the spectrum that is drawn and kept whole."""
ORF_CODONS = 30
"""Codons from a start to a stop, from which a stretch counts as coding."""
CODON_NAMES = sorted(CODONS)


def read_reference(files: list[Path], alphabet: Alphabet) -> list[str]:
    """The first letters of real sequences. Raises UserError as `read_sequences`, and where there is none."""
    found, room = list[str](), REFERENCE_LETTERS
    for path in files:
        ledger = Ledger()
        for sequence in read_sequences(path, alphabet, ledger):
            found.append(sequence.letters[:room])
            room -= len(found[-1])
            if not room:
                print(f"{path}: read up to {REFERENCE_LETTERS:,} letters of the reference", file=sys.stderr)
                return found
        say_read(str(path), ledger.as_dict())
    if room == REFERENCE_LETTERS:
        raise UserError(f"{files[0]}: no {alphabet.name} letter in the reference; give sequences of the modality drawn")
    return found


def beside(alphabet: Alphabet, drawn: list[str], real: list[str], seed: int) -> dict[str, Any]:
    """Statistics of the drawn sequences and, where there are any, of real ones, and how far they are apart."""
    figures: dict[str, Any] = {"drawn": _figures(alphabet, drawn), "real": _figures(alphabet, real) if real else None}
    pieces = [sequence[at : at + WINDOW] for sequence in real for at in range(0, len(sequence), WINDOW)]
    random.Random(seed).shuffle(pieces)
    size = int(np.searchsorted(np.cumsum([len(piece) for piece in pieces]), sum(map(len, drawn)))) + 1
    enough = size * 2 <= len(pieces)
    figures["distance"] = [
        {
            "k": k,
            "drawn": divergence(kmer_counts(drawn, alphabet, k), kmer_counts(real, alphabet, k)),
            "as_many_real": divergence(kmer_counts(pieces[:size], alphabet, k), kmer_counts(pieces[size:], alphabet, k))
            if enough
            else None,
        }
        for k in range(1, LONGEST[alphabet.name] + 1)
        if real
    ]
    return figures


def _figures(alphabet: Alphabet, sequences: list[str]) -> dict[str, Any]:
    lengths = np.array([len(sequence) for sequence in sequences])
    plain, k = PLAIN_LETTERS[alphabet.name], SHOWN[alphabet.name]
    found: dict[str, Any] = {
        "sequences": len(sequences),
        "letters": int(lengths.sum()),
        "length": dict(zip(("least", "median", "most"), map(float, np.quantile(lengths, (0, 0.5, 1))), strict=True)),
        "composition": dict(zip(plain, _shares(kmer_counts(sequences, alphabet, 1)), strict=True)),
        "kmers": {"k": k, "shares": _shares(kmer_counts(sequences, alphabet, k))},
    }
    if alphabet.name != "protein":
        found["gc"] = found["composition"]["G"] + found["composition"]["C"]
        number, counts = codon_counts(sequences, alphabet)
        found["coding"] = {"stretches": number, "codons": int(counts.sum()), "shares": dict(zip(CODON_NAMES, _shares(counts), strict=True))}
    return found


def kmer_counts(sequences: list[str], alphabet: Alphabet, k: int) -> NDArray[np.int64]:
    """How often each k-mer of plain letters occurs, overlapping, [letters ** k] in lexicographic order of `PLAIN_LETTERS`."""
    codes, base = _codes(sequences, alphabet), len(PLAIN_LETTERS[alphabet.name])
    number, whole = np.zeros(max(0, len(codes) - k + 1), dtype=np.int64), np.ones(max(0, len(codes) - k + 1), dtype=bool)
    for place in range(k):
        part = codes[place : place + len(number)]
        number, whole = number * base + part, whole & (part >= 0)
    return np.bincount(number[whole], minlength=base**k)


def codon_counts(sequences: list[str], alphabet: Alphabet) -> tuple[int, NDArray[np.int64]]:
    """Stretches from a start to a stop, and their codons (stops left out), [64] in the order of `CODON_NAMES`.

    Forward strand, all three frames, from the first ATG behind a stop; stretches of `ORF_CODONS` and more.
    """
    codes, stretches, counts = _codes(sequences, alphabet), 0, np.zeros(64, dtype=np.int64)
    start = CODON_NAMES.index("ATG")
    stops = [index for index, codon in enumerate(CODON_NAMES) if CODONS[codon] == "*"]
    for frame in range(3):
        part = codes[frame : frame + (len(codes) - frame) // 3 * 3].reshape(-1, 3).astype(np.int64)
        codons = np.where((part >= 0).all(1), part @ [16, 4, 1], -1)  # ACGT is in lexicographic order
        ends = np.flatnonzero(np.isin(codons, [-1, *stops]))
        starts = np.flatnonzero(codons == start)
        first = np.searchsorted(starts, np.concatenate([[-1], ends[:-1]]) + 1) if len(ends) else np.zeros(0, dtype=np.int64)
        for end, index in zip(ends, first, strict=True):
            if codons[end] >= 0 and index < len(starts) and end - starts[index] >= ORF_CODONS:
                stretches += 1
                counts += np.bincount(codons[starts[index] : end], minlength=64)
    return stretches, counts


def divergence(one: NDArray[np.int64], two: NDArray[np.int64]) -> float | None:
    """Jensen-Shannon divergence of two tables of counts, in bits; None where one is empty."""
    if not one.sum() or not two.sum():
        return None
    shares = [counts / counts.sum() for counts in (one, two)]
    middle = (shares[0] + shares[1]) / 2
    return float(sum((part[part > 0] * np.log2(part[part > 0] / middle[part > 0])).sum() for part in shares) / 2)


def write_page(statistics: dict[str, Any], alphabet: Alphabet, settings: dict[str, Any], counts: dict[str, Any], path: Path) -> None:
    """The page beside the sequences."""
    drawn, real = statistics["drawn"], statistics["real"]
    figures = list[str]()
    if real:
        k = drawn["kmers"]["k"]
        figures.append(_against(f"{k}-mer" if k > 1 else alphabet.unit, drawn["kmers"]["shares"], real["kmers"]["shares"]))
        if drawn.get("coding", {}).get("codons") and real["coding"]["codons"]:
            figures.append(_against("codon", *(list(one["coding"]["shares"].values()) for one in (drawn, real))))
    context = {
        "drawn": drawn,
        "real": real,
        "distance": statistics["distance"],
        "alphabet": alphabet,
        "settings": settings,
        "counts": counts,
    }
    context |= {"figures": [Markup(svg) for svg in figures], "codons": CODONS, "orf": ORF_CODONS}
    path.write_text(render_page(TEMPLATE, context), encoding="utf-8")


def _against(unit: str, drawn: list[float], real: list[float]) -> str:
    """Two lines over the same k-mers or codons, the most frequent real ones first."""
    order = np.argsort(-np.array(real), kind="stable")
    lines = [
        Series(name, [(rank, 100 * shares[at]) for rank, at in enumerate(order)], colour)
        for colour, name, shares in ((1, "real", real), (0, "drawn", drawn))
    ]
    top = 105 * max(*drawn, *real)
    return chart(
        lines, Axis(f"{unit}s, by their share in real sequence", 0, len(real) - 1), Axis("per cent", 0, top), alt=f"share of each {unit}"
    )


def _codes(sequences: list[str], alphabet: Alphabet) -> NDArray[np.int8]:
    """Places of all letters in `PLAIN_LETTERS`, -1 for others and behind each sequence."""
    table = np.full(256, -1, dtype=np.int8)
    table[list(PLAIN_LETTERS[alphabet.name].encode())] = np.arange(len(PLAIN_LETTERS[alphabet.name]))
    return table[np.frombuffer("".join(f"{sequence}\n" for sequence in sequences).encode(), dtype=np.uint8)]


def _shares(counts: NDArray[np.int64]) -> list[float]:
    return (counts / max(1, counts.sum())).tolist()
