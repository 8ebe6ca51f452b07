"""New ids are kept out of text by one vector: text costs what it cost, sequences begin where they began, ratios stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from samples import english, letters
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from tokenizer.create import CreateBase, create_base
from tokenizer.extend import Extend, extend_base, preview
from tokenizer.report.heldout import Heldout
from tokenizer.weights import INPUT, OUTPUT, SINGLE

BLOCK = 64


@pytest.fixture(scope="module", params=["untied", "tied"])
def extended(request, tmp_path_factory, dna_bpe, protein_bpe):
    """text_nats -> (report, matrices) of a small LLaMA that has learned some English, extended; and its own matrices under "base"."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text.txt").write_text("\n\n".join(english(600, 1)), encoding="utf-8")
    sizes = {"hidden_size": 96, "layers": 2, "heads": 4, "kv_heads": 2, "intermediate_size": 192}
    create_base(CreateBase(out=folder / "base", text=[folder / "text.txt"], vocab_size=500, tied=request.param == "tied", **sizes))
    _learn(folder / "base", folder / "text.txt")
    dna_bpe.save(str(folder / "dna.json"))
    protein_bpe.save(str(folder / "protein.json"))
    (folder / "dna.fa").write_text(f">a\n{letters('ACGT', 1500, 3)}\n")
    (folder / "protein.fa").write_text(f">a\n{letters('ACDEFGHIKLMNPQRSTVWY', 900, 4)}\n")
    (folder / "heldout.txt").write_text("\n\n".join(english(60, 2)), encoding="utf-8")
    heldout = Heldout(dna=[folder / "dna.fa"], protein=[folder / "protein.fa"], text=[folder / "heldout.txt"], ways=False)
    found = {"base": ({}, load_file(folder / "base" / SINGLE))}
    for nats in (0, 9):
        out = folder / str(nats)
        genes = {"dna": folder / "dna.json", "protein": folder / "protein.json"}
        extend_base(Extend(base=folder / "base", out=out, text_nats=nats, heldout=heldout, **genes))
        found[nats] = json.loads((out / "extension_report.json").read_text()), load_file(out / SINGLE)
    return found


def _learn(folder: Path, text: Path) -> None:
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text.read_text(encoding="utf-8")).ids
    blocks_NT = torch.tensor(ids[: len(ids) // BLOCK * BLOCK]).view(-1, BLOCK)
    model = AutoModelForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(120):
        ids_BT = blocks_NT[torch.randint(len(blocks_NT), (8,), generator=draw)]
        loss = F.cross_entropy(model(input_ids=ids_BT).logits[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


def test_text_keeps_its_bits_and_sequences_begin_where_they_began(extended):
    (plain, _), (apart, _) = extended[0], extended[9]
    before, after = plain["initial_loss"], apart["initial_loss"]
    base = before["text"]["base_bits_per_byte"]
    rises = [found["text"]["bits_per_byte"] / base - 1 for found in (before, after)]
    assert rises[1] < 0.003
    assert rises[1] < rises[0] / 10
    for name in ("dna", "protein"):
        assert after[name]["bits_per_letter"] < before[name]["bits_per_letter"] + 0.05


def test_the_report_says_by_how_much_logits_fall_and_where(extended):
    found = extended[9][0]["apart"]
    assert found["in_text"] == pytest.approx(-9, rel=0.15)
    assert found["in_sequences"] == pytest.approx(2, abs=1.5)
    assert extended[0][0]["apart"] == {"skipped": "text_nats=0"}
    assert any("new ids are not kept out of text" in note for note in extended[0][0]["notes"])


def test_every_new_output_row_gets_the_same_vector_and_no_other_row_any(extended):
    own, plain, apart = (extended[name][1] for name in ("base", 0, 9))
    shifted = OUTPUT if OUTPUT in plain else INPUT
    for name in {INPUT, shifted}:
        kept = len(own[name])
        assert torch.equal(apart[name][:kept], own[name])
        added_ND = apart[name][kept:] - plain[name][kept:]
        if name == shifted:
            assert added_ND[0].norm().item() == pytest.approx(extended[9][0]["apart"]["norm"], rel=1e-4)
            torch.testing.assert_close(added_ND, added_ND[:1].expand_as(added_ND), rtol=0, atol=1e-5)
        else:
            assert not added_ND.any()


def test_a_base_that_guesses_has_no_text_to_keep(extended_folder):
    report = json.loads((extended_folder / "extension_report.json").read_text())
    assert report["apart"] == {"skipped": "the base has learned no text, it all but guesses"}
    assert not any("kept out" in note for note in report["notes"])


def test_weights_too_large_to_load_are_extended_and_the_reason_is_told(extended_folder, dna_bpe, protein_bpe, tmp_path, capsys):
    shutil.copytree(extended_folder.parent / "base", tmp_path / "base")
    dna_bpe.save(str(tmp_path / "dna.json"))
    protein_bpe.save(str(tmp_path / "protein.json"))
    genes = {"dna": tmp_path / "dna.json", "protein": tmp_path / "protein.json"}
    recipe = Extend(base=tmp_path / "base", out=tmp_path / "out", loss_max_gib=1e-6, **genes)
    preview(recipe)
    assert "new ids kept out of text: no, the weights take 0.00 GiB, more than loss_max_gib=1e-06" in capsys.readouterr().out
    extend_base(recipe)
    assert "may cost English some percent until they are trained: the weights take" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "extension_report.json").read_text())
    assert "more than loss_max_gib=1e-06" in report["apart"]["skipped"]
    page = (tmp_path / "out" / "extension_report.html").read_text(encoding="utf-8")
    assert "not kept out of text" in page
