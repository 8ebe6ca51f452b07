"""`llama-gene tokenizer train`: options, the file it writes, and what it refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from samples import letters
from tokenizers import Tokenizer

from artefacts.errors import UserError
from sequences.alphabets import DNA
from tokenizer.bpe.train import TrainBpe, train_bpe


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa.gz"
    with gzip.open(path, "wt") as handle:
        handle.writelines(f">contig{i}\n{letters('ACGT', 3000, i)}{'N' * 40}{letters('acgt', 200, 99 - i)}R\n" for i in range(6))
    return path


def test_the_file_is_a_plain_tokenizer_that_drops_no_letter(tmp_path: Path, genome: Path) -> None:
    out = tmp_path / "dna.json"
    train_bpe(TrainBpe(alphabet="dna", vocab_size=200, files=[genome], out=out))
    plain = Tokenizer.from_file(str(out))
    assert plain.get_vocab_size() == 200
    assert set(DNA.letters) <= set(plain.get_vocab())
    assert max(map(len, plain.get_vocab())) <= 12
    for text in (DNA.letters, letters("ACGT", 500, 7), letters("acgtn", 300, 8)):
        assert plain.decode(plain.encode(text).ids) == text.upper()


def test_the_manifest_accounts_for_every_letter(tmp_path: Path, genome: Path) -> None:
    recipe = TrainBpe(
        alphabet="dna", vocab_size=100, files=[genome], out=tmp_path / "dna.json", unknown_run=10, ambiguous="cut", soft_masked=0
    )
    train_bpe(recipe)
    counts = json.loads((tmp_path / "dna.json.manifest.json").read_text())["counts"]
    assert (counts["read"], counts["written"], counts["rejected"]) == (6, 6, 0)
    assert (counts["unknown_left_out"], counts["ambiguous_left_out"], counts["masked_left_out"]) == (240, 6, 1200)
    assert counts["letters"] == 6 * 3000
    assert counts["rarest_merge"] > 0


@pytest.mark.parametrize(
    "option", [{"reverse_complement": False}, {"longest_piece": 3}, {"window": 16}, {"max_letters": 4000}, {"soft_masked": 0.0}]
)
def test_every_option_changes_the_vocabulary(tmp_path: Path, genome: Path, option: dict[str, object]) -> None:
    def pieces(name: str, **more: object) -> dict[str, int]:
        return train_bpe(TrainBpe(alphabet="dna", vocab_size=90, files=[genome], out=tmp_path / f"{name}.json", **more)).get_vocab()

    assert pieces("plain") != pieces("other", **option)
    assert pieces("again", **option) == pieces("other2", **option)


def test_any_format_gives_the_same_vocabulary(tmp_path: Path) -> None:
    records = [letters("ACGT", 900, seed) for seed in range(8)]
    (tmp_path / "a.fa").write_text("".join(f">r{i}\n{record}\n" for i, record in enumerate(records)))
    (tmp_path / "a.fq").write_text("".join(f"@r{i}\n{record}\n+\n{'I' * len(record)}\n" for i, record in enumerate(records)))
    (tmp_path / "a.txt").write_text("\n".join(records))
    models = []
    for file in ("a.fa", "a.fq", "a.txt"):
        train_bpe(TrainBpe(alphabet="dna", vocab_size=120, files=[tmp_path / file], out=tmp_path / f"{file}.json"))
        models.append(json.loads((tmp_path / f"{file}.json").read_text())["model"])
    assert models[0] == models[1] == models[2]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"vocab_size": 15}, "the dna alphabet alone has 15 letters"),
        ({"vocab_size": 60_000}, r"only \d+ pieces can be learned from \d+ letters; give more sequence or ask for vocab_size="),
        ({"alphabet": "rna"}, "rna uses the dna pieces"),
        ({"alphabet": "smiles"}, "choose dna or protein"),
    ],
)
def test_mistakes_leave_nothing_behind(tmp_path: Path, genome: Path, more: dict[str, object], words: str) -> None:
    out = tmp_path / "out" / "dna.json"
    with pytest.raises(UserError, match=words):
        train_bpe(TrainBpe(**{"alphabet": "dna", "vocab_size": 100, "files": [genome], "out": out} | more))
    assert not out.exists()
    assert not list(tmp_path.glob("out/*"))


def test_what_a_refusal_proposes_is_accepted(tmp_path: Path, genome: Path) -> None:
    with pytest.raises(UserError) as refusal:
        train_bpe(TrainBpe(alphabet="dna", vocab_size=60_000, files=[genome], out=tmp_path / "dna.json"))
    possible = int(str(refusal.value).rsplit("=", 1)[1])
    assert train_bpe(TrainBpe(alphabet="dna", vocab_size=possible, files=[genome], out=tmp_path / "dna.json")).get_vocab_size() == possible
