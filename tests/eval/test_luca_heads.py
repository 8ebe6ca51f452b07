"""LucaBase, LucaPPI and LucaPPI2: published formulas and sizes, documented names, losses, and the two zero rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import luca_reference as reference
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from artefacts.errors import UserError
from eval.baselines.heads.losses import loss_of
from eval.baselines.heads.nets import Head, batch, load_head
from eval.baselines.heads.options import LossOptions, Network

SMALL = {"width": 24, "inner": 40, "heads": 3, "classifier": 12}


def network(**more: Any) -> Network:
    return Network.model_validate({**SMALL, **more})


def randomised(head: Head) -> Head:
    generator = torch.Generator().manual_seed(0)
    for name, p in head.named_parameters():
        p.data = torch.randn(p.shape, generator=generator) * 0.3 + ("norm" in name.lower() and name.endswith("weight"))
    return head.eval()


def weights(head: Head) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}


def tower(x: np.ndarray, w: dict[str, np.ndarray], end: str, net: Network) -> np.ndarray:
    """One sequence through a tower by the description."""
    place = f"matrix_encoder{end}.0"
    if net.layers and net.act:
        x = reference.gelu(reference.linear(x, w, place))
        place = f"matrix_encoder{end}.2"
    if net.layers:
        x = reference.linear(x, w, f"{place}.embeddings")
        for i in range(net.layers):
            if net.net == "luca_base":
                x = reference.block(x, w, f"{place}.encoder.{i}", net.heads)
            else:
                x = reference.bert_layer(x, w, f"{place}.encoder.layer.{i}", net.heads)
        if net.net == "luca_base":
            x = reference.norm(x, w, f"{place}.last_layer_norm")
    if net.pooling == "value_attention":
        x = reference.value_attention(x, w, f"matrix_pooler{end}")
    else:
        x = x.max(0) if net.pooling == "max" else x.mean(0)
    for i in range(len(net.fc)):
        x = reference.gelu(reference.linear(x, w, f"linear{end}.0.{2 * i}"))
    return x


@pytest.mark.parametrize("zero_rows", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"pooling": "max"},
        {"pooling": "mean"},
        {"layers": 2},
        {"layers": 1, "act": True, "pooling": "max"},
        {"net": "lucappi", "fc": [10]},
        {"net": "lucappi", "fc": [10], "layers": 2},
        {"net": "lucappi2", "fc": [10, 7]},
        {"net": "lucappi2", "fc": [10], "layers": 1, "act": True},
    ],
    ids=lambda given: "-".join(f"{key}{value}" for key, value in given.items()) or "linear",
)
def test_every_network_by_its_formulas_and_whatever_the_padding(given: dict[str, Any], zero_rows: bool) -> None:
    net = network(**given, zero_rows=zero_rows)
    widths = [16, 20] if net.net == "lucappi2" else [16] * (1 + net.pair)
    head = randomised(Head(net, widths, 3)).double()
    rng = np.random.default_rng(0)
    records = [
        [rng.normal(size=(length, width)) for width, length in zip(widths, lengths, strict=False)] for lengths in ((5, 3), (1, 9), (8, 2))
    ]
    w = weights(head)
    ends = ["_a", "_b"] if net.net == "lucappi2" else ["", ""]
    inputs = [batch([torch.from_numpy(record[i]) for record in records], zero_rows=zero_rows) for i in range(len(widths))]
    with torch.no_grad():
        logits = head(*[(x.double(), mask.double()) for x, mask in inputs])
    for i, record in enumerate(records):
        framed = [np.pad(x, ((1, 1), (0, 0))) if zero_rows else x for x in record]
        vectors = [tower(x.astype(np.float32).astype(float), w, end, net) for x, end in zip(framed, ends, strict=False)]
        assert logits[i].numpy() == pytest.approx(reference.head(np.concatenate(vectors), w), abs=2e-6)


def test_the_zero_rows_are_seen() -> None:
    head = randomised(Head(network(pooling="max"), [4], 1))
    x = -torch.rand(3, 4) - 1
    with torch.no_grad():
        without, with_ = (head.tower("", *batch([x], zero_rows=zero)) for zero in (False, True))
    assert torch.equal(without[0], x.amax(0))
    assert not with_.any()  # zero rows floor every channel


def test_a_pair_is_in_order() -> None:
    head = randomised(Head(network(net="lucappi", fc=[6]), [8, 8], 1))
    a, b = batch([torch.randn(4, 8)], zero_rows=False), batch([torch.randn(3, 8)], zero_rows=False)
    assert not torch.allclose(head(a, b), head(b, a))
    with pytest.raises(ValueError, match="use lucappi2"):
        Head(network(net="lucappi"), [8, 9], 1)


@pytest.mark.parametrize(
    ("given", "classes", "parameters"),
    [
        ({"net": "lucappi2", "fc": [128]}, 1, 40_010_241),
        ({"net": "lucappi", "fc": [128]}, 1, 20_021_633),
        ({}, 6, 19_989_382),
        ({"layers": 4}, 1, 56_286_465),
        ({"layers": 4, "pooling": "max"}, 88, 53_151_960),
    ],
)
def test_sizes_of_the_description(given: dict[str, Any], classes: int, parameters: int) -> None:
    net = Network.model_validate(given)
    with torch.device("meta"):
        head = Head(net, [2560] * (1 + net.pair), classes)
    assert sum(p.numel() for p in head.parameters()) == parameters


BLOCK = [f"{part}.{end}" for part in ("pre_layer_norm", "post_layer_norm", "fc1", "fc2") for end in ("weight", "bias")]
BLOCK += [f"self_attn.{part}_proj.{end}" for part in ["q", "k", "v", "out"] for end in ("weight", "bias")]
LAYER = [f"attention.self.{part}.{end}" for part in ("query", "key", "value") for end in ("weight", "bias")]
LAYER += [
    f"{part}.{end}"
    for part in ("attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
    for end in ("weight", "bias")
]
BOTH = ("weight", "bias")
LAST = {f"{part}.{end}" for part in ("hidden_layer", "classifier") for end in BOTH}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {f"matrix_pooler.{m}" for m in "UVW"}),
        (
            {"layers": 2, "pooling": "max"},
            {f"matrix_encoder.0.{part}.{end}" for part in ("embeddings", "last_layer_norm") for end in BOTH}
            | {f"matrix_encoder.0.encoder.{i}.{name}" for i in range(2) for name in BLOCK},
        ),
        ({"net": "lucappi", "fc": [8]}, {f"matrix_pooler.{m}" for m in "UVW"} | {f"linear.0.0.{end}" for end in BOTH}),
        (
            {"net": "lucappi2", "fc": [8], "layers": 1},
            {f"matrix_pooler_{s}.{m}" for s in "ab" for m in "UVW"}
            | {f"linear_{s}.0.0.{end}" for s in "ab" for end in BOTH}
            | {f"matrix_encoder_{s}.0.embeddings.{end}" for s in "ab" for end in BOTH}
            | {f"matrix_encoder_{s}.0.encoder.layer.0.{name}" for s in "ab" for name in LAYER},
        ),
    ],
)
def test_shipped_heads_load_by_their_documented_names(given: dict[str, Any], expected: set[str], tmp_path: Path) -> None:
    net = network(**given)
    head = randomised(Head(net, [16] * (1 + net.pair), 4))
    state = head.state_dict()
    assert set(state) == expected | LAST
    more = {"loss_fct.criterion.weight": torch.ones(4), "loss_fct.criterion.pos_weight": torch.ones(1)}
    more |= {"matrix_encoder.0.encoder.0.self_attn.rot_emb.inv_freq": torch.ones(4)} if net.layers else {}
    torch.save({f"module.{name}": tensor for name, tensor in {**state, **more}.items()}, tmp_path / "pytorch_model.bin")
    loaded = load_head(tmp_path, net)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in state.items())
    (tmp_path / "pytorch_model.bin").unlink()
    save_file({**state, **more}, tmp_path / "model.safetensors")
    assert loaded.outputs == load_head(tmp_path, net).outputs == 4
    with pytest.raises(UserError, match=r"do not fit|another network"):
        load_head(tmp_path, network(**{**given, "layers": 3, "act": True}))
    save_file({"encoder.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="no LucaOne head"):
        load_head(tmp_path, net)


# --- losses ---


class Loss(LossOptions):
    """A recipe's loss, as training calls it."""

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return loss_of(self.kind).loss(self, logits, target)


