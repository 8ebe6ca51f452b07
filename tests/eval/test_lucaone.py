"""The native LucaOne: the published formulas, the documented names of both layouts, and the same rows alone and in a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import luca_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from artefacts.errors import UserError
from eval.baselines.lucaone import checkpoint
from eval.baselines.lucaone.config import ONLY, LucaOneConfig
from eval.baselines.lucaone.heads import LucaOneForMaskedLM, LucaOneForSequenceClassification, LucaOneForTokenClassification
from eval.baselines.lucaone.letters import letter_ids
from eval.baselines.lucaone.model import LucaOneModel
from eval.baselines.lucaone.register import register
from eval.baselines.lucaone.tokenizer import LucaOneTokenizer

LAYERS, WIDTH, HEADS = 3, 48, 4


def config(**more: Any) -> LucaOneConfig:
    return LucaOneConfig(hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, **more)


def randomised(model: torch.nn.Module, seed: int = 0) -> Any:
    """Weights large enough that a wrong formula shows."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        p.data = torch.randn(p.shape, generator=generator) * 0.3 + ("norm" in name and name.endswith("weight"))
    return model.eval()


@pytest.fixture(scope="module")
def masked_lm() -> LucaOneForMaskedLM:
    return randomised(LucaOneForMaskedLM(config()))


