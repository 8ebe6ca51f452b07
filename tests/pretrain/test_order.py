"""The list of blocks that a run is: every block as often as it should be, whatever the shares, caps, epochs and seeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts.errors import UserError
from pretrain.order import BlockOrder, OrderedBlocks, Stretch, columns
from pretrain.recipe import Mixture

NAMES = ("dna", "protein", "text")


def order(counts: dict[str, int], mixture: Mixture | None = None, seed: int = 0, tokens: int = 100) -> BlockOrder:
    modalities = np.array([name for name, count in counts.items() for _ in range(count)])
    modalities = modalities[np.random.default_rng(1).permutation(len(modalities))]
    return BlockOrder(modalities, np.full(len(modalities), tokens), mixture or Mixture(), seed)


counts = st.fixed_dictionaries({name: st.integers(1, 40) for name in NAMES})


@given(counts, st.integers(0, 99), st.integers(1, 3))
def test_without_shares_an_epoch_is_every_block_once(blocks, seed, epochs):
    found = order(blocks, seed=seed)
    assert found.size == sum(blocks.values())
    for epoch in range(epochs):
        rows = [found[position] for position in range(epoch * found.size, (epoch + 1) * found.size)]
        assert sorted(rows) == list(range(found.size))
    if found.size > 20:
        first, second = ([found[position] for position in range(start, start + found.size)] for start in (0, found.size))
        assert first != second
        assert first != [order(blocks, seed=seed + 1)[position] for position in range(found.size)]


@given(counts, st.integers(0, 99))
def test_every_stretch_of_an_epoch_holds_its_share(blocks, seed):
    """Of every modality within one block of what its share says, up to any place: no run of DNA alone."""
    found = order(blocks, seed=seed)
    for position in range(found.size + 1):
        for name, count in found.consumed(position).items():
            assert abs(count - position * blocks[name] / found.size) <= len(NAMES)


@given(
    counts,
    st.fixed_dictionaries({name: st.floats(0.1, 5) for name in NAMES}),
    st.fixed_dictionaries({name: st.integers(1, 3) for name in NAMES}),
)
def test_shares_and_caps_are_exact_over_an_epoch(blocks, share, caps):
    found = order(blocks, Mixture(share=share, most_passes=caps))
    total = sum(share.values())
    whole = min(caps[name] * blocks[name] / (share[name] / total) for name in NAMES)
    for name in NAMES:
        assert found.quota[name] == pytest.approx(whole * share[name] / total, abs=1)
        assert found.quota[name] <= caps[name] * blocks[name]
    assert any(found.quota[name] >= caps[name] * blocks[name] - 1 for name in NAMES), "no cap binds, so the epoch could be larger"
    times = Counter(found[position] for position in range(found.size))
    for name in NAMES:
        of_name = [times[row] for row in found.rows[name].tolist()]
        assert sum(of_name) == found.quota[name]
        assert max(of_name) - min(of_name) <= 1, "no block is seen twice before all were seen"


@given(counts, st.integers(0, 300))
def test_counters_say_what_was_read(blocks, position):
    found = order(blocks, Mixture(share={"dna": 2, "text": 1}, most_passes={"text": 2.5}))
    read = Counter(next(name for name in NAMES if found[place] in found.rows[name]) for place in range(position))
    assert {name: count for name, count in found.consumed(position).items() if count} == dict(read)
    assert read["protein"] == 0
    assert found.tokens_between(0, position) == 100 * position


def test_token_shares_count_tokens_not_blocks():
    """Blocks of DNA are half padding here, so twice as many of them make an equal share."""
    modalities = np.array(["dna"] * 400 + ["text"] * 400)
    tokens = np.array([50] * 400 + [100] * 400)
    found = BlockOrder(modalities, tokens, Mixture(share={"dna": 1, "text": 1}), 0)
    assert found.quota == {"dna": 400, "text": 200}


def test_a_capped_modality_goes_on_where_it_stopped():
    found = order({"dna": 10, "text": 10}, Mixture(share={"dna": 1, "text": 4}))
    assert found.quota == {"dna": 2, "text": 10}
    dna = [row for position in range(5 * found.size) if (row := found[position]) in found.rows["dna"]]
    assert sorted(dna) == sorted(found.rows["dna"].tolist()), "five epochs of two blocks are each of the ten once"


def test_strange_mixtures_are_refused():
    with pytest.raises(UserError, match="hold no rna"):
        order({"dna": 3}, Mixture(share={"dna": 1, "rna": 1}))
    with pytest.raises(UserError, match="share and most_passes of dna must be positive"):
        order({"dna": 3}, Mixture(share={"dna": 0}))


def test_columns_and_items_are_those_of_the_shards(shards):
    from data_convert.corpus.shards import load_shards

    rows = load_shards(shards, "train")
    modalities, tokens, longest = columns(rows)
    assert modalities.tolist() == [row["modality"] for row in rows]
    assert tokens.tolist() == [sum(row["seq_lengths"]) for row in rows]
    assert longest.tolist() == [max(row["seq_lengths"]) for row in rows]
    order_of_blocks = BlockOrder(modalities, tokens, Mixture(), 3)
    found = OrderedBlocks([Stretch(0, rows, order_of_blocks, 128)], 2 * len(rows) + 1)
    assert len(found) == 2 * len(rows) + 1
    assert found[len(rows)]["input_ids"] == rows[order_of_blocks[len(rows)]]["input_ids"]
    with pytest.raises(IndexError):
        found[len(found)]
