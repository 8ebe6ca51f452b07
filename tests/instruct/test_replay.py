"""Documents of pre-training between the records of tuning: their part of tokens and loss, and what they keep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from artefacts.errors import UserError
from data_convert.corpus.shards import load_shards
from instruct.tune.replay import kind_of
from instruct.tune.tune import TuneJob, tune
from tokenizer.private import read_tokenizer


@pytest.mark.parametrize("loss_per", ["token", "record", "task"])
@pytest.mark.parametrize("replay", [{"text": 0.1}, {"text": 0.3, "dna": 0.2}])
@pytest.mark.parametrize("packing", [False, True])
def test_documents_have_their_part_of_tokens_and_loss(make_tuning, text_shards, tmp_path, loss_per, replay, packing):
    job = TuneJob(make_tuning(tmp_path, shards=text_shards, replay=replay, loss_per=loss_per, packing=packing, epochs=60), 1)
    kinds, tokens, loss = {"records", *replay}, dict.fromkeys(["records", *replay], 0), dict.fromkeys(["records", *replay], 0.0)
    of_kind = {kind_of(modality): modality for modality in replay}
    for place in range(len(job.rows)):
        for record, document in zip(job.rows.rows[place], job.rows[place], strict=True):
            kind = of_kind.get(job.rows.encoded.tasks[record], "records")
            tokens[kind] += len(document.ids)
            loss[kind] += float(np.broadcast_to(document.weight, len(document.ids))[document.start :].sum())
    wanted = {**replay, "records": 1 - sum(replay.values())}
    for kind in kinds:
        assert tokens[kind] / sum(tokens.values()) == pytest.approx(wanted[kind], abs=0.05)
        assert loss[kind] / sum(loss.values()) == pytest.approx(wanted[kind], abs=0.05)
    assert job.scored_of.keys().isdisjoint(of_kind)


def test_documents_are_those_of_the_shards(make_tuning, text_shards, extended_folder, tmp_path):
    """Cut to the longest row where they are longer, and otherwise whole, whatever block they come from."""
    job = TuneJob(make_tuning(tmp_path, shards=text_shards, replay={"text": 0.9}, max_tokens=64, epochs=400), 1)
    encoded, tokenizer = job.rows.encoded, read_tokenizer(extended_folder)
    found = "".join(tokenizer.decode(ids.tolist(), skip_special_tokens=False) for ids in encoded.ids[len(encoded.records) :])
    for block in load_shards(text_shards, "train"):
        if block["modality"] == "text":
            start = 0
            for length in block["seq_lengths"]:
                piece = block["input_ids"][start : start + min(length, 64)]
                assert tokenizer.decode(piece, skip_special_tokens=False) in found
                start += length
    assert max(map(len, encoded.ids)) <= 64


def test_a_model_tuned_with_text_keeps_its_losses_and_says_so(make_tuning, text_shards, tmp_path):
    tune(make_tuning(tmp_path / "out", shards=text_shards, steps=3))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["records"]["replay of text"] > 0
    assert "digest" in manifest["inputs"]["shards"]
    assert {"sim/promoter", "sim/stability"} < set(manifest["counts"]["records"])


def test_what_cannot_be_replayed_is_refused(make_tuning, text_shards, tmp_path):
    with pytest.raises(UserError, match="holds no protein; it holds dna, text"):
        TuneJob(make_tuning(tmp_path, shards=text_shards, replay={"protein": 0.1}), 1)
    for wrong in ({"text": 0.0}, {"text": 0.6, "dna": 0.4}, {}):
        with pytest.raises(ValidationError, match="replay"):
            make_tuning(tmp_path, shards=text_shards, replay=wrong)
    with pytest.raises(UserError, match="nowhere"):
        TuneJob(make_tuning(tmp_path, shards=Path("nowhere")), 1)
