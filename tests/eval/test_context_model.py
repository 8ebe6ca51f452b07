"""The context model beside plain counting, and beside the model in `eval sequences score`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from samples import letters
from table_model import TableModel
from test_sequence_scores import fasta, figures, rows, run

from artefacts.folder import read_manifest
from eval.sequences.context_model import TRUST, ContextModel
from sequences.alphabets import DNA, PROTEIN, Alphabet, reverse_complement
from tokenizer.base import Base
from tokenizer.kmers import vocabulary_of


def plain(texts: list[str], letters: str, order: int, trust: list[float], text: str) -> list[float]:
    """The formula of the module, letter by letter."""
    bits = []
    for place, letter in enumerate(text):
        given = 1 / len(letters)
        for size in range(min(order, place) + 1):
            before = text[place - size : place]
            after = [other[at + size] for other in texts for at in range(len(other) - size) if other[at : at + size] == before]
            if after:
                given = (after.count(letter) + trust[size] * given) / (len(after) + trust[size])
        bits.append(-np.log2(given))
    return bits


@pytest.mark.parametrize("alphabet", [DNA, PROTEIN])
def test_the_same_as_plain_counting(alphabet: Alphabet) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGN"), size)) for size in (40, 1, 25, 3)]
    model = ContextModel(texts, alphabet, 3)
    both = texts if alphabet is PROTEIN else [*texts, *map(reverse_complement, texts)]
    trust = [level[2] for level in model._levels]
    assert set(trust) <= set(TRUST)
    wanted = plain(both, alphabet.letters, 3, trust, "ACGNNGTTACA")
    assert model.bits("ACGNNGTTACA") == pytest.approx(wanted)


def test_every_distribution_sums_to_one() -> None:
    model = ContextModel(["ACGTTGCANACGGT" * 3], DNA, 5)
    last = [model.bits("ACGTT" + letter)[-1] for letter in DNA.letters]
    assert np.exp2(-np.array(last)).sum() == pytest.approx(1)


def test_it_stands_beside_the_model(tmp_path: Path, byte_level_base: Base, capsys: pytest.CaptureFixture[str]) -> None:
    """Of what repeats, counts know nearly all, and the random model nothing."""
    model = TableModel(tmp_path / "model", byte_level_base, vocabulary_of(DNA, 1)).save()
    source = fasta(tmp_path / "in.fa", {"a": "ACGTTGCA" * 30, "b": letters("ACGT", 300, 1)})
    counted = fasta(tmp_path / "counted.fa", {"c": "GCAACGTT" * 90, "d": "ACGT!"})
    words = ["score", source, "--model", model, f"counted=[{counted}]", "order=4", "max_broken=0.5"]
    assert run(*words, "--out", tmp_path / "out") == 0
    repeated, random = (float(row["context_model"]) / -float(row["letters"]) for row in rows(tmp_path / "out"))
    assert repeated < 0.1 < 1 < random
    found = figures(tmp_path / "out")["context model, order 4", "bits per base"]
    assert found["value"] == pytest.approx((repeated * 240 + random * 300) / 540 / np.log(2), abs=1e-4)
    assert read_manifest(tmp_path / "out")["counts"]["counted"]["reasons"], "the broken record is accounted for"
    # what is scored is not counted
    again = fasta(tmp_path / "again.fa", {"same": "ACGTTGCA" * 30})
    capsys.readouterr()
    assert run("score", source, "--model", model, f"counted=[{again}]", "--out", tmp_path / "no") == 2
    assert "1 of the scored sequences are also here" in capsys.readouterr().err
