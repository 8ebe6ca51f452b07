"""Which block is trained when: the blocks of the shards by modality, in shares (training/order.py says how)."""

from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from artefacts.errors import UserError
from pretrain.recipe import Mixture
from sequences.alphabets import TAGS
from tokenizer.encoders import read_encoders
from tokenizer.private import read_tokenizer
from training.batch import batch_of, documents_in
from training.loss import IGNORED
from training.order import Order


def collate(blocks: list[dict[str, Any]], unlearnt: NDArray[np.int64] | None = None) -> dict[str, Tensor]:
    """Blocks of one length to a batch; see `batch_of`.

    The first token of a document has no label (nothing before it in the block belongs to it), nor has padding, nor have
    the ids `unlearnt`. Positions begin anew at the padding too. `weights` are there where a block's shard has some.
    """
    rows, weighted = [], False
    for block in blocks:
        weighted = weighted or len(block.get("weights") or ()) > 0
        *documents, padding = documents_in(block)
        rows.append([*documents, padding._replace(start=len(padding.ids))])
    batch = batch_of(rows, 0, weighted)
    if unlearnt is not None and len(unlearnt):
        batch["labels"][torch.isin(batch["input_ids"], torch.from_numpy(unlearnt))] = IGNORED
    if weighted:  # the weights of a step are added up: what has no label has none
        batch["weights"][batch["labels"] == IGNORED] = 0
    return batch


def unlearnt_ids(folder: Path, kinds: list[str]) -> NDArray[np.int64]:
    """Ids that `no_loss_on` names: tags, and pieces of unknown bases (N alone; in proteins N is asparagine, and is learnt).

    Raises:
        UserError: N is asked for, but sequences of this tokenizer are not spelled in alphabets of their own.
    """
    found: list[int] = []
    tokenizer = read_tokenizer(folder)
    if "tags" in kinds:
        found += [number for tag in TAGS if (number := tokenizer.token_to_id(tag)) is not None]
    if "N" in kinds:
        try:
            encoder = read_encoders(tokenizer, ["dna"])["dna"]
        except UserError as error:
            raise UserError(f"{folder}: no_loss_on=[N] needs a tokenizer of `tokenizer extend`: {error}") from None
        longest = int(encoder.letters_of.max())
        # the piece N, and the longer ones that a run of it makes
        found += sorted({int(number) for length in range(1, 2 * longest + 1) for number in encoder.encode("N" * length)})
    return np.array(found, dtype=np.int64)


