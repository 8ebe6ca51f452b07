"""Rows and loss at initialisation of every way to extend: the same letters, the same figures, an independent calculation."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import english, letters
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM

import tokenizer.report.loss
from sequences.alphabets import PROTEIN
from tokenizer.base import read_base
from tokenizer.create import CreateBase, create_base
from tokenizer.extend import Extend, extend_base
from tokenizer.report.heldout import Heldout, cut_texts
from tokenizer.report.loss import FEWEST, LETTERS, WORK, Sample, Window, affordable, bits_per_letter, sample, scored_sequences, scored_texts
from tokenizer.report.models import resize, resized
from tokenizer.report.ways import Way, ways_to_extend
from tokenizer.vocabulary import extend

SEED = 5


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def extended(request, tmp_path_factory, text_file, sentencepiece_file, dna_bpe, protein_bpe):
    """(recipe, report) of a tiny extended model: byte-level with two matrices, sentencepiece with one."""
    folder = tmp_path_factory.mktemp(request.param)
    vocabulary = {"text": [text_file], "vocab_size": 400} if request.param == "byte-level" else {"tokenizer": sentencepiece_file}
    sizes = {"hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate_size": 64}
    create_base(CreateBase(out=folder / "base", tied=request.param == "sentencepiece", **vocabulary, **sizes))
    dna_bpe.save(str(folder / "dna.json"))
    protein_bpe.save(str(folder / "protein.json"))
    (folder / "dna.fa").write_text(f">a\n{letters('ACGT', 600, 1)}\n>b\n{letters('ACGTN', 90, 2)}\n")
    (folder / "protein.fa").write_text(f">a\n{letters(PROTEIN.letters, 300, 3)}\n")
    (folder / "text.txt").write_text("\n\n".join(english(30, 4)), encoding="utf-8")
    heldout = Heldout(dna=[folder / "dna.fa"], protein=[folder / "protein.fa"], text=[folder / "text.txt"])
    recipe = Extend(
        base=folder / "base", dna=folder / "dna.json", protein=folder / "protein.json", out=folder / "out", heldout=heldout, seed=SEED
    )
    extend_base(recipe)
    return recipe, json.loads((recipe.out / "extension_report.json").read_text())


@pytest.fixture(scope="module")
def ways(extended) -> tuple[dict[str, Way], Tokenizer, int]:
    """(ways, base tokenizer, BOS)"""
    recipe, _ = extended
    base = read_base(recipe.base)
    tokenizer, new, _ = extend(base, *(Tokenizer.from_file(str(path)) for path in (recipe.dna, recipe.protein)))
    found = ways_to_extend(base.tokenizer, tokenizer, new, base.sentencepiece_model)
    return {name: make() for name, make in found.items()}, base.tokenizer, base.tokenizer.token_to_id(base.config["bos_token"])


def compared(report: dict[str, Any]) -> list[str]:
    return [name for name, way in report["ways"].items() if "skipped" not in way]


def test_every_way_has_the_same_figures_and_ours_are_those_of_the_report(extended):
    _, report = extended
    ours = report["ways"]["ours"]
    assert ours["initial_loss"] == report["initial_loss"]
    assert ours["rows"] == report["rows"]
    if report["family"] == "byte-level":
        assert report["ways"]["legacy_spm"] == {"skipped": "the original merge needs a SentencePiece base"}
        assert compared(report) == ["ours", "add_tokens"]
    else:
        assert compared(report) == ["ours", "add_tokens", "legacy_spm"]
    for way in (report["ways"][name] for name in compared(report)):
        assert {name: row.keys() for name, row in way["initial_loss"].items()} == {
            name: row.keys() for name, row in ours["initial_loss"].items()
        }
        assert way["rows"].keys() == ours["rows"].keys()
        assert way["rows"]["input"].keys() == ours["rows"]["input"].keys()
        assert [way["initial_loss"][name]["letters"] for name in ("dna", "protein")] == [690, 300]
        assert [way["initial_loss"][name]["bound"] for name in ("dna", "protein")] == [2.0, math.log2(20)]
        assert way["initial_loss"]["text"]["bytes"] == ours["initial_loss"]["text"]["bytes"] > 1000
        assert way["initial_loss"]["text"]["base_bits_per_byte"] == ours["initial_loss"]["text"]["base_bits_per_byte"]
        # a random model costs more than the bound, and about a guess over its rows for each token
        for name in ("dna", "protein"):
            guess = math.log2(way["rows"]["rows"]) / way[name]["letters_per_token"]
            assert way["initial_loss"][name]["bits_per_letter"] == pytest.approx(guess, rel=0.1)
            assert way["initial_loss"][name]["bits_per_letter"] > way["initial_loss"][name]["bound"]


def test_a_large_model_is_measured_on_fewer_letters_unless_asked_for_more(extended, tmp_path, monkeypatch, capsys):
    recipe, report = extended
    monkeypatch.setattr(tokenizer.report.loss, "FEWEST", 90)
    monkeypatch.setattr(tokenizer.report.loss, "WORK", 1.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def measured(out: str, **more: Any) -> list[int]:
        extend_base(recipe.model_copy(update={"out": tmp_path / out, "heldout": recipe.heldout.model_copy(update=more)}))
        ways = json.loads((tmp_path / out / "extension_report.json").read_text())["ways"]
        losses = [ways[name]["initial_loss"] for name in compared(report)]
        assert len({(loss["dna"]["letters"], loss["protein"]["letters"], loss["text"]["bytes"]) for loss in losses}) == 1
        return [losses[0]["dna"]["letters"], losses[0]["protein"]["letters"], losses[0]["text"]["bytes"]]

    assert measured("small") == [90, 90, 90]
    said = capsys.readouterr().out
    assert re.search(r"90 of dna, 90 of protein, 90 of text \(letters, bytes\), for the model's size; heldout.loss_letters=20000", said)
    assert measured("asked", loss_letters=200) == [200, 200, 200]
    assert "for the model's size" not in capsys.readouterr().out


def test_the_losses_of_a_report_take_about_the_work_allowed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    held = {"dna": 6.0, "protein": 1.0, "text": 3.0}
    letters = affordable(135_000_000, 3, held)
    tokens = sum(letters[name] / per for name, per in held.items())
    assert 3 * tokens * 135_000_000 == pytest.approx(WORK, rel=0.01)
    assert affordable(100_000, 3, held) == dict.fromkeys(held, LETTERS)
    assert affordable(10**12, 3, held) == dict.fromkeys(held, FEWEST)


def test_rows_that_transformers_makes_are_all_alike(extended):
    recipe, report = extended
    matrices = [name for name in ("input", "output") if name in report["rows"]]
    assert matrices == (["input", "output"] if report["family"] == "byte-level" else ["input"])
    for name in compared(report)[1:]:
        figures = report["ways"][name]["rows"]
        assert figures["tied"] == report["rows"]["tied"]
        for matrix in matrices:
            assert figures[matrix]["new_deviation"] < 1e-3 * report["rows"][matrix]["new_deviation"]
            assert figures[matrix]["base_norm"] == pytest.approx(report["rows"][matrix]["base_norm"])
            nearest = [cosine for entry in figures[matrix]["neighbours"] for _, cosine in entry["nearest"]]
            assert min(nearest) > 0.999
    base = AutoModelForCausalLM.from_pretrained(recipe.base)
    mean_D = base.get_input_embeddings().weight.mean(0)
    assert report["ways"]["add_tokens"]["rows"]["input"]["new_norm"] == pytest.approx(mean_D.norm().item(), rel=1e-2)


def test_loss_of_add_tokens_by_hand(extended):
    """The tokenizer, the resized model and the sum over letters, written out again."""
    recipe, report = extended
    base = read_base(recipe.base)
    genes = [Tokenizer.from_file(str(path)).get_vocab() for path in (recipe.dna, recipe.protein)]
    tokenizer = Tokenizer.from_str(base.tokenizer.to_str())
    for vocab in genes:
        fresh = [piece for piece in sorted(vocab, key=vocab.__getitem__) if tokenizer.token_to_id(piece) is None]
        tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in fresh])
    way = report["ways"]["add_tokens"]
    assert way["rows"]["rows"] == tokenizer.get_vocab_size()
    model = AutoModelForCausalLM.from_pretrained(recipe.base)
    torch.manual_seed(SEED)
    model.resize_token_embeddings(tokenizer.get_vocab_size())
    start = tokenizer.token_to_id(base.config["bos_token"])
    for name, count in (("dna", 690), ("protein", 300)):
        bits = 0.0
        for sequence in (recipe.heldout.dna if name == "dna" else recipe.heldout.protein)[0].read_text().split("\n")[1::2]:
            for at in range(0, len(sequence), 253):
                ids = [start, *tokenizer.encode(sequence[at : at + 253], add_special_tokens=False).ids]
                with torch.no_grad():
                    chances_TV = model(torch.tensor([ids])).logits[0].double().softmax(-1)
                first = 2 if tokenizer.id_to_token(ids[1]) == "▁" else 1
                bits -= sum(math.log2(chances_TV[position - 1, ids[position]]) for position in range(first, len(ids)))
        assert way["initial_loss"][name]["bits_per_letter"] == pytest.approx(bits / count, rel=1e-4)


def test_a_model_that_guesses_costs_its_tokens(ways, extended):
    """With an output of zeros every id is equally likely, in every way: bits follow from token counts alone."""
    recipe, _ = extended
    found, _, start = ways
    texts = english(5, 8)
    windows = {"dna": [letters("ACGT", 200, 6)], "protein": [letters("ACDEFGHIKLMNPQRSTVWY", 120, 7)]}
    for name, way in found.items():
        rows = max(way.ids) + 1
        model = AutoModelForCausalLM.from_pretrained(recipe.base)
        model.get_output_embeddings().weight.data.zero_()
        resize(model, rows, 0)
        for modality, sequences in windows.items():
            bits, count = bits_per_letter(model, scored_sequences(way, modality, sequences, start))
            ids = way.sequences(modality, sequences)[0]
            assert count == len(sequences[0])
            assert bits == pytest.approx((len(ids) - (way.spelling(ids[0]) == "")) * math.log2(rows) / count, rel=1e-5), name
        bits, count = bits_per_letter(model, scored_texts(way.text, texts, start))
        assert count == sum(len(text.encode()) for text in texts)
        assert bits == pytest.approx(sum(map(len, way.text(texts))) * math.log2(rows) / count, rel=1e-5), name


def test_what_is_scored_spells_every_letter_once(ways, extended):
    found, base, start = ways
    lone_blanks = 0
    for name, way in found.items():
        sequences = [letters("ACGTN", 253, 9), letters("ACGT", 1, 10), "G"]
        for window, sequence in zip(scored_sequences(way, "dna", sequences, start), sequences, strict=True):
            assert "".join(map(way.spelling, window.ids[window.first :])) == sequence
            assert window.ids[0] == start
            blank = base.token_to_id("▁")
            allowed = [way.opening["dna"]] if name == "ours" else [[], [blank]]
            assert window.ids[1 : window.first] in allowed, name
            lone_blanks += window.ids[1 : window.first] == [blank]
    assert (lone_blanks > 0) == (extended[1]["family"] == "sentencepiece")


def test_bits_of_one_window_by_hand():
    class Table(torch.nn.Module):
        """The next id's chances depend on the id alone."""

        def __init__(self) -> None:
            super().__init__()
            self.logits_VV = torch.nn.Parameter(torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]).log())

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
            return type("Output", (), {"logits": self.logits_VV[input_ids]})

    windows = [Window([0, 1, 0, 2, 1], 2, 5), Window([0, 1], 1, 1)]
    bits, count = bits_per_letter(Table(), windows)
    assert count == 6
    assert bits == pytest.approx((1 + 2 + 3 + 1) / 6)  # 1 -> 0: 1/2, 0 -> 2: 1/4, 2 -> 1: 1/8; 0 -> 1: 1/2


