"""How a model answers where nobody says otherwise: greedily, whatever its base's generation_config.json holds.

A plain transformers pipeline and the endpoint follow that file; chat, the page, evaluation and `predict` would each follow
another part of it. So every folder that is written holds these settings and every model that is read gets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    from transformers import AutoModelForCausalLM

    return answering_greedily(AutoModelForCausalLM.from_pretrained(folder, **options))


def answering_greedily(model: Any) -> Any:
    """The same model, its generation settings replaced."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(**greedy_settings(model.generation_config.to_diff_dict())[0])
    return model