def original_names(model: LucaOneForMaskedLM) -> dict[str, torch.Tensor]:
    """What `pytorch.pth` holds, its dropped parts and DDP's prefix included."""
    state = {}
    for name, tensor in model.state_dict().items():
        state[name.removeprefix("lucaone.embeddings.").removeprefix("lucaone.encoder.")] = tensor
    state["lm_head.weight"] = state.pop("lm_head.decoder.weight")
    for i in range(LAYERS):
        state[f"layers.{i}.self_attn.rot_emb.inv_freq"] = torch.ones(WIDTH // HEADS // 2)
    state["contact_head.regression.weight"] = torch.ones(1, 12)
    for name in ("hidden_layer_list", "classifier_list", "loss_fct_list"):
        state[f"{name}.token_level.gene_mask.weight"] = torch.ones(2, 2)
    return {f"module.{name}": tensor for name, tensor in state.items()}


def numpy_weights(model: LucaOneForMaskedLM) -> dict[str, np.ndarray]:
    return {name.removeprefix("module."): tensor.double().numpy() for name, tensor in original_names(model).items()}


# --- letters ---


def test_ids_of_the_description() -> None:
    tokenizer = LucaOneTokenizer()
    assert tokenizer("ATGCUN", seq_type="gene")["input_ids"] == [2, 5, 6, 8, 7, 6, 9, 3]
    assert tokenizer("MKU", seq_type="prot")["input_ids"] == [2, 26, 21, 32, 3]
    assert len(tokenizer) == 39
    assert letter_ids("RYkm", "rna").tolist() == [9] * 4  # ambiguity codes
    assert letter_ids("acgu", "dna").tolist() == letter_ids("ACGT", "gene").tolist() == [5, 7, 8, 6]
    assert sorted(letter_ids("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "protein").tolist()) == list(range(10, 36))
    with pytest.raises(ValueError, match="one of gene"):
        letter_ids("A", "peptide")


def test_a_batch_keeps_the_molecule() -> None:
    tokenizer = LucaOneTokenizer()
    genes = tokenizer(["ATGCUN", "ATG"], seq_type="gene", padding=True)
    assert genes["input_ids"] == [[2, 5, 6, 8, 7, 6, 9, 3], [2, 5, 6, 8, 3, 0, 0, 0]]
    assert genes["token_type_ids"] == [[0] * 8] * 2
    proteins = tokenizer(["MKV", "A[MASK]"], seq_type="prot", padding=True)
    assert proteins["input_ids"] == [[2, 26, 21, 13, 3], [2, 11, 4, 3, 0]]
    assert proteins["token_type_ids"] == [[1] * 5, [1, 1, 1, 1, 0]]
    assert tokenizer.decode(genes["input_ids"][1], skip_special_tokens=True) == "ATG"


# --- formulas ---


@pytest.mark.parametrize(("letters", "kind"), [("ACGTNUACCA", "gene"), ("MKVLAAGWX", "prot"), ("M", "prot")])
def test_the_encoder_by_its_formulas(letters: str, kind: str, masked_lm: LucaOneForMaskedLM) -> None:
    ids = np.array([2, *letter_ids(letters, kind), 3])
    weights = numpy_weights(masked_lm)
    expected = reference.encode(ids, int(kind == "prot"), weights, LAYERS, HEADS)
    with torch.no_grad():
        out = masked_lm.double()(torch.from_numpy(ids)[None])
        rows = masked_lm.lucaone(torch.from_numpy(ids)[None]).last_hidden_state[0]
    masked_lm.float()
    assert rows.numpy() == pytest.approx(expected, abs=1e-6)  # the angles are float32
    hidden = reference.norm(reference.gelu(reference.linear(expected, weights, "lm_head.dense")), weights, "lm_head.layer_norm")
    assert out.logits[0].numpy() == pytest.approx(hidden @ weights["lm_head.weight"].T + weights["lm_head.bias"], abs=1e-5)


@settings(max_examples=30)
@given(st.lists(st.text("ACGT", min_size=1, max_size=30), min_size=1, max_size=5), st.integers(0, 9))
def test_the_same_rows_alone_and_in_any_batch(texts: list[str], extra: int) -> None:
    """Proteins and genes side by side, any padding, ids under the padding of no account."""
    model = randomised(LucaOneModel(config()))
    rows = [[2, *letter_ids(text, "prot" if i % 2 else "gene"), 3] for i, text in enumerate(texts)]
    width = max(map(len, rows)) + extra
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    with torch.no_grad():
        together = model(ids).last_hidden_state
        mask = ids != 0
        noise = torch.where(mask, ids, 7)
        types = torch.tensor([[i % 2] * width for i in range(len(rows))])
        masked = model(noise, attention_mask=mask, token_type_ids=types).last_hidden_state
        for i, row in enumerate(rows):
            alone = model(torch.tensor([row])).last_hidden_state[0]
            assert torch.allclose(together[i, : len(row)], alone, atol=2e-5)
            assert torch.allclose(masked[i, : len(row)], alone, atol=2e-5)


def test_the_molecule_matters_and_is_told_by_the_letters() -> None:
    model = randomised(LucaOneModel(config()))
    ids = torch.tensor([[2, *letter_ids("ACGT", "prot"), 3]])
    with torch.no_grad():
        told, given_ = model(ids).last_hidden_state, model(ids, token_type_ids=torch.ones_like(ids)).last_hidden_state
        other = model(ids, token_type_ids=torch.zeros_like(ids)).last_hidden_state
    assert torch.equal(told, given_)
    assert not torch.allclose(told, other, atol=1e-2)


def test_bf16_stays_near_and_hidden_states_end_with_the_last(masked_lm: LucaOneForMaskedLM) -> None:
    model = LucaOneModel(config()).eval()
    ids = torch.tensor([[2, *letter_ids("ACGT" * 100, "gene"), 3]])
    with torch.no_grad():
        full = model(ids, output_hidden_states=True)
        half = model.to(torch.bfloat16)(ids).last_hidden_state
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), full.last_hidden_state, atol=0.1)
    assert len(full.hidden_states) == LAYERS + 1
    assert torch.equal(full.hidden_states[-1], full.last_hidden_state)
    with pytest.raises(ValueError, match="square of the length"):
        model(ids, output_attentions=True)


# --- heads ---


@pytest.mark.parametrize("pooling", ["cls", "mean", "value_attention"])
def test_sequence_heads_leave_padding_out(pooling: str) -> None:
    model = randomised(LucaOneForSequenceClassification(config(classifier_pooling_type=pooling, classifier_num_labels=3)))
    rows = [[2, *letter_ids(text, "gene"), 3] for text in ("ACGT", "ACGTACGTAA")]
    batch = torch.tensor([row + [0] * (12 - len(row)) for row in rows])
    with torch.no_grad():
        together = model(batch).logits
        alone = torch.cat([model(torch.tensor([row])).logits for row in rows])
    assert torch.allclose(together, alone, atol=1e-4)


def test_token_heads_give_the_same_rows_alone_and_padded() -> None:
    model = randomised(LucaOneForTokenClassification(config(classifier_num_labels=3, task_type="multi_class")))
    rows = [[2, *letter_ids(text, "prot"), 3] for text in ("MKV", "MKVLAAGW")]
    batch = torch.tensor([row + [0] * (12 - len(row)) for row in rows])
    with torch.no_grad():
        together = model(batch).logits
        for row, found in zip(rows, together, strict=True):
            assert torch.allclose(found[: len(row)], model(torch.tensor([row])).logits[0], atol=1e-4)


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation gives."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(tensor, torch.Tensor):
                self.most = max(self.most, tensor.numel())
        return found


def test_no_tensor_grows_with_the_square_of_the_length() -> None:
    model = randomised(LucaOneModel(config()))
    most = []
    for length in (200, 400):
        with torch.inference_mode(), Largest() as seen:
            model(torch.full((1, length), 10))
        most.append(seen.most)
    assert most[1] == 2 * most[0]
    assert most[1] < 400 * 400


def test_losses_of_the_heads() -> None:
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    tokens = randomised(LucaOneForTokenClassification(config(classifier_num_labels=2, task_type="multi_class")))
    labels = torch.tensor([[-100, 1, 0, -100], [-100, 1, -100, -100]])
    out = tokens(ids, labels=labels)
    kept = labels != -100
    assert out.loss.item() == pytest.approx(torch.nn.functional.cross_entropy(out.logits[kept], labels[kept]).item())
    for kind, given_, expected in (
        ("regression", torch.tensor([0.5, -1.0]), lambda z, y: ((z[:, 0] - y) ** 2).mean()),
        ("binary_class", torch.tensor([1, 0]), lambda z, y: (torch.log1p(torch.exp(z[:, 0])) - y * z[:, 0]).mean()),
    ):
        model = randomised(LucaOneForSequenceClassification(config(classifier_num_labels=1, task_type=kind)))
        out = model(ids, labels=given_)
        assert out.loss.item() == pytest.approx(expected(out.logits, given_).item(), rel=1e-5)


# --- files ---


def test_parameter_counts_of_the_description() -> None:
    with torch.device("meta"):
        model = LucaOneForMaskedLM(LucaOneConfig())
    assert sum(p.numel() for p in model.lucaone.parameters()) == 1_573_639_680
    assert sum(p.numel() for p in model.parameters()) == 1_580_300_839


def test_documented_names_of_both_layouts() -> None:
    with torch.device("meta"):
        names = set(LucaOneForMaskedLM(config()).state_dict())
    inner = [f"{norm}.{end}" for norm in ("pre_layer_norm", "post_layer_norm", "fc1", "fc2") for end in ("weight", "bias")]
    inner += [f"self_attn.{part}_proj.{end}" for part in ("q", "k", "v", "out") for end in ("weight", "bias")]
    hugging_face = {"lucaone.embeddings.embed_tokens.weight", "lucaone.embeddings.embed_type.weight"}
    hugging_face |= {f"lucaone.encoder.layers.{i}.{name}" for i in range(LAYERS) for name in inner}
    hugging_face |= {f"lucaone.encoder.last_layer_norm.{end}" for end in ("weight", "bias")}
    hugging_face |= {
        f"lm_head.{name}" for name in ("dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias", "decoder.weight", "bias")
    }
    assert names == hugging_face


@pytest.mark.parametrize("form", ["pytorch.pth", "pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_original_layout_loads(form: str, tied: bool, masked_lm: LucaOneForMaskedLM, tmp_path: Path) -> None:
    state = original_names(masked_lm)
    if tied:
        del state["module.lm_head.weight"]
    if form.endswith("safetensors"):
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / form)
    else:
        torch.save(state, tmp_path / form)
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": HEADS, "num_hidden_layers": 36}))
    encoder, whole = checkpoint.load(tmp_path), checkpoint.load(tmp_path, masked_lm=True)
    for name, tensor in masked_lm.lucaone.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor)
    decoder = masked_lm.lucaone.embeddings.embed_tokens.weight if tied else masked_lm.lm_head.decoder.weight
    assert torch.equal(whole.lm_head.decoder.weight, decoder)
    assert encoder.config.num_hidden_layers == LAYERS
    assert next(checkpoint.load(tmp_path, dtype=torch.bfloat16).parameters()).dtype == torch.bfloat16


def test_the_hugging_face_layout_loads_through_the_auto_classes(masked_lm: LucaOneForMaskedLM, tmp_path: Path) -> None:
    """The folder as it is released: auto_map names remote code, and none is run."""
    register()
    masked_lm.save_pretrained(tmp_path)
    LucaOneTokenizer().save_pretrained(tmp_path)
    for file, key, more in (
        ("config.json", "auto_map", {"AutoConfig": "configuration_lucaone.LucaGPLMConfig", "AutoModel": "modeling_lucaone.LucaGPLMModel"}),
        ("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["tokenization_lucaone.LucaGPLMTokenizer", None]}),
    ):
        found = json.loads((tmp_path / file).read_text())
        found[key] = more
        if "tokenizer" in file:
            found["tokenizer_class"] = "LucaGPLMTokenizer"
        (tmp_path / file).write_text(json.dumps(found))
    assert isinstance(AutoConfig.from_pretrained(tmp_path, trust_remote_code=False), LucaOneConfig)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    ids = tokenizer("ACGT", seq_type="gene", return_tensors="pt")
    expected = masked_lm(**ids).logits
    whole, info = AutoModelForMaskedLM.from_pretrained(tmp_path, trust_remote_code=False, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.allclose(whole(**ids).logits, expected, atol=1e-6)
    encoder, info = AutoModel.from_pretrained(tmp_path, trust_remote_code=False, output_loading_info=True)
    assert not info["missing_keys"]
    assert {name.split(".")[0] for name in info["unexpected_keys"]} == {"lm_head"}  # an encoder has no head
    assert torch.equal(encoder.state_dict()["encoder.layers.1.fc1.weight"], masked_lm.lucaone.encoder.layers[1].fc1.weight)
    assert torch.equal(checkpoint.load(tmp_path).state_dict()["encoder.layers.2.fc2.bias"], masked_lm.lucaone.encoder.layers[2].fc2.bias)
    for kind in (AutoModelForSequenceClassification, AutoModelForTokenClassification):
        _, info = kind.from_pretrained(tmp_path, trust_remote_code=False, output_loading_info=True)
        assert {name.split(".")[0] for name in info["missing_keys"]} <= {"classifier", "pooler"}


def test_broken_checkpoints_are_told(masked_lm: LucaOneForMaskedLM, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights"):
        checkpoint.load(tmp_path)
    path = tmp_path / "pytorch.pth"
    state = original_names(masked_lm)
    torch.save(state, path)
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": HEADS}))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(tmp_path)
    torch.save({"model": print}, path)  # a pickle that would run code
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(tmp_path)
    for problem, changed in (
        ("layers.1.fc1.bias is missing", {name: tensor for name, tensor in state.items() if "layers.1.fc1.bias" not in name}),
        ("is not known", {**state, "module.layers.1.surprise": torch.ones(2)}),
        ("has shape", {**state, "module.layers.1.fc2.bias": torch.ones(2)}),
    ):
        torch.save(changed, path)
        with pytest.raises(UserError, match=problem):
            checkpoint.load(tmp_path)
    torch.save({"weight": torch.ones(3)}, path)
    with pytest.raises(UserError, match="no LucaOne weights"):
        checkpoint.load(tmp_path)


def test_sharded_folders_load_exactly_or_not_at_all(masked_lm: LucaOneForMaskedLM, tmp_path: Path) -> None:
    """transformers starts what is missing at random and logs it."""
    masked_lm.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    for whole in (False, True):
        expected = masked_lm if whole else masked_lm.lucaone
        found = checkpoint.load(tmp_path, masked_lm=whole).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.state_dict().items())
    index = tmp_path / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    name = "lucaone.encoder.layers.1.fc1.bias"
    shard = tmp_path / places["weight_map"][name]
    before, state = shard.read_bytes(), load_file(shard)
    rest = {key: tensor for key, tensor in state.items() if key != name}
    for problem, changed in (
        ("layers.1.fc1.bias is missing", {**rest, "lucaone.encoder.layers.1.dense.bias": state[name]}),
        ("layers.7.fc1.bias is not known", {**state, "lucaone.encoder.layers.7.fc1.bias": state[name].clone()}),
        (r"layers.1.fc1.bias has shape \[3\], not \[192\]", {**rest, name: torch.ones(3)}),
    ):
        save_file(changed, shard, {"format": "pt"})
        kept = {key: file for key, file in places["weight_map"].items() if file != shard.name}
        index.write_text(json.dumps({**places, "weight_map": {**kept, **dict.fromkeys(changed, shard.name)}}))
        for whole in (False, True):
            with pytest.raises(UserError, match=problem):
                checkpoint.load(tmp_path, masked_lm=whole)
    index.write_text(json.dumps(places))
    shard.write_bytes(before[: len(before) // 2])
    with pytest.raises(UserError, match=r"these weights cannot be read .* fetch them again"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(("name", "value"), [(name, not only if isinstance(only, bool) else 2.0) for name, only in ONLY.items()])
def test_what_the_configuration_refuses(name: str, value: Any, masked_lm: LucaOneForMaskedLM, tmp_path: Path) -> None:
    """In a configuration, in from_pretrained, and in the folder of an encoder: never loaded with wrong numbers."""
    with pytest.raises(ValueError, match=f"{name}={value}"):
        config(**{name: value})
    masked_lm.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{name}={value}"):
        LucaOneModel.from_pretrained(tmp_path, **{name: value})
    found = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**found, name: value}))
    with pytest.raises(UserError, match=f"{name}={value}"):
        checkpoint.load(tmp_path)


def test_poolings_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="not supported"):
        config(classifier_pooling_type="context_attention")