def test_weighted_classes_are_divided_by_the_number_of_records() -> None:
    logits, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
    w = np.array([2.0, 50.0, 1.0])
    logp = np.log(reference.softmax(logits.double().numpy(), 1))
    expected = -(w[target] * logp[np.arange(5), target]).sum() / 5
    loss = Loss(kind="multiclass", class_weights=w.tolist())
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)
    assert loss_of(loss.kind).probabilities(logits).sum(1).numpy() == pytest.approx(np.ones(5), abs=1e-6)
    assert (loss_of("multiclass").outputs(3), loss_of("binary").outputs(2)) == (3, 1)


def test_binary_and_regression() -> None:
    z, y = torch.randn(6, 1), torch.tensor([1.0, 0, 1, 1, 0, 0])
    p = 1 / (1 + np.exp(-z[:, 0].double().numpy()))
    expected = -(2.0 * y.numpy() * np.log(p) + (1 - y.numpy()) * np.log(1 - p)).mean()
    loss = Loss(kind="binary", pos_weight=2.0)
    assert loss(z, y).item() == pytest.approx(expected, rel=1e-5)
    assert loss_of(loss.kind).probabilities(z)[:, 0].numpy() == pytest.approx(p, rel=1e-5)
    assert Loss(kind="regression")(z, y).item() == pytest.approx(((z[:, 0] - y) ** 2).mean().item())
    assert Loss(kind="regression", regression="l1")(z, y).item() == pytest.approx((z[:, 0] - y).abs().mean().item())
    many = torch.randn(2, 3)
    assert Loss(kind="multilabel")(many, torch.ones(2, 3)).item() == pytest.approx(torch.log1p(torch.exp(-many)).mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match="not regression"):
        Loss(kind="regression", pos_weight=2)
    with pytest.raises(ValueError, match="multiclass"):
        Loss(kind="binary", class_weights=[1, 2])


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_outputs_are_put_in_the_order_of_the_records_choices(kind: str) -> None:
    """A head's classes may be those of the records in another order; a multilabel head's were once taken as they came."""
    names, choices = (["a", "b"], ["b", "a"]) if kind == "binary" else (["a", "b", "c"], ["c", "a", "b"])
    shares = {"a": 0.25, "b": 0.75, "c": 0.125}
    outputs = np.array([[shares["b"]]] if kind == "binary" else [[shares[name] for name in names]])
    loss = loss_of(kind)
    found = dict(zip(choices, loss.classes(loss.reordered(outputs, names, choices))[0], strict=True))
    assert found == pytest.approx({name: shares[name] for name in names})
