"""LucaOne among the Auto classes of transformers."""

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
from eval.baselines.lucaone.tokenizer import LucaGPLMTokenizer, LucaGPLMTokenizerFast, LucaOneTokenizer


def register() -> None:
    """Make the Auto classes of transformers know LucaOne; calling it again changes nothing."""
    AutoConfig.register("lucaone", LucaOneConfig, exist_ok=True)
    AutoModel.register(LucaOneConfig, LucaOneModel, exist_ok=True)
    AutoModelForMaskedLM.register(LucaOneConfig, LucaOneForMaskedLM, exist_ok=True)
    AutoModelForSequenceClassification.register(LucaOneConfig, LucaOneForSequenceClassification, exist_ok=True)
    AutoModelForTokenClassification.register(LucaOneConfig, LucaOneForTokenClassification, exist_ok=True)
    for kind in (LucaGPLMTokenizer, LucaGPLMTokenizerFast, LucaOneTokenizer):  # by the names in folders
        AutoTokenizer.register(_ByName, kind, exist_ok=True)


class _ByName(LucaOneConfig):
    """Stands for no folder's configuration: of those registered, trust_remote_code=True would fetch the code of the folder's auto_map."""
