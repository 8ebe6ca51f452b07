"""LucaOne as transformers knows it: the calls of its Hugging Face package, and plain fine-tuning."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

from eval.baselines.lucaone import published
from eval.baselines.lucaone.config import LucaOneConfig
from eval.baselines.lucaone.heads import LucaOneForSequenceClassification, LucaOneForTokenClassification
from eval.baselines.lucaone.letters import letter_ids
from eval.baselines.lucaone.model import LucaOneModel
from eval.baselines.lucaone.tokenizer import LucaOneTokenizer

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
IDS = torch.tensor([[2, *letter_ids("MKVL", "prot"), 3], [2, *letter_ids("MK", "prot"), 3, 0, 0]])


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """A folder as the original's conversion writes it: its names, its defaults, its auto_map, no files of code."""
    torch.manual_seed(0)
    published.LucaGPLMForMaskedLM(published.LucaGPLMConfig(**SIZE)).save_pretrained(tmp_path)
    published.LucaGPLMTokenizer().save_pretrained(tmp_path)
    maps = {
        "config.json": {
            "AutoConfig": "configuration_lucaone.LucaGPLMConfig",
            "AutoModel": "modeling_lucaone.LucaGPLMModel",
            "AutoModelForTokenClassification": "modeling_lucaone.LucaGPLMForTokenClassification",
        },
        "tokenizer_config.json": {"AutoTokenizer": ["tokenization_lucaone.LucaGPLMTokenizer", None]},
    }
    for name, auto_map in maps.items():
        found = json.loads((tmp_path / name).read_text()) | {"auto_map": auto_map}
        if name == "config.json":
            found |= {"classifier_num_labels": -1, "classifier_pos_weight": 1.0, "ffn_dim": 128, "layer_norm_eps": 1e-12}
            found |= {"architectures": ["LucaGPLMForMaskedLM"], "classifier_loss_type": "cross_entropy", "alphabet": "gene_prot"}
        (tmp_path / name).write_text(json.dumps(found))
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "level"), [(AutoModelForSequenceClassification, "seq_level"), (AutoModelForTokenClassification, "token_level")]
)
def test_heads_by_the_calls_of_the_released_readme(kind: Any, level: str, converted: Path) -> None:
    given: dict[str, Any] = {"task_level": level, "classifier_loss_reduction": "mean", "trust_remote_code": True}
    for task, labels, loss in (("multi_class", 4, "cross_entropy"), ("binary_class", 1, "binary_cross_entropy"), ("regression", 1, "mae")):
        model = kind.from_pretrained(converted, task_type=task, classifier_num_labels=labels, classifier_loss_type=loss, **given)
        assert model(IDS).logits.shape[-1] == labels
        assert (model.config.task_level, model.config.task_type, model.config.classifier_loss_type) == (level, task, loss)
    assert kind.from_pretrained(converted).classifier.out_features == 2  # of -1 no head of one output, but transformers' two
    for wrong, message in (
        ({"task_type": "multi_class", "classifier_loss_type": "mae"}, "is for regression"),
        ({"classifier_loss_reduction": "product"}, "classifier_loss_reduction 'product' is not supported"),
        ({"task_type": "guess"}, "task_type 'guess' is not supported"),
        ({"task_type": "binary_class", "classifier_num_labels": 4}, "one label or two"),
        ({"task_type": "regression", "problem_type": "single_label_classification"}, "two tasks"),
    ):
        with pytest.raises(ValueError, match=message):
            kind.from_pretrained(converted, **wrong)


def test_another_task_level_than_the_class_has_is_refused(converted: Path, tmp_path: Path) -> None:
    """As the original's classes assert; without a word the class decides."""
    kinds = {"seq_level": AutoModelForSequenceClassification, "token_level": AutoModelForTokenClassification}
    for level, other in (("seq_level", "token_level"), ("token_level", "seq_level")):
        with pytest.raises(ValueError, match=f"is of task_level '{level}', but the folder or the call says '{other}'"):
            kinds[level].from_pretrained(converted, task_level=other, task_type="multi_class", classifier_num_labels=4)
        tuned = kinds[level].from_pretrained(converted, classifier_pooling_type="mean", classifier_num_labels=4)
        tuned.save_pretrained(tmp_path / level)  # has tensors that are, by their names and shapes, those of the other class too
        assert json.loads((tmp_path / level / "config.json").read_text())["task_level"] == level
        with pytest.raises(ValueError, match=f"pass task_level='{other}', or take the other class"):
            kinds[other].from_pretrained(tmp_path / level)
        assert kinds[level].from_pretrained(tmp_path / level).config.task_level == level
    with pytest.raises(ValueError, match="task_level 'residue' is not supported"):
        LucaOneConfig(task_level="residue")


