"""What ships under configs/ can be read by the code that is to read it (task cards: data_convert/test_cards.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from artefacts.recipe import Recipe, load, read_yaml
from configs import CONFIGS
from data_convert.corpus.pack import PackRecipe
from eval.baselines.training.recipe import TrainRecipe
from instruct.tune.recipe import InstructRecipe
from pretrain.recipe import PretrainRecipe

KINDS: dict[str, type[Recipe]] = {"pretrain": PretrainRecipe, "instruct": InstructRecipe, "corpora": PackRecipe, "baselines": TrainRecipe}
FROM_THE_COMMAND_LINE = {"model", "shards", "records", "tokenizer", "data", "out"}
"""Paths of a user's own run, which a shipped recipe may leave to flags."""
SHIPPED = [(folder, path) for folder in KINDS for path in sorted((CONFIGS / folder).rglob("*.yaml"))]
DEEPSPEED = sorted((CONFIGS / "deepspeed").glob("*.json"))
TEMPLATES = sorted((CONFIGS / "chat").glob("*.jinja"))


@pytest.mark.parametrize(("folder", "path"), SHIPPED, ids=lambda value: value.stem if isinstance(value, Path) else value)
def test_recipes_are_valid(folder: str, path: Path) -> None:
    kind = KINDS[folder]
    given, _ = read_yaml(path.read_text(encoding="utf-8"), str(path))
    absent = {name for name, field in kind.model_fields.items() if field.is_required()} - given.keys()
    assert absent <= FROM_THE_COMMAND_LINE
    load(kind, path, [f"{name}=x" for name in absent])
    if isinstance(config := given.get("deepspeed"), str):
        assert config in {path.stem for path in DEEPSPEED}


EXAMPLES = [
    (kind, found)
    for page, kind in (("corpora", PackRecipe), ("pretraining", PretrainRecipe))
    for found in re.findall(r"^```yaml\n(.*?)^```", (CONFIGS.parent / "docs" / f"{page}.md").read_text(encoding="utf-8"), re.M | re.S)
]
"""Parts of a recipe in the documentation: a mapping of its fields, or a list of sources."""


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_examples_of_the_documentation_are_valid(kind: type[Recipe], text: str) -> None:
    given = yaml.safe_load(text)
    given = {"sources": given} if isinstance(given, list) else given
    absent = {name for name, field in kind.model_fields.items() if field.is_required()} - given.keys() - {"sources"}
    assert absent <= FROM_THE_COMMAND_LINE
    kind.model_validate(
        {**({"sources": [{"modality": "dna", "files": ["x"]}]} if kind is PackRecipe else {}), **dict.fromkeys(absent, "x"), **given}
    )


@pytest.mark.parametrize("path", DEEPSPEED, ids=lambda path: path.stem)
def test_deepspeed_configs_are_what_they_are_called(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    zero = config["zero_optimization"]
    assert path.stem == f"zero{zero['stage']}" + ("_offload" if "offload_optimizer" in zero else "")
    # the Trainer fills these in, and a figure of our own would contradict the recipe
    for name in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size"):
        assert config.get(name, "auto") == "auto"


def test_something_ships() -> None:
    assert [path.stem for path in DEEPSPEED] == ["zero0", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload"]
    assert [path.stem for path in TEMPLATES] == ["chatml", "llama2", "llama3"]


SYSTEM = {"role": "system", "content": "You know genes."}
CHAT = [
    {"role": "user", "content": "Does <dna>ACGT</dna> start a gene?"},
    {"role": "assistant", "content": "background"},
    {"role": "user", "content": "And <dna>TATA</dna>?"},
    {"role": "assistant", "content": "promoter"},
]
END = {"chatml": "<|im_end|>", "llama2": "</s>", "llama3": "<|eot_id|>"}


def render(path: Path, messages: list[dict[str, str]], *, prompt: bool) -> tuple[str, list[str]]:
    """The text, and the stretches that are marked as the assistant's own."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: Any = render_jinja_template(
        [messages],
        chat_template=path.read_text(encoding="utf-8"),
        return_assistant_tokens_mask=True,
        add_generation_prompt=prompt,
        bos_token="<s>",
        eos_token="</s>",
    )
    texts, spans = rendered
    return texts[0], [texts[0][start:end] for start, end in spans[0]]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_chat_templates_mark_exactly_the_answers_and_their_ends(path: Path) -> None:
    text, marked = render(path, CHAT, prompt=False)
    assert text.startswith("<s>")
    assert text.count("<s>") == 1  # the tokenizer must not add a second one
    for message in CHAT:
        assert text.count(message["content"]) == 1
    assert [span.lstrip(" ") for span in marked] == [f"{answer}{END[path.stem]}" for answer in ("background", "promoter")]
    assert text.rstrip().endswith(marked[-1])


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("system", [False, True])
def test_a_prompt_is_how_the_conversation_with_its_answer_begins(path: Path, turns: int, system: bool) -> None:
    before = [SYSTEM] if system else []
    prompt, marked = render(path, [*before, *CHAT[:turns]], prompt=True)
    full, _ = render(path, [*before, *CHAT[: turns + 1]], prompt=False)
    assert full.startswith(prompt)
    assert full[len(prompt) :].strip() == f"{CHAT[turns]['content']}{END[path.stem]}"
    assert len(marked) == turns // 2
    assert prompt.count("You know genes.") == int(system)