def test_resized_rows_come_from_the_seed_alone(extended, ways):
    recipe, _ = extended
    found, base, start = ways
    nothing = Sample({}, [])
    state = torch.random.get_rng_state()
    one, two, other = (resized(found["add_tokens"], recipe.base, base, nothing, start, None, seed)["rows"] for seed in (3, 3, 4))
    assert one == two != other
    assert torch.equal(torch.random.get_rng_state(), state)
    bare = Way(found["ours"].text, found["ours"].sequences, found["ours"].alone, found["ours"].spelling, {"dna": {}, "protein": {}})
    none = {"skipped": "the base has every piece already"}
    assert resized(bare, recipe.base, base, nothing, start, None, 3) == {"rows": none, "initial_loss": none}


def test_large_or_absent_weights_leave_models_out_with_the_reason(extended, tmp_path):
    recipe, _ = extended

    def report(**more: Any) -> dict[str, Any]:
        extend_base(recipe.model_copy(update={"out": tmp_path / "out", **more}), overwrite=True)
        return json.loads((tmp_path / "out" / "extension_report.json").read_text())

    large = report(loss_max_gib=1e-6)
    assert "more than loss_max_gib=1e-06" in large["initial_loss"]["skipped"]
    assert large["ways"]["add_tokens"]["rows"] == large["ways"]["add_tokens"]["initial_loss"] == large["initial_loss"]
    assert large["ways"]["ours"]["rows"] == large["rows"]
    page = (tmp_path / "out" / "extension_report.html").read_text(encoding="utf-8")
    assert f"No model of add_tokens: {large['initial_loss']['skipped']}." in page
    bare = report(tokenizer_only=True)
    assert "rows" not in bare
    for name in compared(bare):
        assert bare["ways"][name]["rows"] == bare["ways"][name]["initial_loss"] == {"skipped": "no weights were extended"}