def test_published_names_and_folders_with_remote_code_that_is_not_run(converted: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted, trust_remote_code=True)
    assert isinstance(tokenizer, published.LucaGPLMTokenizer)
    assert isinstance(AutoConfig.from_pretrained(converted, trust_remote_code=True), published.LucaGPLMConfig)
    for kind, name in ((AutoModel, "LucaGPLMModel"), (AutoModelForMaskedLM, "LucaGPLMForMaskedLM")):
        assert isinstance(kind.from_pretrained(converted, trust_remote_code=True), getattr(published, name))
    for name in published.__all__:
        assert name.startswith("LucaGPLM")
    again = tmp_path / "again"
    AutoModel.from_pretrained(converted).save_pretrained(again)
    assert "auto_map" not in json.loads((again / "config.json").read_text())
    assert isinstance(AutoTokenizer.from_pretrained(again), LucaOneTokenizer)  # of a folder without a tokenizer
    tokenizer.save_pretrained(again)
    assert "auto_map" not in json.loads((again / "tokenizer_config.json").read_text())
    fast = published.LucaGPLMTokenizerFast(seq_type="prot")
    fast.save_pretrained(again)
    assert AutoTokenizer.from_pretrained(again, trust_remote_code=True)("MK")["input_ids"] == fast("MK")["input_ids"]


