"""Matrices of a record's inputs: read from a store, or made by the encoders when they are needed and kept while memory lasts."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artefacts.errors import UserError
from eval.baselines.embedding.encoder import Encoder
from eval.baselines.embedding.extract import extract
from eval.baselines.embedding.inputs import Item
from eval.baselines.embedding.open import identity, open_encoder
from eval.baselines.embedding.recipe import Extent, Windows
from eval.baselines.embedding.store import StoreReader, digest
from eval.baselines.training.data import Example
from eval.baselines.training.recipe import TrainRecipe

GIGABYTE = 1 << 30


class Features:
    """`[rows, D]` for every input of a record."""

    def __init__(
        self, recipe: TrainRecipe, *, encoders: Sequence[str | Encoder] = (), embeddings: Sequence[Path] = (), complete: bool = True
    ) -> None:
        """Open the stores, or the encoders of the recipe (each once).

        Args:
            encoders: names or open encoders, in place of the recipe's, and of its stores.
            embeddings: a store, or one of each input, in place of the recipe's.
            complete: what a store lacks is refused by `check`, not made by the encoders.

        Raises:
            UserError: no such store or encoder, or a store that was made otherwise than the recipe says.
        """
        self.recipe, self.complete = recipe, complete
        self._names = names = recipe.per_input(list(encoders) or recipe.encoders)
        folders = recipe.per_input(list(embeddings) or ([] if encoders else recipe.embeddings))
        opened_stores = {folder: StoreReader(folder) for folder in dict.fromkeys(folders)}
        self.stores = [opened_stores[folder] for folder in folders]
        for store, name in zip(self.stores, names, strict=False):  # none where encoders are opened
            _check_settings(store, name, special=recipe.matrix_add_special_token)
        self.encoders: list[Encoder] = [] if self.stores else self._opened()
        self.limits = [length - 2 for length in recipe.per_input(recipe.max_length)]
        self.extents = [
            Extent(**{name: getattr(recipe, name) for name in Windows.model_fields}, truncation_seq_length=limit) for limit in self.limits
        ]
        self._kept: dict[tuple[int, str, str], Tensor] = {}
        self._room = int(recipe.cache_gb * GIGABYTE)

    def _opened(self) -> list[Encoder]:
        recipe = self.recipe
        opened = {
            name: name
            if isinstance(name, Encoder)
            else open_encoder(name, batch_tokens=recipe.batch_tokens, gpu=recipe.gpu_id, bf16=recipe.use_bf16)
            for name in dict.fromkeys(self._names)
        }
        return [opened[name] for name in self._names]

    def widths(self, example: Example) -> list[int]:
        """Width of each input's matrix."""
        return [encoder.width for encoder in self.encoders] or [matrix.shape[1] for (matrix,) in self.matrices([example])]

    def check(self, examples: Sequence[Example]) -> None:
        """Raise UserError where a store lacks one of them, or has it of another sequence, of other letters or in other windows."""
        for place, (store, extent) in enumerate(zip(self.stores, self.extents, strict=False)):
            inputs = [example.inputs[place] for example in examples]
            missing = [item.id for item in inputs if item.id not in store]
            if missing and not self.complete:
                print(f"{store.folder}: {len(missing)} embeddings are missing, which are made now and not kept", file=sys.stderr)
                self.encoders = self.encoders or self._opened()
            elif missing:
                raise UserError(
                    f"{store.folder}: {len(missing)} embeddings are missing, the first is that of '{missing[0]}'; embed them too"
                )
            for item in inputs:
                _check_extent(store, item, extent, special=self.recipe.matrix_add_special_token)

    def prepare(self, examples: Sequence[Example], label: str) -> None:
        """Embed all of them in long batches, so that the epochs need not; stops where memory for them is full."""
        for place in range(len(self.encoders)):
            self._make(place, [example.inputs[place] for example in examples], label)

    def matrices(self, examples: Sequence[Example]) -> list[list[Tensor]]:
        """For each input of the task the matrices of these records."""
        return [self._input([example.inputs[place] for example in examples], place) for place in range(len(self.limits))]

    def _input(self, inputs: list[Item], place: int) -> list[Tensor]:
        store = self.stores[place] if self.stores else None
        made = self._make(place, inputs if store is None else [item for item in inputs if item.id not in store], None)
        return [
            self._cut(store.read(item.id, digest(item.modality, item.letters)), place)
            if store is not None and item.id in store
            else made[item.modality, item.letters]
            for item in inputs
        ]

    def _make(self, place: int, inputs: Sequence[Item], label: str | None) -> dict[tuple[str, str], Tensor]:
        """Matrices by (modality, letters): those kept, and those made now. With a label, made ones that find no room are dropped."""
        if not inputs:
            return {}
        encoder = self.encoders[place]
        # a tower of its own may see the same letters with the same encoder and length
        slot = next(i for i in range(place + 1) if self.encoders[i] is encoder and self.limits[i] == self.limits[place])
        wanted = dict.fromkeys((item.modality, item.letters) for item in inputs)
        found = {key: self._kept[slot, *key] for key in wanted if (slot, *key) in self._kept}
        missing = [key for key in wanted if key not in found]
        for i, rows in extract(encoder, missing, self.extents[place], show=label) if missing else ():
            matrix = self._cut(rows.matrix(special=self.recipe.matrix_add_special_token), place)
            size = matrix.numel() * 4
            if size <= self._room:
                self._kept[slot, *missing[i]] = matrix
                self._room -= size
            elif label is not None:
                break
            found[missing[i]] = matrix
        return found

    def _cut(self, matrix: np.ndarray, place: int) -> Tensor:
        """The first rows, as the original's batches keep them."""
        if matrix.ndim != 2:
            raise UserError("the store holds vectors; heads need embedding_type=matrix")
        rows = self.limits[place] + 2 * self.recipe.matrix_add_special_token
        return torch.from_numpy(np.ascontiguousarray(matrix[:rows]))


