"""Heads on the LucaOne encoder: masked letters, one label per sequence, one label per token.

The two-step heads of LucaOne's downstream tasks (pooling, hidden layer of 128, output) are `eval/baselines/heads`; these here
are those of its Hugging Face package: pooling and one Linear. Pooling leaves padding out, which upstream does not.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput, TokenClassifierOutput

from eval.baselines.lucaone.config import LucaOneConfig
from eval.baselines.lucaone.model import NORM_EPS, LucaOneModel, LucaOnePreTrainedModel
from eval.baselines.lucaone.pooling import ValueAttention, mean_rows


class MaskedLMHead(nn.Module):
    """Linear, GELU, LayerNorm, Linear to the vocabulary."""

    def __init__(self, config: LucaOneConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(F.gelu(self.dense(x_BTD)))) + self.bias


class LucaOneForMaskedLM(LucaOnePreTrainedModel):
    """Logits of every token over the 39 ids, `[B, T, 39]`."""

    def __init__(self, config: LucaOneConfig) -> None:
        super().__init__(config)
        self.lucaone = LucaOneModel(config)
        self.lm_head = MaskedLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head.decoder

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        """Labels of -100 are left out of the loss."""
        logits_BTV = self.lm_head(self.lucaone(input_ids, **inputs).last_hidden_state)
        loss = None if labels is None else F.cross_entropy(logits_BTV.flatten(0, 1).float(), labels.flatten())
        return MaskedLMOutput(loss=loss, logits=logits_BTV)


class LucaOneForSequenceClassification(LucaOnePreTrainedModel):
    """Logits of each sequence, `[B, labels]`; [CLS] and [SEP] are pooled with the letters, as the released heads were trained."""

    def __init__(self, config: LucaOneConfig) -> None:
        super().__init__(config)
        self.lucaone = LucaOneModel(config)
        self.pooler = ValueAttention(config.hidden_size) if config.classifier_pooling_type == "value_attention" else None
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 1)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ValueAttention):
            module.reset()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **inputs: Any
    ) -> SequenceClassifierOutput:
        mask_BT = input_ids != self.config.pad_token_id if attention_mask is None else attention_mask.bool()
        x_BTD = self.lucaone(input_ids, attention_mask=mask_BT, **inputs).last_hidden_state
        if self.pooler is not None:
            pooled_BD = self.pooler(x_BTD, mask_BT)
        else:
            pooled_BD = x_BTD[:, 0] if self.config.classifier_pooling_type == "cls" else mean_rows(x_BTD, mask_BT)
        logits_BC = self.classifier(self.dropout(pooled_BD))
        loss = None if labels is None else classification_loss(logits_BC, labels, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits_BC)


class LucaOneForTokenClassification(LucaOnePreTrainedModel):
    """Logits of every token, [CLS], [SEP] and padding included: label those -100. `[B, T, labels]`."""

    def __init__(self, config: LucaOneConfig) -> None:
        super().__init__(config)
        self.lucaone = LucaOneModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 1)
        self.post_init()

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **inputs: Any) -> TokenClassifierOutput:
        logits_BTC = self.classifier(self.dropout(self.lucaone(input_ids, **inputs).last_hidden_state))
        loss = None
        if labels is not None:
            kept_BT = labels != -100
            loss = classification_loss(logits_BTC[kept_BT], labels[kept_BT], self.config)
        return TokenClassifierOutput(loss=loss, logits=logits_BTC)


def classification_loss(logits_NC: Tensor, labels: Tensor, config: Any) -> Tensor:
    """The loss that `config.task_type` names; mean over the examples."""
    logits_NC = logits_NC.float()
    if config.task_type == "regression":
        return F.mse_loss(logits_NC.squeeze(-1), labels.float())
    if config.task_type in ("binary_class", "multi_label"):
        weight = None if config.classifier_pos_weight is None else torch.tensor(config.classifier_pos_weight, device=logits_NC.device)
        return F.binary_cross_entropy_with_logits(logits_NC, labels.float().view_as(logits_NC), pos_weight=weight)
    weights = None if config.classifier_weight is None else torch.tensor(config.classifier_weight, device=logits_NC.device)
    return F.cross_entropy(logits_NC, labels, weight=weights)
