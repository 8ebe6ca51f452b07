"""What one client may ask of page and endpoint: under which names, how often, how much, and from where a browser may load."""

import ipaddress
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from artefacts.errors import UserError
from sequences.tables import whole_number

LOOPBACK = "127.0.0.1"
MINUTE = 60.0
BESIDE = 1 << 20
"""Bytes of a request beside the file that is uploaded with it."""
MOST_DROPPED = 32 << 20
"""Bytes of a refused request that are read before it is answered."""
POSTS_PER_QUESTION = 20
"""Requests of the page itself, such as uploads and the choice of an example, that go with one question."""
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; frame-ancestors 'none'"
"""The page loads from its own server alone, whatever a model's README names."""


class RateLimit:
    """At most so many calls a minute of each client."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._calls: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, client: str) -> None:
        """Count a call. Raises UserError with the seconds to wait where it is one too many; that call is not counted."""
        now = self._clock()
        with self._lock:
            self._calls = {name: calls for name, calls in self._calls.items() if calls[-1] > now - MINUTE}  # others have left
            calls = self._calls.get(client, deque[float]())
            while calls and calls[0] <= now - MINUTE:
                calls.popleft()
            if len(calls) >= self.per_minute:
                wait = int(calls[0] + MINUTE - now) + 1
                raise UserError(f"more than {self.per_minute} questions in a minute; ask again in {wait} s")
            calls.append(now)
            self._calls[client] = calls


class Hosts:
    """ASGI middleware: refuses requests under a foreign name, with which a page from elsewhere would reach this machine's servers.

    Known are addresses (no page can have one that is not its own), localhost, this machine's name, and `names`. What a browser
    sends for a page (`Origin`) has to come from under the same name, or from this machine.
    """

    def __init__(self, app: Any, names: Sequence[str] = ()) -> None:
        self.app = app
        self.names = {name.lower() for name in ("localhost", socket.gethostname(), *names)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {} if scope["type"] == "lifespan" else dict(scope["headers"])
        host, origin = (_name(b"//" + headers.get(b"host", b"")), _name(headers.get(b"origin", b"")))
        if scope["type"] == "lifespan" or (self._known(host) and (b"origin" not in headers or self._own(origin, host))):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await respond(send, 403, b"this server does not answer under that name")
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _known(self, name: str) -> bool:
        return name in self.names or _address(name) is not None

    def _own(self, origin: str, host: str) -> bool:
        address = _address(origin)
        return origin in (host, *self.names) or (address is not None and address.is_loopback)


def _name(url: bytes) -> str:
    """The host of a URL; empty where it has none."""
    try:
        return urlsplit(url.decode("latin-1")).hostname or ""
    except ValueError:
        return ""


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


class Guard:
    """ASGI middleware: refuses bodies above the upload limit and floods of requests, and sets the content policy."""

    def __init__(self, app: Any, most_bytes: int, per_minute: int) -> None:
        self.app, self.most_bytes = app, most_bytes + BESIDE
        self.limit = RateLimit(per_minute * POSTS_PER_QUESTION)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begun = False

        async def with_policy(message: Any) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", POLICY.encode())]
            await send(message)

        if scope["method"] == "POST" and (refused := self._refused(scope)):
            await read_body(receive, 0)
            await respond(with_policy, refused[0], refused[1].encode())
            return
        try:
            await self.app(scope, receive, with_policy)
        except LookupError as error:  # Gradio looks up what a request names, and a made-up name would be a 500
            if begun or scope["method"] != "POST":
                raise
            await respond(with_policy, 400, f"no such part of the page: {error}".encode())

    def _refused(self, scope: Any) -> tuple[int, str] | None:
        length = whole_number(dict(scope["headers"]).get(b"content-length", b"").decode("latin-1"))
        if length is None:
            return 411, "a request says how long it is"
        if length > self.most_bytes:
            return 413, f"more than {self.most_bytes:,} bytes"
        try:
            self.limit.check(scope["client"][0] if scope.get("client") else "")
        except UserError:
            return 429, "too many requests; wait a minute"
        return None


async def respond(send: Any, status: int, body: bytes, kind: bytes = b"text/plain; charset=utf-8") -> None:
    """A whole answer, by ASGI."""
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Any, most: int) -> bytes | None:
    """The body of a request, or None where it has more bytes.

    That is read all the same, up to a bound: a client that is still sending when the connection closes never sees the answer.
    """
    kept, read = list[bytes](), 0
    while read < MOST_DROPPED:
        message = await receive()
        read += len(message.get("body", b""))
        if read <= most:
            kept.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(kept) if read <= most else None
