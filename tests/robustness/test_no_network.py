"""No command of the whole way looks for a network: every address but this machine's own is counted and refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from whole_way import COMMANDS, Runs

import llama_gene

HERE = ("127.0.0.1", "::1", "localhost", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_other_machine_is_asked(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    runs.make(name)
    asked: list[Any] = []

    def refused(of: str, original: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            address = arguments[1] if of == "connect" else arguments[0]
            host = address[0] if isinstance(address, tuple) else address
            if of == "connect" and arguments[0].family == socket.AF_UNIX:
                return original(*arguments, **named)
            if host not in (*HERE, None, socket.gethostname()):
                asked.append(address)
                raise OSError(f"no network here: {address}")
            return original(*arguments, **named)

        return call

    monkeypatch.setattr(socket.socket, "connect", refused("connect", socket.socket.connect))
    monkeypatch.setattr(socket, "getaddrinfo", refused("getaddrinfo", socket.getaddrinfo))
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    words = [word.replace(str(runs.folder / f"{name}-split"), str(tmp_path / "split")) for word in runs.words(name)]
    assert llama_gene.main([*words, "--out", str(tmp_path / name)]) == 0
    assert asked == []


def test_the_guard_sees_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two doors that libraries take: a name is looked up, an address is connected to."""
    seen: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: seen.append(address) or [])
    import httpx

    with pytest.raises(httpx.HTTPError):
        httpx.get("http://example.invalid/")
    assert seen
    assert seen[0][0] in ("example.invalid", b"example.invalid")


def test_libraries_report_no_use(tmp_path: Path) -> None:
    """In a process of its own, as a user's: trl tells of each trainer unless it is told not to before the hub's library is read."""
    refused = "import sys, llama_gene; code = llama_gene.main(['chat', '--model', sys.argv[1]]); import huggingface_hub.constants as hub; "
    script = f"{refused}print(code, hub.HF_HUB_DISABLE_TELEMETRY)"
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "True"], done.stderr