def _check_settings(store: StoreReader, encoder: str | Encoder, *, special: bool) -> None:
    """Raise UserError where another encoder made a store, or other rows are in it. bf16 is a way to compute, and not compared."""
    noted = store.settings
    if noted is None:
        return
    name = encoder.name if isinstance(encoder, Encoder) else encoder
    if noted.get("encoder") != identity(name):
        raise UserError(
            f"{store.folder}: was made by another encoder ({str(noted.get('encoder'))[:60]}) than {name}; "
            "give the one that made it as encoders, or a folder that this one made"
        )
    for key, wanted in (("embedding_type", "matrix"), ("matrix_add_special_token", special)):
        if noted.get(key) != wanted:
            raise UserError(
                f"{store.folder}: was made with {key}={noted.get(key)}, not {wanted}; embed into another folder with {key}={wanted}"
            )


def _check_extent(store: StoreReader, item: Item, wanted: Extent, *, special: bool) -> None:
    """Raise UserError where a store saw a sequence otherwise than the recipe says; settings that made no difference to it may differ."""
    line = store.line(item.id, digest(item.modality, item.letters))
    if line is None or store.settings is None:
        return
    made = Extent.model_validate({name: store.settings[name] for name in Extent.model_fields if name in store.settings})
    differ = {name for name in Extent.model_fields if getattr(made, name) != getattr(wanted, name)}
    windows = {"trunc_type", "embedding_complete_seg_overlap", "embedding_fixed_len_a_time"}
    length = wanted.embedding_fixed_len_a_time
    in_windows = line["passes"] > 1 or (length is not None and line["rows"] - 2 * special > length)
    if made.truncate(item.letters) != wanted.truncate(item.letters) or (in_windows and differ & windows):
        there, here = (", ".join(f"{name}={getattr(extent, name)}" for name in sorted(differ)) for extent in (made, wanted))
        raise UserError(
            f"{store.folder}: '{item.id}' ({len(item.letters)} letters) was embedded with {there}, the recipe has {here}; embed into "
            "another folder as the recipe says, or change the recipe (max_length counts two special tokens; embedding_complete=true "
            "embeds all letters and cuts the rows)"
        )