def test_the_seq_type_is_kept_and_a_doubtful_gene_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prot = LucaOneTokenizer(seq_type="prot")
    prot.save_pretrained(tmp_path)
    for tokenizer in (prot, LucaOneTokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert tokenizer("MKV")["input_ids"] == tokenizer("MKV", seq_type="prot")["input_ids"] == [2, *letter_ids("MKV", "prot"), 3]
        assert tokenizer("ACGT", seq_type="gene")["input_ids"] == [2, *letter_ids("ACGT", "gene"), 3]
    with pytest.raises(ValueError, match="seq_type 'peptide'"):
        LucaOneTokenizer(seq_type="peptide")
    logger = logging.getLogger("eval.baselines.lucaone.tokenizer")
    logger.addHandler(caplog.handler)
    try:
        LucaOneTokenizer()("ACGUN[MASK]")
        LucaOneTokenizer()("MKV", seq_type="gene")
        prot("MKV")
        assert not caplog.records
        LucaOneTokenizer()("MKVA")
        assert "read as a gene: K, M, V as N; or pass seq_type='prot'" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


def test_hidden_states_tuples_and_embeddings(converted: Path) -> None:
    for kind in (AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoModelForTokenClassification):
        model = kind.from_pretrained(converted).eval()
        whole = model(IDS, output_hidden_states=True)
        assert len(whole.hidden_states) == 3
        first, states = model(IDS, output_hidden_states=True, return_dict=False)
        assert torch.equal(first, whole[0])
        assert all(map(torch.equal, states, whole.hidden_states))
        assert len(model(IDS, return_dict=False)) == 1
        embeds = model.get_input_embeddings()(IDS)
        types = torch.ones_like(IDS)
        found = model(inputs_embeds=embeds, token_type_ids=types, attention_mask=IDS != 0)
        assert torch.allclose(found[0], whole[0], atol=1e-6)
        for wrong, message in (
            ({"inputs_embeds": embeds}, "which molecule"),
            ({"input_ids": IDS, "inputs_embeds": embeds}, "not both"),
            ({}, "input_ids or inputs_embeds"),
        ):
            with pytest.raises(ValueError, match=message):
                model(**wrong)
    model.config.output_hidden_states = True
    assert len(model(IDS).hidden_states) == 3


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    model = LucaOneForTokenClassification(LucaOneConfig(classifier_num_labels=2, classifier_dropout_prob=0.0, **SIZE)).train()
    labels = torch.tensor([[0, 1, 1, 0], [1, 0, -100, -100]])
    found = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.is_gradient_checkpointing
        model(IDS, labels=labels).loss.backward()
        found.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


def test_losses_of_problem_types_two_labels_and_reductions() -> None:
    def loss(labels: Any, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        out = LucaOneForSequenceClassification(LucaOneConfig(**SIZE, **more)).eval()(IDS, labels=torch.tensor(labels))
        return out.loss, out.logits

    for name, labels, number, expected in (
        ("regression", [0.5, 2.0], 1, lambda z, y: F.mse_loss(z[:, 0], y)),
        ("single_label_classification", [0, 2], 3, F.cross_entropy),
        ("multi_label_classification", [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]], 3, F.binary_cross_entropy_with_logits),
    ):
        for problem in ({"problem_type": name}, {}):  # given, or told by the labels
            found, logits = loss(labels, classifier_num_labels=number, **problem)
            assert found.item() == pytest.approx(expected(logits, torch.tensor(labels)).item())
    found, logits = loss([1, 0], task_type="binary_class", classifier_num_labels=2, classifier_pos_weight=3.0)
    margin = logits[:, 1] - logits[:, 0]  # two outputs are one, their difference
    expected = F.binary_cross_entropy_with_logits(margin, torch.tensor([1.0, 0.0]), pos_weight=torch.tensor(3.0))
    assert found.item() == pytest.approx(expected.item())
    each = loss([0, 1], task_type="multi_class", classifier_num_labels=2, classifier_loss_reduction="none")[0]
    total = loss([0, 1], task_type="multi_class", classifier_num_labels=2, classifier_loss_reduction="sum")[0]
    assert each.shape == (2,)
    assert each.sum().item() == pytest.approx(total.item())
    mae, logits = loss([0.5, 2.0], task_type="regression", classifier_num_labels=1, classifier_loss_type="mae")
    assert mae.item() == pytest.approx((logits[:, 0] - torch.tensor([0.5, 2.0])).abs().mean().item())


@pytest.mark.parametrize("several", [False, True])
def test_labels_of_letters_are_those_of_tokens_and_shifted_ones_are_told(several: bool) -> None:
    torch.manual_seed(0)
    more = {"task_type": "multi_label"} if several else {}
    model = LucaOneForTokenClassification(LucaOneConfig(classifier_num_labels=3, **more, **SIZE)).eval()
    of_letters = torch.tensor([[0, 1, 1, 2], [1, 0, -100, -100]])
    if several:
        of_letters = torch.where(of_letters[..., None] < 0, of_letters[..., None], F.one_hot(of_letters.clamp(min=0), 3))
    nothing = torch.full_like(of_letters[:, :1], -100)
    of_tokens = torch.cat([nothing, of_letters, nothing], dim=1)
    expected = model(IDS, labels=of_tokens).loss
    assert model(IDS, labels=of_letters).loss.item() == pytest.approx(expected.item())
    with pytest.raises(ValueError, match="labels are shifted"):
        model(IDS, labels=torch.cat([of_letters, nothing, nothing], dim=1))  # as a collator pads those of the letters
    with pytest.raises(ValueError, match="for 6 tokens: give one for each letter"):
        model(IDS, labels=of_letters[:, :3])


def test_a_token_task_is_fine_tuned_by_plain_transformers(converted: Path, tmp_path: Path) -> None:
    """Which residues are hydrophobic, from FASTA-like data to predictions; nothing here is this project's but the registered classes."""
    tokenizer = AutoTokenizer.from_pretrained(converted, seq_type="prot", trust_remote_code=True)
    model = AutoModelForTokenClassification.from_pretrained(
        converted, task_level="token_level", task_type="multi_class", classifier_num_labels=2, trust_remote_code=True
    )
    generator = torch.Generator().manual_seed(0)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    proteins = ["".join(letters[i] for i in torch.randint(20, (10 + n % 5,), generator=generator)) for n in range(64)]

    def collate(rows: list[str]) -> dict[str, torch.Tensor]:
        batch = tokenizer(rows, padding=True, return_tensors="pt")
        labels = torch.full_like(batch["input_ids"][:, 2:], -100)
        for row, protein in enumerate(rows):
            labels[row, : len(protein)] = torch.tensor([int(letter in "AILMFVWY") for letter in protein])
        return {**batch, "labels": labels}

    arguments = TrainingArguments(
        str(tmp_path / "tuned"), num_train_epochs=6, per_device_train_batch_size=8, learning_rate=5e-3, seed=0,
        remove_unused_columns=False, report_to=[], disable_tqdm=True, use_cpu=True, save_strategy="no", gradient_checkpointing=True,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=proteins, data_collator=collate).train()  # type: ignore[arg-type]
    model.save_pretrained(tmp_path / "tuned")
    tuned = AutoModelForTokenClassification.from_pretrained(tmp_path / "tuned").eval()
    said = tuned(**tokenizer("MKVDEAW", return_tensors="pt")).logits[0, 1:-1].argmax(dim=-1).tolist()
    assert said == [1, 0, 1, 0, 0, 1, 1]


def test_the_encoder_alone_is_unchanged_by_its_task_fields() -> None:
    torch.manual_seed(0)
    plain = LucaOneModel(LucaOneConfig(**SIZE)).eval()
    other = LucaOneModel(LucaOneConfig(task_level="token_level", task_type="mlm", **SIZE)).eval()
    other.load_state_dict(plain.state_dict())
    assert torch.equal(plain(IDS).last_hidden_state, other(IDS).last_hidden_state)