class BlockOrder(Order):
    """Row numbers of the shards in the order of training."""

    def __init__(
        self,
        modalities: NDArray[np.str_],
        tokens: NDArray[np.int64],
        mixture: Mixture,
        seed: int,
        begun: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            modalities: [blocks] of each row of the shards.
            tokens: [blocks] tokens of each row, without padding.
            begun: modality -> blocks that were read before.

        Raises:
            UserError: a share for a modality the shards do not hold, or a share or cap that is not positive.
        """
        rows = {name: np.flatnonzero(modalities == name) for name in sorted(set(modalities.tolist()))}
        self._tokens_of_row = tokens
        self.tokens = {name: int(tokens[found].sum()) for name, found in rows.items()}
        quota = _quota({name: len(found) for name, found in rows.items()}, self.tokens, mixture)
        super().__init__(rows, quota, seed, begun)

    def tokens_between(self, start: int, stop: int) -> int:
        """Tokens without padding in a stretch of the run."""
        return int(sum(self._tokens_of_row[self[position]] for position in range(start, stop)))


def _quota(blocks: Mapping[str, int], tokens: Mapping[str, int], mixture: Mixture) -> dict[str, int]:
    """Blocks of every modality in an epoch."""
    strange = sorted({*mixture.share, *mixture.most_passes} - blocks.keys())
    if strange:
        raise UserError(f"mixture: the shards hold no {', '.join(strange)}; they hold {', '.join(blocks)}")
    caps = {name: mixture.most_passes.get(name, 1.0) for name in blocks}
    wrong = [name for name, value in [*mixture.share.items(), *caps.items()] if value <= 0]
    if wrong:
        raise UserError(f"mixture: share and most_passes of {wrong[0]} must be positive; leave a modality out by not naming its share")
    if not mixture.share:
        return {name: round(caps[name] * count) for name, count in blocks.items()}
    total = sum(mixture.share.values())
    parts = {name: value / total for name, value in mixture.share.items()}
    whole = min(caps[name] * tokens[name] / part for name, part in parts.items())  # tokens of an epoch
    # rounded down where the cap binds: a cap is a cap
    return {
        name: max(1, min(round(whole * parts[name] * blocks[name] / tokens[name]), int(caps[name] * blocks[name]))) if name in parts else 0
        for name in blocks
    }


class Stretch(NamedTuple):
    """The blocks of a stage."""

    start: int
    """Position of its first block in the run."""
    shards: Any
    order: BlockOrder
    block_tokens: int


class OrderedBlocks(Dataset[dict[str, Any]]):
    """The blocks of a whole run, in order: stage after stage, each in an order of its own."""

    def __init__(self, stretches: Sequence[Stretch], length: int, unlearnt: NDArray[np.int64] | None = None) -> None:
        self.stretches, self.length, self.unlearnt = list(stretches), length, unlearnt

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, Any]:
        if not 0 <= position < self.length:
            raise IndexError(position)
        stretch = self.stretch(position)
        return stretch.shards[stretch.order[position - stretch.start]]

    def stretch(self, position: int) -> Stretch:
        """The stage that a position is in."""
        return self.stretches[bisect(self.stretches, position, key=lambda one: one.start) - 1]

    def _parts(self, start: int, stop: int) -> list[tuple[Stretch, int, int]]:
        """Stages that a stretch of the run touches, each with the positions of its own order."""
        ends = [*(one.start for one in self.stretches[1:]), self.length]
        cuts = [(one, max(start, one.start), min(stop, end)) for one, end in zip(self.stretches, ends, strict=True)]
        return [(one, first - one.start, last - one.start) for one, first, last in cuts if first < last]

    def tokens_between(self, start: int, stop: int) -> int:
        """Tokens without padding in a stretch of the run."""
        return sum(one.order.tokens_between(first, last) for one, first, last in self._parts(start, stop))

    def room_between(self, start: int, stop: int) -> dict[int, int]:
        """Length of a block -> tokens with padding, in a stretch of the run."""
        found = Counter[int]()
        for one, first, last in self._parts(start, stop):
            found[one.block_tokens] += (last - first) * one.block_tokens
        return dict(found)

    def consumed(self, position: int) -> dict[str, int]:
        """Blocks of every modality among the first `position` of the run."""
        found = {name: 0 for one in self.stretches for name in one.order.names}
        for one, _, last in self._parts(0, position):
            for name, count in one.order.consumed(last).items():
                found[name] += count
        return found

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """A batch; see `collate`."""
        return collate(rows, self.unlearnt)

    def position(self, rows: int) -> dict[str, Any]:
        """How many blocks, and how many of every modality."""
        return {"blocks": rows, "of_modality": self.consumed(rows)}


def columns(shards: Any) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.int64]]:
    """[blocks] Modality, tokens without padding, and longest document of every row, without reading the ids."""
    import pyarrow.compute as pc

    tokens, longest = [], []
    for chunk in shards.data.column("seq_lengths").chunks:
        ends = np.asarray(pc.list_value_length(chunk)).cumsum()
        starts = np.concatenate(([0], ends[:-1])).astype(np.int64)
        flat = np.asarray(chunk.flatten()).astype(np.int64)
        tokens.append(np.add.reduceat(flat, starts))
        longest.append(np.maximum.reduceat(flat, starts))
    return np.asarray(shards.data.column("modality").to_pylist()), np.concatenate(tokens), np.concatenate(longest)
