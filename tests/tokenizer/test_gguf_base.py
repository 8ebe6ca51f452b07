"""A base that comes as a GGUF file: the tiny one written here, and what is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.errors import UserError
from instruct.tune.export import ExportRecipe, export
from sequences.alphabets import DNA, PROTEIN
from tokenizer.base import locate, read_base
from tokenizer.create import CreateBase, create_base
from tokenizer.extend import Extend, extend_base
from tokenizer.kmers import vocabulary_of

pytest.importorskip("gguf")
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}


def turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rotary halves as llama.cpp interleaves them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> tuple[Path, Path]:
    """(a model folder, the same as a GGUF file of 8 bits)."""
    return pack(tmp_path_factory.mktemp("gguf"), text_file, "llama-bpe")


def pack(folder: Path, text_file: Path, pre: str) -> tuple[Path, Path]:
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    shape = {"hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2, "intermediate_size": 96}
    create_base(CreateBase(out=folder / "base", text=[text_file], vocab_size=400, **shape))
    config = json.loads((folder / "base" / "config.json").read_text())
    writer = GGUFWriter(str(folder / "tiny-Q8_0.gguf"), "llama")
    writer.add_block_count(2)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(float((config.get("rope_parameters") or config)["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    document = json.loads((folder / "base" / "tokenizer.json").read_text())
    vocab = {**document["model"]["vocab"], **{token["content"]: token["id"] for token in document["added_tokens"]}}
    special = {token["id"] for token in document["added_tokens"]}
    tokens = sorted(vocab, key=vocab.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if vocab[token] in special else 1 for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    for name, tensor in AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32).state_dict().items():
        layer, _, rest = name.removeprefix("model.layers.").partition(".") if name.startswith("model.layers.") else ("", "", name)
        known = f"blk.{layer}.{NAMES[rest]}" if layer else NAMES[name]
        values = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            values = turned(values, 4 if "q_proj" in name else 2)
        if values.ndim == 1:
            writer.add_tensor(known, values)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(known, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "base", folder / "tiny-Q8_0.gguf"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_gguf_file_is_unpacked_once_and_extended(packed: tuple[Path, Path], cache: Path, tmp_path: Path, capsys) -> None:
    base, file = packed
    folder, _ = locate(file)
    assert "unpacked to float32" in capsys.readouterr().out
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert locate(file) == (folder, None)
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    texts = ["The gene BRCA1 is 81 kb long.", "naïve  spaces\n\nand 12,345"]
    ours, theirs = read_base(file).tokenizer, AutoTokenizer.from_pretrained(base)
    assert [ours.encode(text, add_special_tokens=False).ids for text in texts] == theirs(texts, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([theirs(texts[0])["input_ids"]])
    one, two = (AutoModelForCausalLM.from_pretrained(place)(ids).logits for place in (base, folder))
    assert torch.allclose(one, two, atol=0.05)  # 8 bits
    vocabulary_of(DNA, 3).save(str(tmp_path / "dna.json"))
    vocabulary_of(PROTEIN, 1).save(str(tmp_path / "protein.json"))
    extend_base(Extend(base=file, dna=tmp_path / "dna.json", protein=tmp_path / "protein.json", out=tmp_path / "extended"))
    extended = AutoTokenizer.from_pretrained(tmp_path / "extended")
    assert extended(texts[0], add_special_tokens=False)["input_ids"] == theirs(texts[0], add_special_tokens=False)["input_ids"]
    rows = AutoModelForCausalLM.from_pretrained(tmp_path / "extended").get_input_embeddings().weight
    before = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
    assert torch.equal(rows[: len(before)], before)


def test_a_gguf_file_is_exported_as_a_plain_folder(packed: tuple[Path, Path], cache: Path, tmp_path: Path) -> None:
    """What a comparison with the untouched base needs: its weights and ids where plain transformers opens them."""
    export(ExportRecipe(model=packed[1], out=tmp_path / "plain"))
    text, places = "The gene BRCA1 is 81 kb long.", (tmp_path / "plain", locate(packed[1])[0])
    one, two = (AutoTokenizer.from_pretrained(place)(text, return_tensors="pt") for place in places)
    assert torch.equal(one["input_ids"], two["input_ids"])
    plain, unpacked = (AutoModelForCausalLM.from_pretrained(place) for place in places)
    assert torch.equal(plain(**one).logits, unpacked(**one).logits)


def test_a_folder_that_holds_a_gguf_file_alone_is_one(packed: tuple[Path, Path], cache: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.gguf").symlink_to(packed[1])
    assert (locate(tmp_path / "one")[0] / "model.safetensors").is_file()
    (tmp_path / "one" / "b.gguf").symlink_to(packed[1])
    with pytest.raises(UserError, match=r"several GGUF files \(a.gguf, b.gguf\); name one of them"):
        locate(tmp_path / "one")


def test_what_is_damaged_is_one_line_and_leaves_nothing(packed: tuple[Path, Path], cache: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(packed[1].read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut.gguf: not read.* GGUF .*; fetch it again"):
        locate(tmp_path / "cut.gguf")
    assert not cache.exists() or not list((cache / "llama-gene").iterdir())


def test_words_that_are_not_known_to_come_out_right_are_refused(tmp_path: Path, text_file: Path, cache: Path) -> None:
    """transformers does not read the name and gives other ids than the model was trained on, without a word."""
    _, file = pack(tmp_path, text_file, "qwen2")
    with pytest.raises(
        UserError, match="cuts words as 'qwen2', whose ids are not known to come out right; known: llama-bpe, smollm, gpt-2"
    ):
        locate(file)


def test_what_locates_a_base_imports_nothing_that_compiles() -> None:
    """The pattern of Llama 3 stood in a file that needs numba, and cost every command that opens a model over a second."""
    code = "import sys, tokenizer.base; print([name for name in ('numba', 'torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
