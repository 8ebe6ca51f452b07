"""How a model answers where nobody says otherwise: greedily, whatever its base's generation_config.json holds.

A plain transformers pipeline and the endpoint follow that file; chat, the page, evaluation and `predict` would each follow
another part of it. So every folder that is written holds these settings and every model that is read gets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artefacts.errors import UserError

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
NO_SETTINGS = ("transformers_version", "_from_model_config")


def greedy_settings(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is kept of a generation_config.json, and what was left out of it because it would change answers.

    The ids that begin, end and pad a text are kept; `do_sample` is off.
    """
    ids = {name: found[name] for name in IDS if found.get(name) is not None}
    kept = {**ids, "do_sample": False}
    left_out = {name: value for name, value in found.items() if name not in NO_SETTINGS and value is not None and kept.get(name) != value}
    return kept, left_out


def load_causal(folder: str | Path, **options: Any) -> Any:
    """`AutoModelForCausalLM.from_pretrained`, the model's own generation settings replaced by the greedy ones."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    file = Path(folder) / "generation_config.json"
    if file.is_file():
        # transformers passes over a damaged one, and answers lose their ends
        found = GenerationConfig.from_pretrained(folder)
        for name in IDS:
            ids = getattr(found, name)
            if not all(isinstance(one, int) for one in (ids if isinstance(ids, list) else [] if ids is None else [ids])):
                raise UserError(f"{file}: {name} is no token id, nor a list of them; mend it, or fetch the model again")
    return answering_greedily(AutoModelForCausalLM.from_pretrained(folder, **options))


def answering_greedily(model: Any) -> Any:
    """The same model, its generation settings replaced."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(**greedy_settings(model.generation_config.to_diff_dict())[0])
    return model
