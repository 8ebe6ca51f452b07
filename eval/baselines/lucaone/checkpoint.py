"""Loading LucaOne's weights: the Hugging Face layout, and the original `pytorch.pth`.

Files are read as safetensors or with `weights_only=True`; nothing in them is run. Every parameter must be there with its shape,
and nothing else may be, but for what the description names: rotary tables, the heads of pre-training and DDP's `module.` prefix.
"""

import json
import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from artefacts.errors import UserError
from artefacts.folder import check_weights_intact
from eval.baselines.lucaone.config import ONLY, LucaOneConfig
from eval.baselines.lucaone.heads import LucaOneForMaskedLM
from eval.baselines.lucaone.model import LucaOneModel, LucaOnePreTrainedModel
from eval.baselines.lucaone.register import register
from tokenizer.generation import check_weights, load_whole

FILES = ("model.safetensors", "pytorch.pth", "pytorch_model.bin")
DROPPED = re.compile(
    r"(.*\.)?rot_emb\.inv_freq|(contact_head|hidden_layer_list|hidden_act_list|classifier_dropout_list|classifier_list|output_list|loss_fct_list)\..*"
)
"""What an original checkpoint holds beside the encoder and the head of masked letters."""
ENCODER = ("lucaone.", "embeddings.", "encoder.")
"""Beginnings of the encoder's names; what else a Hugging Face file holds is a head."""
UNREADABLE = (SafetensorError, UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError)
"""What cut or damaged files raise."""
HEAD_WIDTH = 64
"""Of every released model; decides the number of heads where no config.json does."""


def load(folder: str | Path, *, masked_lm: bool = False, dtype: torch.dtype = torch.float32) -> LucaOnePreTrainedModel:
    """A LucaOne, LucaOne-Gene or LucaOne-Prot in evaluation mode, from a folder of either layout or a hub id.

    Args:
        masked_lm: with the head of masked letters.

    Raises:
        UserError: no weights, a file that cannot be read, parameters missing, left over or of a wrong shape.
    """
    register()
    folder = Path(folder)
    if not folder.is_dir():
        return _from_hub(str(folder), masked_lm, dtype)
    if not any((folder / name).is_file() for name in FILES) and (folder / "model.safetensors.index.json").is_file():
        return _from_hub(str(folder), masked_lm, dtype)  # sharded files come in the Hugging Face layout only
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{folder}: no weights ({', '.join(FILES)}); give the folder of a LucaOne checkpoint")
    state = read_state(path)
    original = any(name.startswith("layers.") for name in state)
    state = from_original(state) if original else {name: tensor for name, tensor in state.items() if not DROPPED.fullmatch(name)}
    config = _config(folder / "config.json", state, path, original=original)
    if not masked_lm:
        state = {name.removeprefix("lucaone."): tensor for name, tensor in state.items() if name.startswith(ENCODER)}
    with torch.device("meta"):
        model = (LucaOneForMaskedLM if masked_lm else LucaOneModel)(config)
    load_exactly(model, {name: tensor.to(dtype) for name, tensor in state.items()}, path)
    return model.eval()


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a pickle that holds nothing else; DDP's prefix removed.

    Raises:
        UserError: cut short, damaged, or with objects that are no tensors.
    """
    check_weights_intact(path)
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: these weights cannot be read ({reason}); fetch the file again") from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path}: holds no table of tensors; give the weights alone, a state dict")
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of the original layout -> names of the Hugging Face layout, as upstream's own conversion gives them."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if DROPPED.fullmatch(name):
            continue
        if name.startswith(("embed_tokens.", "embed_type.")):
            name = f"lucaone.embeddings.{name}"
        elif name.startswith(("layers.", "last_layer_norm.")):
            name = f"lucaone.encoder.{name}"
        elif name == "lm_head.weight":
            name = "lm_head.decoder.weight"
        renamed[name] = tensor
    if any(name.startswith("lm_head.") for name in renamed) and "lm_head.decoder.weight" not in renamed:
        renamed["lm_head.decoder.weight"] = renamed["lucaone.embeddings.embed_tokens.weight"].clone()  # tied, and so stored once
    return renamed


def load_exactly(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Put the tensors in place, all of them and no others.

    Raises:
        UserError: names and shapes of what is missing, left over or does not fit.
    """
    wanted = model.state_dict()
    both = wanted.keys() & state.keys()
    found = {"missing_keys": wanted.keys() - state.keys(), "unexpected_keys": state.keys() - wanted.keys()}
    shapes = [(name, state[name].shape, wanted[name].shape) for name in both if state[name].shape != wanted[name].shape]
    check_weights(path, {**found, "mismatched_keys": shapes}, "the model")
    model.load_state_dict(state, assign=True)


def _config(path: Path, state: dict[str, Tensor], weights: Path, *, original: bool) -> LucaOneConfig:
    """Sizes from the tensors, the number of heads from config.json: the original's says 36 layers where there are 20. So its
    other words are believed in no more than the tensors, which are exactly those of a plain encoder, leave open: the scale."""
    bare = {name.removeprefix("lucaone."): tensor for name, tensor in state.items()}
    layers = {int(found[1]) for name in bare if (found := re.match(r"encoder\.layers\.(\d+)\.", name))}
    try:
        vocabulary, width = bare["embeddings.embed_tokens.weight"].shape
        sizes: dict[str, Any] = {
            "type_vocab_size": len(bare["embeddings.embed_type.weight"]),
            "intermediate_size": len(bare["encoder.layers.0.fc1.bias"]),
        }
    except KeyError as missing:
        raise UserError(f"{weights}: no tensor {missing}, so these are no LucaOne weights") from None
    try:
        given = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        heads = given.get("num_attention_heads") or width // HEAD_WIDTH
        sizes |= {name: given[name] for name in (["embed_scale"] if original else ONLY) if name in given}
        return LucaOneConfig(vocab_size=vocabulary, hidden_size=width, num_hidden_layers=len(layers), num_attention_heads=heads, **sizes)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _from_hub(name: str, masked_lm: bool, dtype: torch.dtype) -> LucaOnePreTrainedModel:
    """A hub id, or a folder of sharded files; as exact as `load_exactly`."""
    kind: Any = LucaOneForMaskedLM if masked_lm else LucaOneModel
    try:
        return load_whole(kind, name, dtype=dtype).eval()
    except UserError:
        raise
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not Path(name).is_dir() and isinstance(error, (OSError, ValueError)):
            raise UserError(f"{name}: neither a folder nor a model that can be fetched ({reason})") from None
        raise UserError(f"{name}: these weights cannot be read ({reason}); fetch them again") from None
