"""A server that speaks as much of the Hub's protocol as reading one dataset needs: its files are those of a folder."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubStandIn(http.server.ThreadingHTTPServer):
    def __init__(self, root: Path, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.name, self.asked = root, name, list[str]()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: HubStandIn

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, root, name = unquote(urlsplit(self.path).path), self.server.root, self.server.name
        self.server.asked.append(path)
        if path.startswith(f"/datasets/{name}/resolve/{COMMIT}/"):
            self._file(root / path.partition(f"{COMMIT}/")[2])
        elif path.startswith(f"/api/datasets/{name}/tree/{COMMIT}"):
            below = root / path.partition(COMMIT)[2].lstrip("/")
            self._json([_entry(root, found) for found in sorted(below.iterdir())] if below.is_dir() else {}, 200 if below.is_dir() else 404)
        elif path in (f"/api/datasets/{name}", *(f"/api/datasets/{name}/revision/{known}" for known in ("main", COMMIT))):
            files = [{"rfilename": found.relative_to(root).as_posix()} for found in root.rglob("*") if found.is_file()]
            self._json({"id": name, "sha": COMMIT, "private": False, "gated": False, "tags": [], "siblings": files})
        else:
            self._answer(404)

    do_HEAD = do_GET

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._answer(404, **{"X-Error-Code": "EntryNotFound"})
        data = path.read_bytes()
        head = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        begin, _, end = (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")
        if not begin:
            return self._answer(200, data, **head)
        last = min(int(end or len(data)), len(data) - 1)
        self._answer(206, data[int(begin) : last + 1], **head, **{"Content-Range": f"bytes {begin}-{last}/{len(data)}"})

    def _json(self, found: Any, code: int = 200) -> None:
        self._answer(code, json.dumps(found).encode(), **{"Content-Type": "application/json"})

    def _answer(self, code: int, body: bytes = b"", **head: str) -> None:
        self.send_response(code)
        for key, value in {**head, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(root: Path, path: Path) -> dict[str, Any]:
    kind, size = ("directory", 0) if path.is_dir() else ("file", path.stat().st_size)
    return {"type": kind, "oid": "0" * 40, "size": size, "path": path.relative_to(root).as_posix()}
