"""Letters and k-mers as vocabularies: the command, the extended folder, and plain libraries that read it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import letters
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from artefacts.errors import UserError
from sequences.alphabets import ALPHABETS, DNA, NUCLEOTIDES, PROTEIN
from tokenizer.base import from_sentencepiece
from tokenizer.bpe.train import TrainBpe, train_bpe
from tokenizer.create import CreateBase, create_base
from tokenizer.encoders import BlockEncoder, read_encoders
from tokenizer.extend import Extend, extend_base
from tokenizer.kmers import MOST_KMERS, vocabulary_of, without_mark
from tokenizer.report.heldout import Heldout
from tokenizer.vocabulary import extend


def by_hand(sequence: str, k: int, plain: str = "ACGT") -> list[str]:
    """Blocks from the start of each run of plain letters; all else is single."""
    found: list[str] = []
    for run in re.findall(f"[{plain}]+|[^{plain}]", sequence):
        whole = len(run) // k * k
        found += [run[at : at + k] for at in range(0, whole, k)] + list(run[whole:])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A tiny model extended by 6-mers for DNA and letters for protein."""
    out = tmp_path_factory.mktemp("kmers")
    create_base(
        CreateBase(out=out / "base", text=[text_file], vocab_size=400, hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=64)
    )
    train_bpe(TrainBpe(alphabet="dna", pieces="kmers", k=6, out=out / "dna.json"))
    train_bpe(TrainBpe(alphabet="protein", pieces="letters", out=out / "protein.json"))
    (out / "held.fa").write_text(f">a\n{letters('ACGT', 3000, 1)}N\n")
    held = Heldout(dna=[out / "held.fa"])
    extend_base(Extend(base=out / "base", dna=out / "dna.json", protein=out / "protein.json", out=out / "model", heldout=held))
    return out / "model"


@given(sequence=st.one_of(st.text("ACGT", max_size=200), st.text(NUCLEOTIDES, max_size=100)), k=st.integers(2, 7))
@settings(max_examples=200, deadline=None)
def test_blocks_are_cut_from_the_start_of_a_run(sequence: str, k: int) -> None:
    vocabulary = vocabulary_of(DNA, k)
    found = vocabulary.encode(sequence.lower())
    assert [without_mark(piece) for piece in found.tokens] == by_hand(sequence, k)
    assert vocabulary.decode(found.ids) == sequence
    kept = Tokenizer.from_str(vocabulary.to_str()).encode(sequence)
    assert kept.ids == found.ids


def test_plain_autotokenizer_reads_the_folder(folder: Path) -> None:
    public = AutoTokenizer.from_pretrained(folder)
    encoder = read_encoders(folder)["dna"]
    assert isinstance(encoder, BlockEncoder)
    assert (encoder.k, encoder.bases, len(encoder.kmer_ids), len(encoder.letter_ids)) == (6, "ACGT", 4096, 15)
    spelled = {index: piece for piece, index in encoder.pieces.items()}
    for sequence in (letters("ACGT", 5000, 2), letters(NUCLEOTIDES, 500, 3), "ACGTA", "ACGTAC", "ACGTACN", ""):
        ids = public(f"see <dna>{sequence}</dna>.", add_special_tokens=False)["input_ids"]
        inside = ids[ids.index(encoder.tags[0]) + 1 : ids.index(encoder.tags[1])]
        assert [spelled[index] for index in inside] == by_hand(sequence, 6)
        assert encoder.encode(sequence).tolist() == inside
        assert public.decode(ids) == f"see <dna>{sequence}</dna>."
    assert [spelled[int(index)] for index in encoder.kmer_ids[[0, 1, 4095]]] == ["AAAAAA", "AAAAAC", "TTTTTT"]
    assert public.encode("see </dna> AAAAAA", add_special_tokens=False) == AutoTokenizer.from_pretrained(folder.parent / "base").encode(
        "see", add_special_tokens=False
    ) + public.encode(" ", add_special_tokens=False) + [encoder.tags[1]] + public.encode(" AAAAAA", add_special_tokens=False)


def test_the_report_counts_joints_apart(folder: Path) -> None:
    report = json.loads((folder / "extension_report.json").read_text())
    reach = report["reachability"]
    assert reach["dna"] == {"pieces": 4096 + 15, "reachable": 4096 + 15, "unreachable": []}
    assert reach["protein"]["pieces"] == len(PROTEIN.letters)
    assert reach["glue"] == {"ids": 2 + 1 + sum(4**size for size in range(1, 6)), "reachable": 0}
    assert report["ways"]["ours"]["dna"]["agreement"] == 1.0
    assert report["modalities"]["dna"]["letters_per_token_after"] == pytest.approx(512 / (512 // 6 + 512 % 6), rel=0.02)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"pieces": "kmers"}, "k is the length"),
        ({"pieces": "letters", "k": 3}, "k is the length"),
        ({"k": 6, "vocab_size": 100, "files": ["x.fa"]}, "k is the length"),
        ({"pieces": "kmers", "k": 6, "files": ["x.fa"]}, "learns nothing"),
        ({"pieces": "letters", "vocab_size": 10}, "learns nothing"),
        ({"vocab_size": 100}, "needs vocab_size and files"),
        ({"files": ["x.fa"]}, "needs vocab_size and files"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TrainBpe.model_validate({"alphabet": "dna", "out": tmp_path / "x.json", **fields})


def test_too_many_kmers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"20\^4 protein k-mers.*k=3 at most"):
        train_bpe(TrainBpe(alphabet="protein", pieces="kmers", k=4, out=tmp_path / "x.json"))
    assert 4**8 <= MOST_KMERS < 20**4
    assert not list(tmp_path.iterdir())


@pytest.mark.shared
def test_the_real_mistral_vocabulary(shared_data: Path) -> None:
    """6-mers and residues behind a real SentencePiece base: real sequence, and text that keeps its ids."""
    base = from_sentencepiece(shared_data / "tokenizers" / "mistral_tokenizer.model.v1", {})
    extended, _, _ = extend(base, vocabulary_of(DNA, 6), vocabulary_of(PROTEIN, 1))
    encoders = read_encoders(extended)
    for name, sequence in (
        ("dna", letters("ACGTN", 20_000, 1)),
        ("rna", letters("ACGU", 2000, 2)),
        ("protein", letters("MKVLAW", 2000, 3)),
    ):
        public = extended.encode(ALPHABETS[name].wrap(sequence), add_special_tokens=False).ids
        assert encoders[name].wrapped(sequence).tolist() == public
    for line in Path("README.md").read_text().splitlines():
        if "<" not in line:
            assert extended.encode(line).ids == base.tokenizer.encode(line).ids
