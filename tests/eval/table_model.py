"""Models that are a table: the next token's probabilities depend on the token before alone, and are given by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sequences.alphabets import PROTEIN
from tokenizer.base import Base
from tokenizer.encoders import read_encoders
from tokenizer.kmers import vocabulary_of
from tokenizer.saving import save_tokenizer
from tokenizer.vocabulary import PAD, extend

NEVER = -60.0


class TableModel:
    """An extended model folder, and the logits [V, V] that it has after each token."""

    def __init__(self, folder: Path, base: Base, dna: Tokenizer) -> None:
        self.folder = folder
        folder.mkdir()
        extended, _, _ = extend(base, dna, vocabulary_of(PROTEIN, 1))
        save_tokenizer(extended, folder, base.family, {**base.config, "pad_token": PAD})
        self.size = max(extended.get_vocab().values()) + 1
        self.encoder: Any = read_encoders(folder, ["dna"])["dna"]
        self.ids = dict(self.encoder.pieces)
        """Piece -> id."""
        self.table = torch.full((self.size, self.size), NEVER)

    def save(self, context: int = 512) -> Path:
        """The folder, with the table as it is now."""
        hidden = self.size + self.size % 2
        shape = {"hidden_size": hidden, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 8}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=self.size, max_position_embeddings=context, rms_norm_eps=1e-12, **shape))
        for name, parameter in model.named_parameters():
            parameter.data.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight.data[:, : self.size] = torch.eye(self.size)
        # the norm makes a one-hot vector as long as the root of its size
        model.lm_head.weight.data[:, : self.size] = self.table.T / hidden**0.5
        model.save_pretrained(self.folder)
        return self.folder

    def log_likelihood(self, letters: str) -> float:
        """By hand, token after token."""
        ids = [self.encoder.tags[0], *self.encoder.encode(letters).tolist()]
        logprobs = self.table.double().log_softmax(-1)
        return sum(float(logprobs[one, two]) for one, two in pairwise(ids))

    def by_letter(self, letters: str) -> list[float]:
        """By hand, piece after piece."""
        ids, found = [self.encoder.tags[0], *self.encoder.encode(letters).tolist()], []
        probabilities: Tensor = self.table.double().softmax(-1)
        word_of = {number: word for word, number in self.ids.items()}
        for before, number in pairwise(ids):
            word, reached = word_of[number], 0.0
            for end in range(1, len(word) + 1):
                begun = [number] if end == len(word) else [other for piece, other in self.ids.items() if piece.startswith(word[:end])]
                now = float(probabilities[before, begun].sum().log())
                found.append(now - reached)
                reached = now
        return found
