"""One chat template everywhere, token by token; streams end where answers end; what is wrong is said."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, pipeline

from artefacts.errors import UserError
from eval.ask.answer import predictions
from instruct.talk.session import Sampling, Session
from tokenizer.conversations import answer_ids, conversations

SAMPLING = Sampling(max_new_tokens=12)
CONVERSATIONS = [
    [{"role": "user", "content": "Is this a promoter? <dna>ACGTNACGGATTACA</dna> Answer promoter or background."}],
    [
        {"role": "system", "content": "You know genes."},
        {"role": "user", "content": "naïve  cells, <protein>MKVLAAGW*</protein>\nand <rna>ACGT</rna>?"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "Why "},
    ],
]


@pytest.fixture(scope="module")
def session(talker: Path) -> Session:
    return Session(talker)


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["one turn", "three turns"])
def test_training_evaluation_chat_and_serving_see_the_same_tokens(session: Session, messages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = session.prompt(messages)
    trained = conversations(session.tokenizer, [messages], ["promoter"])[0][0]
    # as the served endpoint asks (transformers/cli/serving/chat_completion.py)
    processor: Any = AutoProcessor.from_pretrained(session.folder)
    served = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
    seen: dict[str, list[int]] = {}

    def keep(name: str) -> Any:
        forward = session.model.forward

        def kept(*arguments: Any, **named: Any) -> Any:
            seen.setdefault(name, named["input_ids"][0].tolist())
            return forward(*arguments, **named)

        return kept

    with monkeypatch.context() as patch:
        patch.setattr(session.model, "forward", keep("pipeline"))
        pipeline("text-generation", model=session.model, tokenizer=session.tokenizer)(messages, max_new_tokens=1, do_sample=False)
    with monkeypatch.context() as patch:
        patch.setattr(session.model, "forward", keep("evaluation"))
        record = {"id": "1", "task": "t", "split": "test", "kind": "binary", "label": "a", "choices": ["a", "b"], "prompt": messages}
        list(predictions(session.model, session.tokenizer, [record]))
    # evaluation reads the prompt together with the tree of candidate answers behind it
    assert chat == trained == served == seen["pipeline"] == seen["evaluation"][: len(chat)]
    written = session.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert chat.count(session.tokenizer.bos_token_id) == written.count(session.tokenizer.bos_token), "none but the template's"


def test_a_model_without_a_pad_token_has_the_same_probabilities(session: Session, tmp_path: Path) -> None:
    """As a plain base has none, tuned without being extended."""
    shutil.copytree(session.folder, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["pad_token"]
    path.write_text(json.dumps(config), encoding="utf-8")
    unpadded = Session(tmp_path / "model")
    labels = ["promoter", "background"]
    assert unpadded.probabilities(CONVERSATIONS[0], labels) == pytest.approx(session.probabilities(CONVERSATIONS[0], labels))


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["one turn", "three turns"])
def test_a_stream_grows_into_the_greedy_answer(session: Session, messages: Any) -> None:
    ids = torch.tensor([session.prompt(messages)])
    out = session.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
    whole = session.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    pieces = list(session.stream(messages, SAMPLING))
    assert pieces[-1] == session.answer(messages, SAMPLING) == whole
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(pieces))
    assert len(pieces) > 2


def test_closing_a_stream_stops_the_model(session: Session) -> None:
    before = threading.active_count()
    stream = session.stream(CONVERSATIONS[0], Sampling(max_new_tokens=400))
    next(stream)
    stream.close()  # waits for the model's thread; not stopped, it would go on to 400 tokens
    assert threading.active_count() == before


def test_an_error_while_answering_is_not_swallowed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(session.model, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        session.answer(CONVERSATIONS[0], SAMPLING)


def test_sampling_is_drawn_and_greedy_is_not(session: Session) -> None:
    torch.manual_seed(0)
    drawn = {session.answer(CONVERSATIONS[0], Sampling(12, temperature=1.5)) for _ in range(3)}
    assert len(drawn) == 3
    assert len({session.answer(CONVERSATIONS[0], SAMPLING) for _ in range(2)}) == 1


def test_the_context_is_the_limit(session: Session) -> None:
    """A prompt that just fits leaves room for one token; one more token is refused, and so is a label that does not fit."""
    free = session.context - len(session.prompt([{"role": "user", "content": ""}]))
    fitting = [{"role": "user", "content": "<dna>" + "N" * (free - 3) + "</dna>"}]
    assert len(session.prompt(fitting)) == session.context - 1
    assert isinstance(session.answer(fitting, SAMPLING), str)
    with pytest.raises(UserError, match=r"has 512 tokens, more than the model's 512; start over"):
        session.prompt([{"role": "user", "content": "<dna>" + "N" * (free - 2) + "</dna>"}])
    with pytest.raises(UserError, match="prompt and label have"):
        session.probabilities(fitting, ["promoter", "background"])


def test_sequences_of_an_answer_keep_their_tags(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so the next turn's prompt holds the very tokens that were written. The end of the turn is no part of the text."""
    text = "It is <dna>TATAATGC</dna>, or <protein>MKV*</protein>."
    ids = answer_ids(session.tokenizer, CONVERSATIONS[0], text)

    def generate(*, streamer: Any, **_: Any) -> None:
        streamer.put(torch.tensor([[0]]))  # the prompt
        for token in [*ids, session.tokenizer.pad_token_id]:
            streamer.put(torch.tensor([token]))

    monkeypatch.setattr(session.model, "generate", generate)
    pieces = list(session.stream(CONVERSATIONS[0], SAMPLING))
    assert pieces[-1] == text
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(pieces))
    turns = [*CONVERSATIONS[0], {"role": "assistant", "content": pieces[-1]}, {"role": "user", "content": "Why?"}]
    following = session.prompt(turns)
    assert ids in [following[start : start + len(ids)] for start in range(len(following))]


@pytest.mark.parametrize(
    ("content", "message"), [("stop", "the model's chat template refuses this conversation: not so"), ("a \ud800 b", "a text is no UTF-8")]
)
def test_what_cannot_be_made_into_tokens_is_refused(session: Session, monkeypatch: pytest.MonkeyPatch, content: str, message: str) -> None:
    refusing = "{% if messages[0].content == 'stop' %}{{ raise_exception('not so') }}{% endif %}"
    monkeypatch.setattr(session.tokenizer, "chat_template", refusing + session.tokenizer.chat_template)
    for ask in (session.prompt, lambda messages: conversations(session.tokenizer, [messages], ["a"])):
        with pytest.raises(UserError, match=message):
            ask([{"role": "user", "content": content}])
