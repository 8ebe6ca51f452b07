"""The fixed English text is cut by one rule, wherever it is measured."""

from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.errors import UserError
from eval.ask.retention import english_bits
from pretrain.bits import english_blocks, heldout_bits
from training.english import paragraphs, windows
from training.loss import score_in_head


@pytest.mark.parametrize("begins", [True, False])
def test_paragraphs_longer_than_a_window_cost_the_same_in_pretraining_and_in_evaluation(extended_folder, begins):
    """With a token that begins texts, and without one, where the end of a text begins the next."""
    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    model = AutoModelForCausalLM.from_pretrained(extended_folder).eval()
    model.config.max_position_embeddings = room = 40
    if not begins:
        tokenizer.bos_token = None
    parts = paragraphs("english")
    cut = [windows(tokenizer, part, room) for part in parts]
    assert max(map(len, cut)) > 1
    assert {row[0] for part in cut for row in part} == {tokenizer.bos_token_id if begins else tokenizer.eos_token_id}
    found = english_bits(model, tokenizer, parts)
    score_in_head(model, "chunked")
    theirs = heldout_bits(model, english_blocks(tokenizer, "english", room), [tokenizer.eos_token_id], 4)["english"]
    assert theirs["bits_per_letter"] == pytest.approx(found["bits_per_byte"], rel=1e-4)
    assert theirs["letters"] == sum(len(part.encode()) for part in parts)


def test_a_text_that_is_not_there_or_empty(tmp_path):
    with pytest.raises(UserError, match="english=latin: neither a file nor one of english"):
        paragraphs("latin", "english")
    (tmp_path / "empty.txt").write_text("\n\n \n")
    with pytest.raises(UserError, match="no text in it"):
        paragraphs(str(tmp_path / "empty.txt"))
