"""LucaOne among the Auto classes of transformers."""

from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from eval.baselines.lucaone.config import LucaOneConfig
from eval.baselines.lucaone.heads import LucaOneForMaskedLM, LucaOneForSequenceClassification, LucaOneForTokenClassification
from eval.baselines.lucaone.model import LucaOneModel
from eval.baselines.lucaone.tokenizer import LucaGPLMTokenizer, LucaOneTokenizer


def register() -> None:
    """Make the Auto classes of transformers know LucaOne; calling it again changes nothing."""
    AutoConfig.register("lucaone", LucaOneConfig, exist_ok=True)
    AutoModel.register(LucaOneConfig, LucaOneModel, exist_ok=True)
    AutoModelForMaskedLM.register(LucaOneConfig, LucaOneForMaskedLM, exist_ok=True)
    AutoModelForSequenceClassification.register(LucaOneConfig, LucaOneForSequenceClassification, exist_ok=True)
    AutoModelForTokenClassification.register(LucaOneConfig, LucaOneForTokenClassification, exist_ok=True)
    AutoTokenizer.register(LucaOneConfig, LucaGPLMTokenizer, exist_ok=True)  # by the name in released folders
    AutoTokenizer.register(LucaOneConfig, LucaOneTokenizer, exist_ok=True)
