"""Adapter folders as PEFT writes them."""

from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.folder import check_weights_intact

WEIGHTS = "adapter_model.safetensors"


def add_adapter(model: Any, adapter: Path, base: Path | str) -> Any:
    """The model with the adapter on it, unmerged, every one of its tensors in its place.

    PEFT itself warns of tensors that are missing and passes over those that find no place, so an adapter of another family
    would leave the base as it was.

    Args:
        base: the model's name, for the error.

    Raises:
        UserError: no safetensors, or an adapter of another base: other shapes, layers or names.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    path = adapter / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path}: no such file; pickled adapters are not read, save this one again as safetensors")
    check_weights_intact(path)
    misfit = f"{adapter}: does not fit {base}, so it was trained on another base"
    try:
        with safe_open(path, "pt") as tensors:
            found = set(tensors.keys())
        wrapped = PeftModel.from_pretrained(model, str(adapter))
    except (RuntimeError, ValueError, KeyError, SafetensorError) as error:  # other shapes, layers that are not there, damaged bytes
        raise UserError(f"{misfit}: {' '.join(str(error).strip().splitlines()[:2])}") from None
    wanted = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if missing := sorted(wanted - found):
        raise UserError(f"{misfit}: it lacks {len(missing)} of {len(wanted)} tensors, the first is {missing[0]}")
    if foreign := sorted(found - wanted):
        raise UserError(f"{misfit}: {len(foreign)} of its {len(found)} tensors have no place there, the first is {foreign[0]}")
    return wrapped
