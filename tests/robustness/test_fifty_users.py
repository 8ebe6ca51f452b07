"""Fifty users ask the endpoint at once, others are slow or leave: nobody gets another's answer, memory and file handles stay flat.

Two questions each here, five minutes in `make torture`.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from ranks import ENVIRONMENT
from whole_way import LONG

pytest.importorskip("fastapi", reason="the endpoint needs transformers[serving]")
pytest.importorskip("openai", reason="the endpoint needs transformers[serving]")
USERS, SECONDS, TOKENS = 50, 300 if LONG else 0, 4
GROWTH = 150 << 20
"""Bytes that the endpoint may grow by once each user has asked: allocators keep some, a leak of answers would go on."""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def endpoint(extended_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, psutil.Process]]:
    """Port, and the process that answers."""
    model = tmp_path_factory.mktemp("users") / "gene"
    shutil.copytree(extended_folder, model)
    line = [sys.executable, "-P", "-m", "llama_gene", "serve", "--model", str(model), "--no-page", "endpoint_port=0", "engine=transformers"]
    process = subprocess.Popen(line, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = ""
    assert process.stdout is not None
    while "Ctrl-C" not in said and (piece := process.stdout.readline()):
        said += piece
    found = re.search(r"endpoint: http://127.0.0.1:(\d+)", said)
    assert found, said
    threading.Thread(target=lambda: list(process.stdout or []), daemon=True).start()
    yield int(found[1]), psutil.Process(process.pid).children(recursive=True)[-1]
    process.terminate()
    process.wait(60)


def ask(port: int, number: int) -> str:
    letters = "".join(random.Random(number).choices("ACGT", k=30))
    question = {"model": "gene", "max_tokens": TOKENS, "temperature": 0}
    body = json.dumps({**question, "messages": [{"role": "user", "content": f"{number}: <dna>{letters}</dna>?"}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with DIRECT.open(request, timeout=300) as answer:
        return str(json.loads(answer.read())["choices"][0]["message"]["content"])


def test_nobody_gets_another_s_answer_and_nothing_grows(endpoint: tuple[int, psutil.Process]) -> None:
    port, server = endpoint
    with ThreadPoolExecutor(USERS) as pool:
        alone = {number: ask(port, number) for number in range(8)}
        assert len(set(alone.values())) > 1, "answers that are all the same show no mix-up"
        first = list(pool.map(lambda number: ask(port, number), range(USERS)))
        assert [first[number] for number in alone] == list(alone.values())
        handles, size, until = server.num_fds(), server.memory_info().rss, time.monotonic() + SECONDS
        slow = [slowly(port) for _ in range(USERS // 2)]
        while True:
            assert list(pool.map(lambda number: ask(port, number), range(USERS))) == first
            leave(port)
            if time.monotonic() > until:
                break
    for client in slow:
        client.close()
    ends = time.monotonic() + 20
    while server.num_fds() > handles and time.monotonic() < ends:
        time.sleep(0.2)
    assert server.num_fds() <= handles, "a handle for each client that left"
    assert server.memory_info().rss - size < GROWTH


def slowly(port: int) -> socket.socket:
    """A client that says half of what it wants, and then no more."""
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\n{")
    return client


def leave(port: int) -> None:
    """Clients that ask and do not wait for the answer."""
    for number in range(5):
        body = json.dumps({"model": "gene", "stream": True, "messages": [{"role": "user", "content": f"Hi {number}"}]}).encode()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
