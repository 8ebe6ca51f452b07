"""LucaBase, LucaPPI and LucaPPI2 with upstream's parameter names. Not supported: token-level tasks, `seq` and `vector` inputs.

Shapes: B sequences, T rows (padded), D embedding width, C outputs (1 for binary and regression, else one per class).

Optional Transformers stand in front of the pooling: LucaBase's (pre-LayerNorm, rotary) and LucaPPI's (BERT, post-LayerNorm), of width
E; mask 1 for rows that count.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

from artefacts.errors import UserError, ensure
from eval.baselines.heads.options import Network
from eval.baselines.lucaone.checkpoint import FILES, load_exactly, read_state
from eval.baselines.lucaone.model import NORM_EPS, Block, pooling, rotary

BERT_EPS = 1e-12
DROPOUT = 0.1


class LucaTransformer(nn.Module):
    """Linear to E, padded rows zeroed, LucaOne blocks, LayerNorm; dropout on attention probabilities only."""

    def __init__(self, width_in: int, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        self.embeddings = nn.Linear(width_in, width)
        self.encoder = nn.ModuleList(Block(width, heads, inner, DROPOUT) for _ in range(layers))
        self.last_layer_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.heads = heads
        _initialise(self)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        x_BTE = self.embeddings(x_BTD) * mask_BT[..., None]
        turn = rotary(x_BTE.shape[1], x_BTE.shape[2] // self.heads, x_BTE.device, x_BTE.dtype)
        for layer in self.encoder:
            x_BTE = layer(x_BTE, mask_BT.bool()[:, None, None, :], turn)
        return self.last_layer_norm(x_BTE)


class Bert(nn.Module):
    """Linear to E and the layers of transformers' BERT, without position embeddings."""

    def __init__(self, width_in: int, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        self.embeddings = nn.Linear(width_in, width)
        config = BertConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=inner,
            hidden_dropout_prob=DROPOUT,
            attention_probs_dropout_prob=DROPOUT,
            layer_norm_eps=BERT_EPS,
        )
        config._attn_implementation = "sdpa"
        self.encoder = BertEncoder(config)
        _initialise(self)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        found: Any = self.encoder(self.embeddings(x_BTD), attention_mask=mask_BT.bool()[:, None, None, :])
        return found.last_hidden_state


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) and zero biases, which upstream's post_init puts over the Xavier weights."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)


class Dropout(nn.Dropout):
    """Of processes that share a pass each draws for all of its records, so that together they draw what one does."""

    def __init__(self, p: float, width: int) -> None:
        super().__init__(p)
        self.width, self.rows, self.records = width, list[int](), 0

    def of_pass(self, rows: list[int], records: int, device: torch.device) -> None:
        """Before each pass in training: which of its records this process has."""
        self.rows, self.records = rows, records
        if not rows:
            self(torch.empty(0, self.width, device=device))

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or len(self.rows) == self.records:
            return super().forward(input)
        return input * super().forward(input.new_ones(self.records, self.width))[self.rows]


