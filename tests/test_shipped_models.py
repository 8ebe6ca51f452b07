"""Models in examples/: small, whole, of no machine's folders, and they answer in plain transformers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.folder import check_weights_intact, read_manifest
from data_convert.tasks.cards import load_card
from data_convert.tasks.prompts import render

MODELS = Path(__file__).parents[1] / "examples" / "models"
QUESTIONS = {
    # the major late promoter of adenovirus 2, -34 to +35: a TATA box and an initiator, in no file of GUE
    ("core-promoter", "gue/prom_core_all"): ("GGCTATAAAAGGGGGTGGGGGCGCGTTCGTCCTCACTCTCTTCCGCATCGCTGTCTGCGAGGGCCAGCTG", "promoter"),
}


def test_together_they_are_small() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) < 10e6
    assert {folder.name for folder in MODELS.iterdir()} == {model for model, _ in QUESTIONS}


@pytest.mark.parametrize(("model", "task"), QUESTIONS)
def test_a_shipped_model_is_whole_and_answers(model: str, task: str) -> None:
    folder, (letters, answer) = MODELS / model, QUESTIONS[model, task]
    manifest = read_manifest(folder, "exported")
    assert not Path(manifest["recipe"]["model"]).is_absolute()
    assert set(manifest["weights"]) == {"model.safetensors"}
    check_weights_intact(folder / "model.safetensors")
    assert not re.search(r"[ \"](/|~)\w", (folder / "README.md").read_text(encoding="utf-8"))
    tokenizer, network = (kind.from_pretrained(folder) for kind in (AutoTokenizer, AutoModelForCausalLM))
    card = load_card(task)
    question = render(card, {"sequence": letters}, card.prompts.eval)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = network.generate(**asked, max_new_tokens=8)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(written, skip_special_tokens=True).strip() == answer
