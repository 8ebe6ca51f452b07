"""LucaOne's classes under the names of its Hugging Face package, registered with the Auto classes on import.

from eval.baselines.lucaone.published import LucaGPLMForTokenClassification, LucaGPLMTokenizer
"""

from eval.baselines.lucaone.config import LucaOneConfig as LucaGPLMConfig
from eval.baselines.lucaone.heads import LucaOneForMaskedLM as LucaGPLMForMaskedLM
from eval.baselines.lucaone.heads import LucaOneForSequenceClassification as LucaGPLMForSequenceClassification
from eval.baselines.lucaone.heads import LucaOneForTokenClassification as LucaGPLMForTokenClassification
from eval.baselines.lucaone.model import LucaOneModel as LucaGPLMModel
from eval.baselines.lucaone.model import LucaOnePreTrainedModel as LucaGPLMPreTrainedModel
from eval.baselines.lucaone.register import register
from eval.baselines.lucaone.tokenizer import LucaGPLMTokenizer, LucaGPLMTokenizerFast

__all__ = [
    "LucaGPLMConfig",
    "LucaGPLMForMaskedLM",
    "LucaGPLMForSequenceClassification",
    "LucaGPLMForTokenClassification",
    "LucaGPLMModel",
    "LucaGPLMPreTrainedModel",
    "LucaGPLMTokenizer",
    "LucaGPLMTokenizerFast",
]
register()