class Head(nn.Module):
    """Dropout, Linear to the hidden layer, GELU, Linear to the outputs, behind one tower, one shared by two, or two."""

    def __init__(self, network: Network, widths: Sequence[int], outputs: int) -> None:
        """Args: widths: of the embeddings of each input."""
        super().__init__()
        ensure(len(widths) == 1 + network.pair, "a width per input")
        self.network, self.outputs = network, outputs
        self.ends = ["_a", "_b"] if network.net == "lucappi2" else [""]
        if network.net == "lucappi" and widths[0] != widths[1]:
            raise ValueError(f"lucappi has one tower, so both inputs need one width, not {widths[0]} and {widths[1]}; use lucappi2")
        pooled = 0
        for end, width in zip(self.ends, widths, strict=False):
            pooled += self._add_tower(end, width)
        if network.net == "lucappi":
            pooled *= 2
        self.dropout = Dropout(network.dropout, pooled)
        self.hidden_layer = nn.Linear(pooled, network.classifier)
        self.classifier = nn.Linear(network.classifier, outputs)

    def _add_tower(self, end: str, width: int) -> int:
        """Give the tower's parts their upstream names; return the width that leaves it."""
        network = self.network
        encoder: nn.ModuleList | None = None
        if network.layers:
            kind: Any = LucaTransformer if network.net == "luca_base" else Bert
            size = (network.width, network.layers, network.heads, network.inner)
            if network.act:
                encoder = nn.ModuleList([nn.Linear(width, network.width), nn.GELU(), kind(network.width, *size)])
            else:
                encoder = nn.ModuleList([kind(width, *size)])
            width = network.width
        setattr(self, f"matrix_encoder{end}", encoder)
        setattr(self, f"matrix_pooler{end}", pooling(network.pooling, width))
        steps: list[nn.Module] = []
        for out in network.fc:
            steps += [nn.Linear(width, out), nn.GELU()]
            width = out
        setattr(self, f"linear{end}", nn.ModuleList([nn.ModuleList(steps)]) if steps else None)
        return width

    def tower(self, end: str, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """One vector per sequence."""
        encoder, linear = getattr(self, f"matrix_encoder{end}"), getattr(self, f"linear{end}")
        if encoder is not None:
            for step in encoder[:-1]:
                x_BTD = step(x_BTD)
            x_BTD = encoder[-1](x_BTD, mask_BT)
        x_BD = getattr(self, f"matrix_pooler{end}")(x_BTD, mask_BT)
        for step in linear[0] if linear is not None else ():
            x_BD = step(x_BD)
        return x_BD

    def forward(self, *inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Logits (or values), `[B, C]`. Each input is rows `[B, T, D]` and mask `[B, T]`; of a pair, a comes first."""
        ends = self.ends * 2 if self.network.net == "lucappi" else self.ends
        vectors = [self.tower(end, *given) for end, given in zip(ends, inputs, strict=True)]
        return self.classifier(F.gelu(self.hidden_layer(self.dropout(torch.cat(vectors, dim=1)))))


def batch(matrices: Sequence[Tensor], *, zero_rows: bool) -> tuple[Tensor, Tensor]:
    """Pad matrices `[rows, D]` to `[B, T, D]` and mask `[B, T]`; with `zero_rows` upstream's two zero rows are added and count."""
    edge = int(zero_rows)
    lengths = torch.tensor([len(matrix) for matrix in matrices], device=matrices[0].device) + 2 * edge
    x_BTD = matrices[0].new_zeros(len(matrices), int(lengths.max()), matrices[0].shape[1], dtype=torch.float32)
    for i, matrix in enumerate(matrices):
        x_BTD[i, edge : edge + len(matrix)] = matrix
    mask_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device)[None] < lengths[:, None]
    return x_BTD, mask_BT.float()


BUFFERS = re.compile(r"(.*\.)?(loss_fct\.criterion\.(weight|pos_weight)|loss_fct\.(weight|pos_weight)|rot_emb\.inv_freq)")
"""May stand in a file and is no parameter."""


def load_head(folder: Path, network: Network) -> Head:
    """A head as LucaOne ships it, in evaluation mode; the widths and the number of outputs are those of the file.

    Raises:
        UserError: no weights, unreadable, or the parameters of another network.
    """
    path = weights_file(folder)
    state = {name: tensor.float() for name, tensor in read_state(path).items() if not BUFFERS.fullmatch(name)}
    if "classifier.weight" not in state:
        raise UserError(f"{path}: no classifier.weight, so this is no LucaOne head")
    ends = ["_a", "_b"] if network.net == "lucappi2" else [""]
    widths = [_width(state, end, network, path) for end in ends]
    head = Head(network, widths * 2 if network.net == "lucappi" else widths, len(state["classifier.weight"]))
    load_exactly(head, state, path)
    return head.eval()


def weights_file(folder: Path) -> Path:
    """The file that holds a head's weights. Raises UserError where there is none."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{folder}: no weights of a head ({', '.join(FILES)})")
    return path


def _width(state: dict[str, Tensor], end: str, network: Network, path: Path) -> int:
    """Width of the embeddings that a tower reads."""
    if network.layers and network.act:
        names = [f"matrix_encoder{end}.0.weight"]
    elif network.layers:
        names = [f"matrix_encoder{end}.0.embeddings.weight"]
    else:
        names = [f"matrix_pooler{end}.U", f"linear{end}.0.0.weight", "hidden_layer.weight"]
    for name in names:
        if name in state:
            return state[name].shape[1]
    raise UserError(f"{path}: no {names[0]}; the file is of another network than net={network.net}, layers={network.layers}")
