"""`eval sequences recover` and `retrieve`: the likeliest next letters of tables that are known, and what is asked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import letters
from table_model import TableModel
from test_sequence_scores import fasta, figures, rows, run
from tokenizers import Tokenizer

from artefacts.folder import read_manifest
from eval.sequences.frame import Frame, Spelling
from eval.sequences.greedy import continued, next_piece, prompts_of
from eval.sequences.recipe import ScoreSequencesRecipe
from eval.sequences.recover import Markov, hidden
from sequences.alphabets import DNA
from tokenizer.base import Base
from tokenizer.kmers import vocabulary_of

ROUND = "ACGT"


def goes_round(folder: Path, base: Base, k: int) -> TableModel:
    """A after T, C after A, and so on: a block follows the one that it continues."""
    model = TableModel(folder, base, vocabulary_of(DNA, k))
    texts = {(ROUND * k)[shift : shift + k] for shift in range(4)}
    for text in texts:
        after = (ROUND * 3 * k)[(ROUND * k).index(text) + k :][:k]
        model.table[model.ids[text], model.ids[after]] = 5.0
    return model


@pytest.mark.parametrize("way", ["base", "token"])
@pytest.mark.parametrize("size", [24, 25, 26])
@pytest.mark.parametrize("k", [1, 3])
def test_what_goes_round_is_recovered(tmp_path: Path, byte_level_base: Base, k: int, size: int, way: str) -> None:
    """Also where the context ends inside a block, whose first letters are then held back."""
    model = goes_round(tmp_path / "model", byte_level_base, k)
    source = fasta(tmp_path / "in.fa", {"a": ROUND * 100, "short": "ACGT"})
    words = ["contexts=9", f"context_letters={size}", "letters=11", f"greedy={way}"]
    assert run("recover", source, "--model", model.save(), "--out", tmp_path / "out", *words) == 0
    found = figures(tmp_path / "out")
    assert found["model", "sequence recovery"]["value"] == found["Markov order 6", "sequence recovery"]["value"] == 1.0
    assert found["most frequent letter", "sequence recovery"]["value"] == pytest.approx(3 / 11, abs=0.1)
    assert found["model minus Markov order 6", "sequence recovery"]["value"] == 0.0
    for row in rows(tmp_path / "out"):
        assert row["given"] == row["wanted"]
        start, end = map(int, row["id"].partition(":")[2].split("-"))
        assert row["wanted"] == (ROUND * 100)[start - 1 : end][size:]
    ledger = read_manifest(tmp_path / "out")["counts"]["records"]
    assert ledger["reasons"] == {f"shorter than {size + 11} letters": 1}


def test_letters_by_their_sums_and_pieces_by_themselves() -> None:
    spelling = Spelling({"A": 0, "C": 1, "AA": 2, "AC": 3, "CA": 4, "CC": 5})
    chances = {"A": 0.01, "C": 0.01, "AA": 0.25, "AC": 0.24, "CA": 0.4, "CC": 0.09}
    logprobs_P = torch.tensor([math.log(chances[word]) for word in spelling.words], dtype=torch.float64).numpy()
    assert next_piece(spelling, logprobs_P, "", "token") == "CA"
    assert next_piece(spelling, logprobs_P, "", "base") == "AA"  # A begins 0.50, C 0.50 less 0.01 and 0.01
    assert next_piece(spelling, logprobs_P, "C", "token") == next_piece(spelling, logprobs_P, "C", "base") == "CA"
    assert next_piece(spelling, logprobs_P, "A", "base") == "AA"


def test_what_may_be_a_longer_piece_is_held_back() -> None:
    spelling = Spelling({word: number for number, word in enumerate(("A", "C", "G", "AC", "ACG", "GG"))})
    ids = spelling.id_of
    assert [spelling.held_back([ids[word] for word in words]) for words in (["C"], ["A"], ["A", "C"], ["AC"], ["G", "A"], ["ACG"], [])] == [
        *(0, 1, 2, 1, 1, 0, 0)
    ]
    blocks = Spelling({**{word: number for number, word in enumerate("ACGT")}, "ACG": 4, "TTT": 5})
    assert blocks.held_back([4, 5]) == 0
    assert blocks.held_back([4, 0, 1]) == 2


@pytest.mark.parametrize("kind", ["bpe", "3-mers", "letters"])
def test_a_batch_goes_on_as_each_prompt_alone(tmp_path: Path, byte_level_base: Base, dna_bpe: Tokenizer, kind: str) -> None:
    """Of different lengths, so padded; against reading everything again for each piece, without a cache."""
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = dna_bpe if kind == "bpe" else vocabulary_of(DNA, 3 if kind == "3-mers" else 1)
    table = TableModel(tmp_path / "model", byte_level_base, vocabulary)
    table.save()
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=table.size, max_position_embeddings=256, **shape)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.4)
    frame = Frame.of(ScoreSequencesRecipe(model=table.folder, out=Path("unused"), files=[Path("unused")]))
    prompts = prompts_of(frame, [letters("ACGT", size, size) for size in (5, 40, 41, 42, 90)])
    for way in ("base", "token"):
        together = continued(model, frame.spelling, prompts, 12, way)
        for prompt, text in zip(prompts, together, strict=True):
            assert continued(model, frame.spelling, [prompt], 12, way) == [text]
            ids, held, alone = list(prompt.ids), prompt.held, ""
            while len(alone) < 12:
                with torch.no_grad():
                    last = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
                word = next_piece(frame.spelling, last[frame.spelling.ids_P].double().numpy(), held, way)
                alone, held, ids = alone + word[len(held) :], "", [*ids, frame.spelling.id_of[word]]
            assert alone[:12] == text


def test_markov_counts_what_it_is_shown() -> None:
    control = Markov(["AACAACAAG", "GGT"], 2)
    assert control.continued("AA", 4) == "CAAC"
    assert control.continued("TT", 1) == "A"  # never stood before a letter, so the most frequent
    assert Markov(["AACC", "C"], 0).continued("A", 3) == "CCC"


def test_a_prompt_hides_the_value_behind_its_key(tmp_path: Path, byte_level_base: Base) -> None:
    """A model that always says A is right where the value has an A, hidden or not."""
    model = TableModel(tmp_path / "model", byte_level_base, vocabulary_of(DNA, 3))
    model.table[:, model.ids["AAA"]] = 5.0
    source = fasta(tmp_path / "in.fa", {"a": letters("ACGT", 900, 5), "short": "ACG"})
    words = [source, "--model", model.save(), "--out", tmp_path / "out", "lengths=[90, 200]", "each=12", "key=9", "value=12"]
    assert run("retrieve", *words) == 0
    found, lines = figures(tmp_path / "out"), rows(tmp_path / "out")
    assert [row["length"] for row in lines] == ["90"] * 12 + ["200"] * 12
    for length in (90, 200):
        own = [row for row in lines if row["length"] == str(length)]
        share = sum(row["value"].count("A") for row in own) / (12 * len(own))
        for about in (f"{length} letters", f"{length} letters, not hidden"):
            assert found[about, "value, share of letters"]["value"] == pytest.approx(share, abs=1e-5)
        assert found[f"{length} letters", "value, wholly right"]["value"] == 0
    assert read_manifest(tmp_path / "out")["counts"]["records"]["rejected"] == 1


def test_hidden_texts() -> None:
    around = letters("ACGT", 120, 0)
    for seed in range(20):
        found = hidden(around, 9, 12, 3, "dna", np.random.default_rng(seed))
        key, (with_value, without) = found.prompts[0][-9:], found.prompts
        assert with_value == around[: found.depth] + key + found.value + around[found.depth :] + key
        assert without.replace(key, "", 1).startswith(around[: found.depth])
        assert len(with_value) == len(without) == 120 + 9 + 12 + 9
        assert found.depth % 3 == 0


@pytest.mark.parametrize(
    ("command", "fields", "message"),
    [
        ("recover", ["context_letters=300", "letters=10"], "no record of 310 letters or more"),
        ("recover", ["context_letters=150", "context=20"], "150 letters are 52 tokens here, and 10 more do not fit into a window of 20"),
        ("retrieve", ["lengths=[90]", "key=10", "value=9"], "key=10 value=9: this model reads blocks of 3 letters"),
        ("retrieve", ["lengths=[80]"], "lengths: 80 letters leave no sequence"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, byte_level_base: Base, capsys: pytest.CaptureFixture[str], command: str, fields: list[str], message: str
) -> None:
    model = goes_round(tmp_path / "model", byte_level_base, 3)
    source = fasta(tmp_path / "in.fa", {"a": letters("ACGT", 300, 5)})
    words = [source, "--model", model.save(), "--out", tmp_path / "out", *fields]
    capsys.readouterr()
    assert run(command, *words, *(["letters=10"] if command == "recover" else [])) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.strip().count("\n") == 0


def test_real_genome(tmp_path: Path, shared_data: Path, extended_folder: Path) -> None:
    """A fresh model recovers about a quarter, and cannot retrieve; counting the contexts does a little better than a quarter."""
    source = shared_data / "annotated" / "C.elegans.fa.gz"
    if not source.is_file():
        pytest.skip(f"no {source}")
    words = ["--model", extended_folder, "contexts=30", "context_letters=300"]
    assert run("recover", source, *words, "--out", tmp_path / "out") == 0
    found = figures(tmp_path / "out")
    assert 0 <= found["model", "sequence recovery"]["value"] < 0.5
    assert 0.2 < found["most frequent letter", "sequence recovery"]["value"] < 0.6
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["spelling"] == "pieces"
    assert run("retrieve", source, "--model", extended_folder, "lengths=[160]", "each=10", "--out", tmp_path / "two") == 0
    assert figures(tmp_path / "two")["160 letters", "value, share of letters"]["n"] == 10
