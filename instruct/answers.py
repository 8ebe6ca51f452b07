"""TRL's trainer with a CPU path for the loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from trl import SFTTrainer

from artefacts.checkpoints import WholeCheckpoints

IGNORED = -100


class AnswerTrainer(WholeCheckpoints, SFTTrainer):
    """`SFTTrainer` that projects only the answer's positions to the vocabulary, also where there is no Triton; its checkpoints are whole.

    Away from Triton, TRL 1.16 scores every position and masks afterwards (`trl.trainer.utils.add_fused_lm_head`), several
    times over the vocabulary: with 33,600 ids and answers of 3 tokens in 80, a step took 8.5 s instead of 0.5 s on two CPU
    cores. Remove this class when TRL drops masked positions on CPU too.
    """

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Mean negative log-likelihood of the answer tokens, equal to TRL's own (by test)."""
        labels_BT: Tensor = inputs["labels"]
        if labels_BT.is_cuda or return_outputs or self.is_deepspeed_enabled or self.accelerator.num_processes > 1:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        causal = self.accelerator.unwrap_model(model).get_base_model()
        passed = {name: value for name, value in inputs.items() if name not in ("labels", "use_cache")}
        hidden_BTD = causal.base_model(**passed, use_cache=False).last_hidden_state[:, :-1]
        target_BT = labels_BT[:, 1:]
        answer_BT = target_BT != IGNORED
        logits_AV = causal.get_output_embeddings()(hidden_BTD[answer_BT]).float()
        count = answer_BT.sum() if num_items_in_batch is None else num_items_in_batch
        return F.cross_entropy(logits_AV, target_BT[answer_BT], reduction="sum") / count
