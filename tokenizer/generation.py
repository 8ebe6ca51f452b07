"""How models are opened, with all their weights, and how they answer: greedily, whatever a generation_config.json holds.

A plain transformers pipeline and the endpoint follow that file; chat, the page, evaluation and `predict` would each follow
another part of it. So every folder that is written holds these settings and every model that is read gets them.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.folder import check_weights_intact

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
    """A causal model with all its weights (`load_whole`), its own generation settings replaced by the greedy ones."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    file = Path(folder) / "generation_config.json"
    if file.is_file():
        # transformers passes over a damaged one, and answers lose their ends
        found = GenerationConfig.from_pretrained(folder)
        for name in IDS:
            ids = getattr(found, name)
            if not all(isinstance(one, int) for one in (ids if isinstance(ids, list) else [] if ids is None else [ids])):
                raise UserError(f"{file}: {name} is no token id, nor a list of them; mend it, or fetch the model again")
    return answering_greedily(load_whole(AutoModelForCausalLM, folder, **options))


def load_whole(kind: Any, name: str | Path, *, of: str = "its config.json", free: tuple[str, ...] = (), **options: Any) -> Any:
    """`kind.from_pretrained`, where every weight of the model is in its files, and no layer more.

    transformers starts what is missing at random, and says so in a warning. What else its files hold changes no answer: heads, and
    buffers that older versions saved.

    Args:
        of: what the weights should be those of.
        free: words in the names of weights that may be missing.

    Raises:
        UserError: the names of weights that are missing, left over or of another shape; weights that are not those that the
            folder's manifest notes. What else `from_pretrained` raises.
    """
    check_weights_intact(*Path(name).glob("*.safetensors"))
    with quiet():
        # other shapes are let through to be named
        model, found = kind.from_pretrained(name, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    # a layer more has names that differ from the model's by their number
    own = {re.sub(r"\d+", "0", key) for key in model.state_dict()}
    left = {key: re.sub(r"\d+", "0", key) for key in found["unexpected_keys"]}
    found["unexpected_keys"] = [key for key, bare in left.items() if {bare, bare.removeprefix(f"{model.base_model_prefix}.")} & own]
    found["missing_keys"] = [key for key in found["missing_keys"] if not any(word in key for word in free)]
    check_weights(name, found, of)
    return model


def check_weights(where: str | Path, found: Mapping[str, Any], of: str) -> None:
    """Refuse weights by what is missing, left over and of another shape (`missing_keys`, `unexpected_keys`, `mismatched_keys`)."""
    problems = [f"{key} is missing" for key in found["missing_keys"]]
    problems += [f"{key} is not known" for key in found["unexpected_keys"]]
    problems += [f"{key} has shape {list(there)}, not {list(here)}" for key, there, here in found["mismatched_keys"]]
    if problems:
        named = "; ".join(sorted(problems)[:4])
        raise UserError(f"{where}: {len(problems)} weights do not fit {of}: {named}; is it another model's file?")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the advice of transformers."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def answering_greedily(model: Any) -> Any:
    """The same model, its generation settings replaced."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(**greedy_settings(model.generation_config.to_diff_dict())[0])
    return model
