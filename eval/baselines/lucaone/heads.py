"""Heads on the LucaOne encoder: masked letters, one label per sequence, one label per token.

The two-step heads of LucaOne's downstream tasks (pooling, hidden layer of 128, output) are `eval/baselines/heads`; these here
are those of its Hugging Face package: pooling and one Linear. Pooling leaves padding out, which upstream does not.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput, TokenClassifierOutput
from transformers.utils.generic import can_return_tuple

from eval.baselines.lucaone.config import LucaOneConfig
from eval.baselines.lucaone.letters import CLS, PAD, SEP
from eval.baselines.lucaone.model import NORM_EPS, LucaOneModel, LucaOnePreTrainedModel, ValueAttention, mean_rows


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

    @can_return_tuple
    def forward(self, input_ids: Tensor | None = None, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        """Labels of -100 are left out of the loss. Other inputs: see `LucaOneModel`."""
        found = self.lucaone(input_ids, **inputs)
        logits_BTV = self.lm_head(found.last_hidden_state)
        loss = None if labels is None else F.cross_entropy(logits_BTV.flatten(0, 1).float(), labels.flatten())
        return MaskedLMOutput(loss=loss, logits=logits_BTV, hidden_states=found.hidden_states)


class _Classifier(LucaOnePreTrainedModel):
    """Encoder, dropout, and one Linear to the labels."""

    level: str

    def __init__(self, config: LucaOneConfig) -> None:
        """Raise ValueError where the folder or the call says the other task_level, as upstream's classes assert."""
        if config.task_level not in (None, self.level):
            raise ValueError(
                f"{type(self).__name__} is of task_level '{self.level}', but the folder or the call says '{config.task_level}'; "
                f"pass task_level='{self.level}', or take the other class"
            )
        config.task_level = self.level
        super().__init__(config)
        self.lucaone = LucaOneModel(config)
        self.pooler = self._pooler(config)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, len(config.id2label or {}))
        self.post_init()

    def _pooler(self, config: LucaOneConfig) -> nn.Module | None:
        return None


class LucaOneForSequenceClassification(_Classifier):
    """Logits of each sequence, `[B, labels]`; [CLS] and [SEP] are pooled with the letters, as the released heads were trained."""

    level = "seq_level"

    def _pooler(self, config: LucaOneConfig) -> nn.Module | None:
        return ValueAttention(config.hidden_size) if config.classifier_pooling_type == "value_attention" else None

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ValueAttention):
            module.reset()

    @can_return_tuple
    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, labels: Tensor | None = None, **inputs: Any
    ) -> SequenceClassifierOutput:
        """Labels: `[B]`, of multi_label `[B, labels]`. Other inputs: see `LucaOneModel`."""
        mask_BT = self.lucaone.mask(input_ids, attention_mask, inputs.get("inputs_embeds"))
        found = self.lucaone(input_ids, attention_mask=mask_BT, **inputs)
        x_BTD = found.last_hidden_state
        if self.pooler is not None:
            pooled_BD = self.pooler(x_BTD, mask_BT)
        else:
            pooled_BD = x_BTD[:, 0] if self.config.classifier_pooling_type == "cls" else mean_rows(x_BTD, mask_BT)
        logits_BC = self.classifier(self.dropout(pooled_BD))
        loss = None if labels is None else classification_loss(logits_BC, labels, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits_BC, hidden_states=found.hidden_states)


class LucaOneForTokenClassification(_Classifier):
    """Logits of every token, [CLS], [SEP] and padding included, `[B, T, labels]`."""

    level = "token_level"

    @can_return_tuple
    def forward(self, input_ids: Tensor | None = None, labels: Tensor | None = None, **inputs: Any) -> TokenClassifierOutput:
        """Labels: `[B, T]` with -100 for [CLS], [SEP] and padding, or `[B, T - 2]` of the letters alone with -100 for padding; of
        multi_label a 0 or 1 for each label in a last dimension. Other inputs: see `LucaOneModel`.

        Raises:
            ValueError: labels of another length, or of [CLS], [SEP] or padding.
        """
        found = self.lucaone(input_ids, **inputs)
        logits_BTC = self.classifier(self.dropout(found.last_hidden_state))
        loss = None
        if labels is not None:
            labels = of_tokens(labels, logits_BTC.shape[1], input_ids, several=self.config.head_task == "multi_label")
            kept_BT = labels != -100 if labels.ndim == 2 else (labels != -100).all(dim=-1)
            loss = classification_loss(logits_BTC[kept_BT], labels[kept_BT], self.config)
        return TokenClassifierOutput(loss=loss, logits=logits_BTC, hidden_states=found.hidden_states)


def of_tokens(labels: Tensor, tokens: int, ids_BT: Tensor | None, *, several: bool) -> Tensor:
    """Labels of every token, `[B, T]` or `[B, T, labels]`. See `LucaOneForTokenClassification.forward`."""
    if labels.shape[1] == tokens - 2:
        labels = F.pad(labels, (0, 0, 1, 1) if several else (1, 1), value=-100)
    if labels.ndim != 2 + several or labels.shape[1] != tokens:
        raise ValueError(
            f"labels of shape {list(labels.shape)} for {tokens} tokens: give one for each letter ({tokens - 2} with padding) "
            "or for each token, -100 where there is none" + (", and a last dimension of the labels" if several else "")
        )
    if ids_BT is not None:
        special_BT = torch.isin(ids_BT, torch.tensor((PAD, CLS, SEP), device=ids_BT.device))
        if bool((labels[special_BT] != -100).any()):
            raise ValueError("[CLS], [SEP] or padding has a label, so labels are shifted; give -100 there, or those of the letters alone")
    return labels


def classification_loss(logits_NC: Tensor, labels: Tensor, config: Any) -> Tensor:
    """The loss of `config.head_task`, or of what the labels tell as transformers does, under `config.classifier_loss_reduction`."""
    logits_NC, reduction = logits_NC.float(), config.classifier_loss_reduction
    task = config.head_task
    if task is None:
        task = "regression" if config.num_labels == 1 else "multi_label" if labels.is_floating_point() else "multi_class"

    def weight(given: Any) -> Tensor | None:
        return None if given is None else torch.tensor(given, dtype=torch.float32, device=logits_NC.device)

    if task == "regression":
        loss = F.l1_loss if config.classifier_loss_type == "mae" else F.mse_loss
        return loss(logits_NC, labels.float().view_as(logits_NC), reduction=reduction)
    if task == "binary_class" and config.num_labels == 2:
        # as with one output, a weighted record counts as one
        loss_N = F.cross_entropy(logits_NC, labels, weight=weight([1.0, config.classifier_pos_weight or 1.0]), reduction="none")
        return loss_N.mean() if reduction == "mean" else loss_N.sum() if reduction == "sum" else loss_N
    if task in ("binary_class", "multi_label"):
        pos_weight = weight(config.classifier_pos_weight)
        return F.binary_cross_entropy_with_logits(logits_NC, labels.float().view_as(logits_NC), pos_weight=pos_weight, reduction=reduction)
    return F.cross_entropy(logits_NC, labels, weight=weight(config.classifier_weight), reduction=reduction)
