"""Loading heads as LucaOne ships them: `pytorch_model.bin`, `model.safetensors` or `pytorch.pth`, names as documented."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from artefacts.errors import UserError
from eval.baselines.heads.nets import Head
from eval.baselines.heads.options import Network
from eval.baselines.lucaone.checkpoint import FILES, load_exactly, read_state

BUFFERS = re.compile(r"(.*\.)?(loss_fct\.criterion\.(weight|pos_weight)|loss_fct\.(weight|pos_weight)|rot_emb\.inv_freq)")
"""May stand in a file and is no parameter."""


def load_head(folder: Path, network: Network) -> Head:
    """A head in evaluation mode; the widths and the number of outputs are those of the file.

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
