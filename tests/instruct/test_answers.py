"""The CPU path of the tuning loss equals TRL's own, value and gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from instruct.answers import IGNORED, AnswerTrainer


@pytest.mark.parametrize("items", [None, 11])
def test_loss_and_gradients_equal_trls(extended_folder: Path, tmp_path: Path, items: int | None) -> None:
    rows = [([5, 6, 7, 8, 9, 10], 4), ([11, 12, 13], 1), ([20, 21, 22, 23, 24], 3)]
    labels = [[IGNORED] * start + ids[start:] for ids, start in rows]
    data = Dataset.from_dict({"input_ids": [ids for ids, _ in rows], "labels": labels})
    trainer = AnswerTrainer(
        model=AutoModelForCausalLM.from_pretrained(extended_folder),
        args=SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=3, report_to="none"),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(extended_folder),
        peft_config=LoraConfig(
            r=4, target_modules=["q_proj", "up_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"
        ),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    count = None if items is None else torch.tensor(items)
    found = {}
    for name, loss_of in (("ours", AnswerTrainer.compute_loss), ("trl", SFTTrainer.compute_loss)):
        trainer.model.zero_grad()
        loss = loss_of(trainer, trainer.model, dict(batch), num_items_in_batch=count)
        loss.backward()
        gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
        found[name] = (loss.item(), gradients)
    assert found["ours"][0] == pytest.approx(found["trl"][0], rel=1e-5)
    assert found["ours"][1].keys() == found["trl"][1].keys()
    assert any("lora_B" in name for name in found["ours"][1])
    for name, gradient in found["ours"][1].items():
        torch.testing.assert_close(gradient, found["trl"][1][name], rtol=1e-4, atol=1e-6)
