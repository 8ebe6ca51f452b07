"""The endpoint's gate: what passes is a question to the one model with a bounded answer; everything else is 4xx."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from instruct.talk.endpoint import MOST_BYTES, Gate

GOOD = {"model": "m", "messages": [{"role": "user", "content": "Name it"}]}
CONTEXT = 64


class Behind:
    """Stands in for transformers: keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        assert dict(scope["headers"])[b"content-length"] == str(len(body)).encode()
        self.asked.append(json.loads(body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture(scope="module")
def behind() -> Behind:
    return Behind()


@pytest.fixture(scope="module")
def gate(behind: Behind, extended_folder: Path) -> Gate:
    return Gate(behind, "m", AutoTokenizer.from_pretrained(extended_folder), CONTEXT, {"eos_token_id": 2})


def ask(gate: Gate, body: bytes, path: str = "/v1/chat/completions", method: str = "POST") -> tuple[int, Any]:
    sent: list[Any] = []
    waiting = [
        {"type": "http.request", "body": body[i : i + 1000], "more_body": i + 1000 < len(body)} for i in range(0, len(body) or 1, 1000)
    ]

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"content-length", b"1"), (b"host", b"x")]}
    asyncio.run(gate(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["messages", "prompt", "max_tokens", "temperature", "top_p", "stop", "seed", "stream", "frequency_penalty", "logit_bias", "model"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from(["/v1/chat/completions", "/v1/completions"]))
def test_whatever_is_asked_is_answered_in_4xx_or_bounded(gate: Gate, behind: Behind, changes: dict, path: str) -> None:
    behind.asked.clear()
    status, answer = ask(gate, json.dumps({**GOOD, "prompt": "Name it", **changes}).encode(), path)
    if status == 200:
        (asked,) = behind.asked
        assert 1 <= asked["max_tokens"] < CONTEXT
        assert "max_completion_tokens" not in asked
    else:
        assert (status, answer["error"]["code"], behind.asked) == (400, 400, [])
        assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON object in UTF-8"),
        (b"{", "no JSON object in UTF-8"),
        (b"\xff\xfe{}", "no JSON object in UTF-8"),
        (b"[" * 100_000, "no JSON object in UTF-8"),
        (b"[]", "the request: "),
        (b"{}", "messages: Field required"),
        (b'{"messages": []}', "messages: "),
        (b'{"messages": ["a"]}', "messages.0: "),
        (b'{"messages": [{"role": "robot", "content": "a"}]}', "messages.0.role: "),
        (b'{"messages": [{"role": "user"}]}', "messages.0.content: Field required"),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]}]}', "messages.0.content"),
        (b'{"messages": [{"role": "user", "content": "a \\ud800"}]}', "a text is no UTF-8"),
        (json.dumps({**GOOD, "max_tokens": -1}).encode(), "max_tokens: "),
        (json.dumps({**GOOD, "temperature": "hot"}).encode(), "temperature: "),
        (json.dumps({**GOOD, "temperature": 1e-300}).encode(), "temperature: 0, or from 0.01 to 2"),
        (json.dumps({**GOOD, "temperature": float("nan")}).encode(), "temperature: "),
        (json.dumps({**GOOD, "seed": -1}).encode(), "seed: "),
        (json.dumps({**GOOD, "stop": []}).encode(), "stop"),
        (json.dumps({**GOOD, "stop": ["a", ""]}).encode(), "stop"),
        (json.dumps({**GOOD, "frequency_penalty": -1}).encode(), "frequency_penalty: "),
        (json.dumps({**GOOD, "n": 5}).encode(), "n: "),
        (json.dumps({**GOOD, "logprobs": True}).encode(), "logprobs: "),
        (json.dumps({**GOOD, "logit_bias": {"5": 1}}).encode(), "logit_bias: not served here"),
        (json.dumps({**GOOD, "tools": [{}]}).encode(), "tools: not served here"),
        (json.dumps({**GOOD, "generation_config": "{}"}).encode(), "generation_config: not served here"),
    ],
)
def test_malformed_requests_say_what_is_wrong(gate: Gate, behind: Behind, body: bytes, words: str) -> None:
    behind.asked.clear()
    status, answer = ask(gate, body)
    assert (status, behind.asked) == (400, [])
    assert words in answer["error"]["message"]


def test_an_answer_has_the_room_that_is_left(gate: Gate, behind: Behind) -> None:
    tokenizer = gate.tokenizer
    behind.asked.clear()
    length = len(tokenizer.apply_chat_template(GOOD["messages"], add_generation_prompt=True)["input_ids"])
    for asked in ({"max_tokens": 10**12}, {"max_completion_tokens": 5, "max_tokens": 9}, {}, {"max_tokens": 3}):
        assert ask(gate, json.dumps(GOOD | asked).encode())[0] == 200
    assert [one["max_tokens"] for one in behind.asked] == [CONTEXT - length, 5, CONTEXT - length, 3]
    parts = [{"role": "user", "content": [{"type": "text", "text": "Name"}, {"type": "text", "text": "it"}]}]
    assert ask(gate, json.dumps({"messages": parts}).encode())[0] == 200
    status, answer = ask(gate, json.dumps({"prompt": "ACGT " * 90}).encode(), "/v1/completions")
    assert status == 400
    assert "shorten it" in answer["error"]["message"]
    assert ask(gate, b"x" * (MOST_BYTES + 1))[0] == 413


def test_nothing_else_is_reached(gate: Gate, behind: Behind) -> None:
    behind.asked.clear()
    for method, path in [
        ("POST", "/load_model"),
        ("POST", "/reset"),
        ("GET", "/docs"),
        ("DELETE", "/v1/models"),
        ("POST", "/v1/responses"),
    ]:
        status, answer = ask(gate, b"{}", path, method)
        assert status == 404
        assert "there are GET /v1/models, GET /health, POST /v1/chat/completions" in answer["error"]["message"]
    assert behind.asked == []
    assert [model["id"] for model in ask(gate, b"", "/v1/models", "GET")[1]["data"]] == ["m"]
    assert ask(gate, b"", "/v1/models/m", "GET")[1]["id"] == "m"
