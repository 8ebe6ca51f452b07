"""The page's limits: so many questions a minute of one client, bodies of known and bounded size."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts.errors import UserError
from instruct.talk.limits import BESIDE, POSTS_PER_QUESTION, Guard, Hosts, RateLimit


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from("ab")), max_size=40), st.integers(1, 5))
def test_never_more_than_the_limit_in_any_minute(steps: list[tuple[float, str]], most: int) -> None:
    """And never refused when fewer were let through in the minute before."""
    now, passed = 0.0, dict[str, list[float]](a=[], b=[])
    limit = RateLimit(most, clock=lambda: now)
    for wait, client in steps:
        now += wait
        recent = [then for then in passed[client] if then > now - 60]
        if len(recent) < most:
            limit.check(client)
            passed[client].append(now)
        else:
            with pytest.raises(UserError, match=f"more than {most} questions in a minute; ask again in"):
                limit.check(client)


def test_the_wait_that_is_named_is_enough_and_those_who_left_are_forgotten() -> None:
    now = 0.0
    limit = RateLimit(1, clock=lambda: now)
    limit.check("a")
    now = 20.5
    with pytest.raises(UserError, match="ask again in 40 s"):
        limit.check("a")
    now += 40
    limit.check("a")
    now += 100
    limit.check("b")
    assert set(limit._calls) == {"b"}


def receiver(chunks: list[bytes]) -> Any:
    """What a client still has to send; `chunks` empties as it is read."""

    async def receive() -> dict[str, Any]:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    return receive


def ask(guard: Guard, method: str = "POST", length: str | None = "10") -> tuple[int, dict[bytes, bytes]]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", length.encode())] if length is not None else []
    scope = {"type": "http", "method": method, "headers": headers, "client": ("10.0.0.1", 5)}
    asyncio.run(guard(scope, receiver([b"all of it"]), send))
    return sent[0]["status"], dict(sent[0]["headers"])


async def answering(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b"fine"})


def test_the_guard_knows_size_and_rate_and_sets_the_policy() -> None:
    guard = Guard(answering, most_bytes=1000, per_minute=1)
    assert ask(guard)[0] == 200
    assert ask(guard, length=str(1000 + BESIDE))[0] == 200
    assert ask(guard, length=str(1001 + BESIDE))[0] == 413
    assert ask(guard, length=None)[0] == ask(guard, length="many")[0] == 411
    status, headers = ask(guard, "GET", None)
    assert status == 200
    assert headers[b"x"] == b"y"
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert [ask(guard)[0] for _ in range(POSTS_PER_QUESTION)] == [200] * (POSTS_PER_QUESTION - 2) + [429] * 2
    assert ask(guard, "GET", None)[0] == 200


@pytest.mark.parametrize(("chunks", "left"), [(3, 0), (40, 8)])
def test_a_refused_body_is_read_before_the_answer_up_to_a_bound(chunks: int, left: int) -> None:
    waiting = [b"x" * (1 << 20)] * chunks
    still: list[int] = []

    async def send(message: Any) -> None:
        still.append(len(waiting))

    scope = {"type": "http", "method": "POST", "headers": [(b"content-length", b"%d" % (chunks << 20))], "client": ("10.0.0.1", 5)}
    asyncio.run(Guard(answering, most_bytes=1000, per_minute=1)(scope, receiver(waiting), send))
    assert still[0] == left


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        *(
            ("127.0.0.1:8000", origin, 200)
            for origin in ("http://127.0.0.1:8000", "http://localhost:3000", "http://[::1]", "https://gene.example")
        ),
        ("192.168.0.5:7860", "http://192.168.0.5:7860", 200),
        *(("127.0.0.1:8000", origin, 403) for origin in ("https://evil.example", "http://6.6.6.6", "null", "", "http://[", "file://")),
    ],
)
def test_a_page_of_elsewhere_asks_nothing(host: str, origin: str, status: int) -> None:
    """A browser sends a form or a plain text anywhere, and says from which page."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": [(b"host", host.encode()), (b"origin", origin.encode())]}
    asyncio.run(Hosts(answering, ["gene.example"])(scope, receiver([b""]), send))
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            (host, 200)
            for host in ("127.0.0.1", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST:80", "192.168.0.5", "gene.example", "gene.example:443")
        ),
        *(
            (host, 403)
            for host in ("evil.example", "evil.example:7860", "", "localhost.evil.example", "127.0.0.1.evil.example", "[", "a@b:c")
        ),
    ],
)
def test_requests_under_foreign_names_are_refused(host: str, status: int) -> None:
    """A page from elsewhere whose name was made to mean this machine sends its own name."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "headers": [(b"host", host.encode())]}
    asyncio.run(Hosts(answering, ["gene.example"])(scope, receiver([b""]), send))
    assert sent[0]["status"] == status
    if status == 403:
        asyncio.run(Hosts(answering)({**scope, "type": "websocket"}, receiver([b""]), send))
        assert sent[-1] == {"type": "websocket.close", "code": 1008}
