"""A server that speaks the part of the hub's HTTP that huggingface_hub calls here: create, preupload, commit, info, tree, resolve.

It keeps repositories in memory; every file goes up as a regular one, so git LFS and Xet, which the library sends large files by, are not
tried. Whoever asks for a private repository without the token gets 401, as from the hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

TOKEN = "hf_of_the_test"


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories: dict[str, dict[str, Any]] = {}
        """`models/org/name` -> private, commits (sha -> files by path) and the sha of main."""

    def environment(self, home: Path) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, code: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def found(self, name: str) -> dict[str, Any] | None:
        repository = self.server.repositories.get(name)
        hidden = repository is not None and repository["private"] and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if repository is None or hidden:
            self.answer(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return repository

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw, parts = self.rfile.read(length), urlparse(self.path).path.strip("/").split("/")
        if parts == ["api", "validate-yaml"]:
            self.answer(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"error": "Invalid credentials"})
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(raw)
            name = f"{asked.get('type') or 'model'}s/{asked.get('organization') or 'me'}/{asked['name']}"
            there = name in self.server.repositories
            self.server.repositories.setdefault(name, {"private": asked.get("visibility") == "private", "commits": {}, "main": None})
            self.answer(409 if there else 200, {"url": f"{self.server.url}/{name.removeprefix('models/')}", "id": name.partition("/")[2]})
        elif (repository := self.found("/".join(parts[1:4]))) is not None and parts[4] == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(raw)["files"]]
            self.answer(200, {"files": files})
        elif repository is not None:
            files = dict(repository["commits"].get(repository["main"], {}))
            for line in map(json.loads, raw.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            sha = hashlib.sha1(raw).hexdigest()
            repository["commits"][sha], repository["main"] = files, sha
            self.answer(200, {"commitUrl": f"{self.server.url}/{'/'.join(parts[2:4])}/commit/{sha}", "commitOid": sha})

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]
        if parts[0] == "api":
            if (repository := self.found("/".join(parts[1:4]))) is None:
                return
            sha = repository["main"] if len(parts) < 6 or parts[5] == "main" else parts[5]
            if sha not in repository["commits"]:
                self.answer(404, {"error": "Revision not found"}, X_Error_Code="RevisionNotFound")
                return
            files = repository["commits"][sha]
            if len(parts) > 4 and parts[4] == "tree":
                self.answer(200, [{"type": "file", "path": path, "size": len(data), "oid": "0" * 40} for path, data in files.items()])
            else:
                siblings = [{"rfilename": path} for path in files]
                self.answer(
                    200, {"id": "/".join(parts[2:4]), "sha": sha, "private": repository["private"], "tags": [], "siblings": siblings}
                )
            return
        parts = parts if parts[0] == "datasets" else ["models", *parts]
        repository = self.found("/".join(parts[:3]))
        if repository is None:
            return
        sha = repository["main"] if parts[4] == "main" else parts[4]
        content = repository["commits"].get(sha, {}).get("/".join(parts[5:]))
        if content is None:
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        else:
            self.answer(200, content, X_Repo_Commit=sha, ETag=f'"{hashlib.sha1(content).hexdigest()}"')

    do_HEAD = do_GET


@contextmanager
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
