"""Any `AutoModel` as an encoder: the last hidden state at the sequence's own tokens.

Rows are those of the tokenizer's pieces, which are single letters for ESM-2 and longer ones for DNABERT-2 or a gene LLaMA. A
tokenizer that knows the tags gets `<dna>ACGT</dna>`, any other one the bare letters. Not supported: adapter folders (merge them
first), remote code.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from artefacts.errors import UserError
from artefacts.folder import read_json
from eval.baselines.embedding.encoder import Encoder
from sequences.alphabets import ALPHABETS
from tokenizer.generation import load_whole

PROBES = {"dna": "ACGTACGT", "rna": "ACGTACGT", "protein": "ACDEFGHIKLMNPQRSTVWY"}
OFFSET_POSITIONS = {"roberta": 2, "xlm-roberta": 2, "camembert": 2, "esm": 2}
"""Model types that number positions from past the padding id: so many of max_position_embeddings are never reached."""


def config_of(name: str | Path) -> dict[str, Any]:
    """config.json of a folder or hub id.

    Raises:
        UserError: there is none.
    """
    from transformers.utils import cached_file

    folder = Path(name)
    if folder.is_dir() or folder.is_absolute() or str(name).startswith("."):
        path: str | Path | None = folder / "config.json"
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: no config.json, so no model folder; an adapter has to be merged into its base first")
    else:
        try:
            path = cached_file(str(name), "config.json")
        except (OSError, ValueError) as error:
            raise UserError(f"{name}: neither a folder nor a model that can be fetched ({str(error).splitlines()[0]})") from None
    assert path is not None
    found: dict[str, Any] = read_json(Path(path), "fetch the model again")
    return found


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer of a folder or hub id, without remote code."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name, trust_remote_code=False)


class AutoEncoder(Encoder):
    """A model of the transformers library."""

    def __init__(self, name: str | Path, batch_tokens: int, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        """Load tokenizer and model.

        Raises:
            UserError: a model that AutoModel cannot read without remote code.
        """
        from transformers import AutoModel

        config = config_of(name)
        try:
            self.tokenizer: Any = load_tokenizer(name)
            # a model with remote code may call itself by a known type, and its own weights do not fit
            plain, no_rows = f"a plain {config.get('model_type')}", ("pooler", "inv_freq")
            self.model = load_whole(AutoModel, name, of=plain, free=no_rows, dtype=dtype, trust_remote_code=False)
        except UserError:
            raise
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{name}: not a model that can be read here ({str(error).splitlines()[0]}); code of a model is never run"
            ) from None
        self._opened(name, self.model.config.hidden_size, batch_tokens, device)
        positions = getattr(self.model.config, "max_position_embeddings", None)
        if positions is not None:
            around = max((len(before) + len(after) for before, after in self._frames.values()), default=0)
            self.longest = positions - OFFSET_POSITIONS.get(self.model.config.model_type, 0) - around

    def _opened(self, name: str | Path, width: int, batch_tokens: int, device: torch.device) -> None:
        """The model is put in place, and what stands around the sequences of each modality is asked of the tokenizer."""
        Encoder.__init__(self, batch_tokens, device)
        self.name, self.width = str(name), width
        self.model.to(device).eval()
        self._vocabulary = self.tokenizer.get_vocab()
        self._frames = {modality: self._frame(modality) for modality in PROBES if self._reads(modality)}

    def ids(self, modality: str, letters: str) -> np.ndarray:
        if modality not in self._frames:
            raise UserError(
                f"{self.name}: its tokenizer does not read {modality} (a letter of {PROBES[modality]} has no token); choose another one"
            )
        before, after = self._frames[modality]
        ids = self._tokens(modality, letters)
        return np.array(ids[len(before) : len(ids) - len(after)], dtype=np.int64)

    def frame(self, modality: str) -> tuple[list[int], list[int]]:
        return self._frames[modality]

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        return self.model(input_ids=ids_BT, attention_mask=mask_BT.long()).last_hidden_state

    def _tagged(self, modality: str) -> bool:
        return ALPHABETS[modality].open_tag in self._vocabulary

    def _tokens(self, modality: str, letters: str) -> list[int]:
        if self._tagged(modality):
            return self.tokenizer(ALPHABETS[modality].wrap(letters))["input_ids"]
        if modality != "protein" and not ("U" in self._vocabulary and "T" not in self._vocabulary):
            letters = letters.replace("U", "T")
        return self.tokenizer(letters)["input_ids"]

    def _reads(self, modality: str) -> bool:
        """False where a common letter is unknown: a tokenizer of DNA knows some residues by chance."""
        own = self.tokenizer(PROBES[modality], add_special_tokens=False)["input_ids"]
        return self._tagged(modality) or self.tokenizer.unk_token_id is None or self.tokenizer.unk_token_id not in own

    def _frame(self, modality: str) -> tuple[list[int], list[int]]:
        """What the tokenizer puts around a sequence, tags included."""
        ids = self._tokens(modality, PROBES[modality])
        if self._tagged(modality):
            alphabet = ALPHABETS[modality]
            first, last = ids.index(self._vocabulary[alphabet.open_tag]), ids.index(self._vocabulary[alphabet.close_tag])
            return ids[: first + 1], ids[last:]
        own = self.tokenizer(PROBES[modality], add_special_tokens=False)["input_ids"]
        start = next(place for place in range(len(ids)) if ids[place : place + len(own)] == own)
        return ids[:start], ids[start + len(own) :]
