"""Embeddings of sequences from any `AutoModel` folder: the last hidden state at the sequence's own tokens.

Only rows of the sequence are returned: neither special tokens nor tags, and none of the two all-zero rows that LucaOne's
batches put around every sequence and count as valid. Not supported: adapter folders (merge them first), remote code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.errors import UserError
from tokenizer.alphabets import ALPHABETS


def embed(model_folder: Path, sequences: Sequence[tuple[str, str]], batch_tokens: int = 8192) -> list[np.ndarray]:
    """Embed (modality, letters) pairs; see `Encoder`, which keeps the model for several calls."""
    return Encoder(model_folder, batch_tokens).embed(sequences)


class Encoder:
    """A frozen model in float32.

    A tokenizer that knows the tags gets `<dna>ACGT</dna>` and the rows between the tags are kept; any other tokenizer
    gets the bare letters and the rows of its special tokens are left out.
    """

    def __init__(self, folder: Path, batch_tokens: int = 8192) -> None:
        """Load tokenizer and model.

        Args:
            batch_tokens: tokens of a batch, padding included.

        Raises:
            UserError: the folder holds no model that AutoModel can read.
        """
        import torch
        from transformers import AutoModel, AutoTokenizer, logging

        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: no config.json, so no model folder; an adapter has to be merged into its base first")
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # it would report that the language-model head is not used, which is the intention
        self.model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).to(self.device).eval()
        logging.set_verbosity(verbosity)
        self.hidden_size: int = self.model.config.hidden_size
        self.folder, self.batch_tokens = folder, batch_tokens
        self._vocabulary = self.tokenizer.get_vocab()

    def embed(self, sequences: Sequence[tuple[str, str]]) -> list[np.ndarray]:
        """`[tokens, hidden]` in float32 for each sequence, in the order given.

        Raises:
            UserError: a sequence with more tokens than the model has positions, or with no token at all.
        """
        import torch

        encoded = [self._encode(modality, letters) for modality, letters in sequences]
        rows: list[np.ndarray] = [np.empty(0)] * len(sequences)
        with torch.inference_mode():
            for batch in self._batches([len(ids) for ids, _ in encoded]):
                width = max(len(encoded[i][0]) for i in batch)
                # the id of the padding is of no account: it stands to the right and is masked
                ids_BT = torch.zeros(len(batch), width, dtype=torch.long)
                mask_BT = torch.zeros(len(batch), width, dtype=torch.long)
                for place, i in enumerate(batch):
                    ids = encoded[i][0]
                    ids_BT[place, : len(ids)] = torch.tensor(ids)
                    mask_BT[place, : len(ids)] = 1
                states_BTD = self.model(input_ids=ids_BT.to(self.device), attention_mask=mask_BT.to(self.device)).last_hidden_state
                for place, i in enumerate(batch):
                    rows[i] = states_BTD[place, encoded[i][1]].float().cpu().numpy()
        return rows

    def _encode(self, modality: str, letters: str) -> tuple[list[int], list[int]]:
        """Ids, and the positions whose rows are kept."""
        alphabet = ALPHABETS[modality]
        if alphabet.open_tag in self._vocabulary:
            ids = self.tokenizer(alphabet.wrap(letters))["input_ids"]
            first, last = ids.index(self._vocabulary[alphabet.open_tag]), ids.index(self._vocabulary[alphabet.close_tag])
            kept = list(range(first + 1, last))
        else:
            encoding = self.tokenizer(letters, return_special_tokens_mask=True)
            ids = encoding["input_ids"]
            kept = [place for place, special in enumerate(encoding["special_tokens_mask"]) if not special]
        positions = getattr(self.model.config, "max_position_embeddings", None)
        if not kept or (positions is not None and len(ids) > positions):
            raise UserError(
                f"{self.folder}: a {modality} sequence of {len(letters)} letters has {len(ids)} tokens ({len(kept)} of its own), the model "
                f"has {positions} positions; choose an encoder with more, or lower the task's max_letters"
            )
        return ids, kept

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Indices, longest first, so that a batch holds little padding and memory trouble shows at once."""
        batch: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            if batch and (len(batch) + 1) * lengths[batch[0]] > self.batch_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch
