"""New ids are kept out of text by one vector for each kind: text costs what it cost, sequences begin no worse, ratios stay."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from samples import english, forget_weights, letters
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tokenizer.apart import TEXTS, TOKENS, _text
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
        found["new"] = json.loads((out / "new_ids.json").read_text())
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
    forget_weights(folder)


def test_text_keeps_its_bits_and_sequences_begin_no_worse(extended):
    (plain, _), (apart, _) = extended[0], extended[9]
    before, after = plain["initial_loss"], apart["initial_loss"]
    base = before["text"]["base_bits_per_byte"]
    rises = [found["text"]["bits_per_byte"] / base - 1 for found in (before, after)]
    assert rises[1] < 0.003
    assert rises[1] < rises[0] / 5
    for name in ("dna", "protein"):
        assert after[name]["bits_per_letter"] < before[name]["bits_per_letter"]


def test_the_report_says_by_how_much_logits_fall_and_where(extended):
    found = extended[9][0]["apart"]
    for kind, places in {"dna": (-9, 2, -9), "protein": (-9, -9, 2), "tags": (-9, 0, 0), "others": (-9, -9, -9)}.items():
        assert [found[kind][place] for place in ("text", "dna", "protein")] == pytest.approx(places, abs=2), kind
    assert extended[0][0]["apart"] == {"skipped": "text_nats=0"}
    assert any("new ids are not kept out of text" in note for note in extended[0][0]["notes"])


def test_the_output_rows_of_a_kind_get_one_vector_and_no_other_row_any(extended):
    own, plain, apart = (extended[name][1] for name in ("base", 0, 9))
    new, figures = extended["new"], extended[9][0]["apart"]
    shifted = OUTPUT if OUTPUT in plain else INPUT
    for name in {INPUT, shifted}:
        kept = len(own[name])
        assert torch.equal(apart[name][:kept], own[name])
        added_VD = apart[name] - plain[name]
        if name != shifted:
            assert not added_VD.any()
            continue
        kinds = {kind: list(range(new["pieces"][kind][0], new["pieces"][kind][1] + 1)) for kind in ("dna", "protein")}
        kinds["tags"] = list(new["tags"].values())
        kinds["others"] = sorted({*range(kept, len(added_VD))} - {index for ids in kinds.values() for index in ids})
        for kind, ids in kinds.items():
            added_ND = added_VD[ids]
            assert added_ND[0].norm().item() == pytest.approx(figures[kind]["norm"], rel=1e-4), kind
            torch.testing.assert_close(added_ND, added_ND[:1].expand_as(added_ND), rtol=0, atol=1e-5)


def test_a_base_that_guesses_has_no_text_to_keep(extended_folder):
    report = json.loads((extended_folder / "extension_report.json").read_text())
    assert report["apart"] == {"skipped": "the base has learned no text, it all but guesses"}
    assert not any("kept out" in note for note in report["notes"])


def test_texts_are_old_ids_alone_and_go_on_behind_an_end() -> None:
    """generate() fills in a model's own end of text where none is given, and padding would then pass for text."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes)).eval()
    model.generation_config.eos_token_id = [7, 8]
    read: list[torch.Tensor] = []
    with torch.no_grad():
        hook = model.model.embed_tokens.register_forward_hook(lambda _, ids, __: read.append(ids[0]))
        hidden_ND, entropy = _text(model, 1, 0, [45, 46, 47, 48, 49])
        hook.remove()
    assert len(hidden_ND) == TEXTS * (TOKENS + 1)
    ids = torch.cat([ids_BT.flatten() for ids_BT in read])
    assert ids.max() < 45
    assert {7, 8} <= set(ids.tolist())
    assert entropy == pytest.approx(math.log(45), rel=0.05)


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