def test_the_page_shows_loss_and_rows_of_every_way(extended):
    recipe, report = extended
    page = (recipe.out / "extension_report.html").read_text(encoding="utf-8")
    for name in compared(report):
        loss, rows = report["ways"][name]["initial_loss"], report["ways"][name]["rows"]
        shown = [
            f"{loss['dna']['bits_per_letter']:.3f}",
            f"{loss['protein']['bits_per_letter']:.3f}",
            f"{loss['text']['bits_per_byte']:.3f}",
        ]
        shown.append(f"{rows['input']['new_norm']:.3g}")
        shown.append(rows["input"]["neighbours"][0]["piece"])
        assert [f">{figure}<" for figure in shown if f">{figure}<" not in page] == [], name
    assert ("Nearest rows: original merge" in page) == (report["family"] == "sentencepiece")
    assert "Nearest rows: add_tokens, input matrix" in page
    assert "× 10⁻" in page


def test_documents_that_mention_a_tag_are_no_text(tmp_path: Path):
    documents = ["One plain document.", "see <dna>ACGT</dna> here", "naïve, " * 10]
    (tmp_path / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    kept = list(cut_texts([tmp_path / "text.txt"], 30))
    assert kept == ["One plain document.", "naïve, na"]  # 30 bytes would end within the second ï
    assert sample(Heldout(text=[tmp_path / "text.txt"])) == Sample({}, list(cut_texts([tmp_path / "text.txt"], LETTERS)))
