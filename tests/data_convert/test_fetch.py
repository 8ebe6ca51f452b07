"""Fetching against a real HTTP server on this machine's loopback, with all that goes wrong on a network."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from holding import other
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from configs import CONFIGS
from data_convert.fetch.download import Client, RemoteFile, redirected, verify
from data_convert.fetch.fetch import FetchRecipe, fetch, preview
from data_convert.fetch.publishers import listing
from data_convert.fetch.sources import SOURCES, load_source, safe_name, source_of
from data_convert.tasks.cards import TaskCard, find_cards
from data_convert.tasks.convert import convert
from data_convert.tasks.task_recipe import TasksRecipe
from llama_gene import main

DATE = "Wed, 05 Aug 2026 07:28:00 GMT"
DATA = gzip.compress(random.Random(0).randbytes(300_000))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        answer = self.server.routes.get(self.path)
        if answer is None:
            self.reply(404, b"")
        else:
            answer(self)

    do_HEAD = do_GET

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        """Answer; with `cut`, close the connection after that many bytes of the body."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, *words: Any) -> None:
        pass


class Site(http.server.ThreadingHTTPServer):
    """A publisher: answers by path, and a note of what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes: dict[str, Callable[[Handler], None]] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def page(self, path: str, text: str | bytes, **headers: str) -> None:
        body = text.encode() if isinstance(text, str) else text
        self.routes[path] = lambda to: to.reply(200, body, headers)

    def asked(self, path: str) -> list[dict[str, str]]:
        return [headers for method, at, headers in self.seen if at == path and method == "GET"]


@pytest.fixture(scope="module", autouse=True)
def no_proxy() -> Iterator[None]:
    """A proxy of this machine's would answer in the site's place."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ranged(data: bytes, *, etag: str = '"one"', cuts: list[int] | None = None, ranges: bool = True, if_range: bool = True) -> Callable:
    """A file that a server gives whole or from an offset; each of `cuts` breaks one connection after so many bytes."""
    left = list(cuts or [])

    def answer(to: Handler) -> None:
        headers = {"ETag": etag, "Last-Modified": DATE}
        wanted, same = to.headers["Range"], to.headers.get("If-Range", etag) == etag
        cut = left.pop(0) if left and to.command == "GET" else None
        if ranges and wanted and (same or not if_range):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            to.reply(206, data[start:], headers, cut)
        else:
            to.reply(200, data, headers, cut)

    return answer


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def metalink(files: dict[str, tuple[str, int | None]]) -> str:
    items = "".join(
        f'<file name="{name}">{f"<size>{size}</size>" if size is not None else ""}<verification><hash type="md5">{checksum}</hash>'
        f'</verification><resources><url type="ftp">ftp://mirror.invalid/{name}</url></resources></file>'
        for name, (checksum, size) in files.items()
    )
    return f'<?xml version="1.0"?><metalink version="3.0" xmlns="http://www.metalinker.org/"><version>2026_04</version><files>{items}</files></metalink>'


def card(below: Path, site: Site, /, **values: Any) -> str:
    """A card of one's own, `toy`, for what the site publishes."""
    given = {
        "title": "Toy proteins",
        "licence": "CC-BY-4.0",
        "licence_url": "https://licence.invalid/",
        "citation": "Nobody et al.",
        "size": "tiny",
        "evidence": "made here",
        "kind": "metalink",
        "list_url": f"{site.url}list",
        "url": f"{site.url}files/",
        "files": ["toy.dat.gz"],
    }
    path = below / "toy.yaml"
    path.write_text(yaml.safe_dump(given | values), encoding="utf-8")
    return str(path)


def publish(folder: Path, site: Site, answer: Callable | None = None, data: bytes = DATA, size: int | None = -1) -> str:
    site.page("/list", metalink({"toy.dat.gz": (md5(data), len(data) if size == -1 else size)}))
    site.routes["/files/toy.dat.gz"] = answer or ranged(data)
    return card(folder, site)


def get(source: str, out: Path, *, overwrite: bool = False, **values: Any) -> None:
    settings: dict[str, Any] = {"wait": 0, "timeout": 5, "attempts": 3} | values
    fetch(FetchRecipe(sources=[source], out=out, **settings), overwrite=overwrite)


def left(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*")) if out.exists() else []


def test_a_file_arrives_with_its_manifest_and_is_kept_afterwards(tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    source = publish(tmp_path, site)
    get(source, tmp_path / "data")
    assert (tmp_path / "data/toy/toy.dat.gz").read_bytes() == DATA
    assert left(tmp_path / "data") == ["toy", "toy/manifest.json", "toy/toy.dat.gz"]
    printed = capsys.readouterr().out
    assert re.search(r"licence +CC-BY-4.0 \(https://licence.invalid/\)", printed)
    assert f"2026_04: 1 files to fetch, {len(DATA) / 1000:.1f} kB" in printed
    manifest = read_manifest(tmp_path / "data/toy", "fetch")
    assert manifest["source"]["licence"] == "CC-BY-4.0"
    assert manifest["source"]["version"] == "2026_04"
    file = {
        "path": "toy.dat.gz",
        "url": f"{site.url}files/toy.dat.gz",
        "checksum": f"md5:{md5(DATA)}",
        "bytes": len(DATA),
        "etag": '"one"',
        "last_modified": DATE,
    }
    assert manifest["files"] == [file]
    get(source, tmp_path / "data")
    assert len(site.asked("/files/toy.dat.gz")) == 1
    assert read_manifest(tmp_path / "data/toy", "fetch")["files"] == [file]


def test_a_file_that_differs_is_replaced_only_when_asked(tmp_path: Path, site: Site) -> None:
    source, target = publish(tmp_path, site), tmp_path / "data/toy/toy.dat.gz"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"toy.dat.gz: not what .* is now .*--overwrite"):
        get(source, tmp_path / "data")
    assert target.read_bytes() == b"mine"
    get(source, tmp_path / "data", overwrite=True)
    assert target.read_bytes() == DATA


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 120_000), max_size=6))
def test_broken_connections_are_continued_where_they_broke(tmp_path_factory: pytest.TempPathFactory, site: Site, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("broken")
    site.seen.clear()
    get(publish(folder, site, ranged(DATA, cuts=cuts)), folder / "data", attempts=2)
    assert (folder / "data/toy/toy.dat.gz").read_bytes() == DATA
    places = [sum(cuts[:n]) for n in range(len(cuts) + 1) if sum(cuts[:n]) < len(DATA)]
    asked = site.asked("/files/toy.dat.gz")
    assert [headers.get("Range") for headers in asked] == [None, *(f"bytes={place}-" for place in places[1:])]
    assert all(headers["If-Range"] == '"one"' for headers in asked[1:])


def test_a_server_without_ranges_begins_anew(tmp_path: Path, site: Site) -> None:
    get(publish(tmp_path, site, ranged(DATA, cuts=[1000, 2000], ranges=False)), tmp_path / "data")
    assert (tmp_path / "data/toy/toy.dat.gz").read_bytes() == DATA


def test_a_server_that_always_breaks_is_given_up_and_the_way_by_hand_named(tmp_path: Path, site: Site) -> None:
    source = publish(tmp_path, site, ranged(DATA, cuts=[1000] * 100, ranges=False))
    with pytest.raises(UserError, match=r"files/toy.dat.gz: the connection broke after 1000 of \d+ bytes \(3 attempts\)") as caught:
        get(source, tmp_path / "data")
    assert f"bring {site.url}files/toy.dat.gz here by hand as {tmp_path}/data/toy/toy.dat.gz" in str(caught.value)
    assert len(site.asked("/files/toy.dat.gz")) == 3


@pytest.mark.parametrize("if_range", [True, False], ids=["honours If-Range", "ignores If-Range"])
def test_a_file_that_changes_meanwhile_is_fetched_anew(tmp_path: Path, site: Site, if_range: bool) -> None:
    old, new = ranged(bytes(len(DATA)), etag='"old"', cuts=[50_000]), ranged(DATA, etag='"new"', if_range=if_range)
    first = [True]
    source = publish(tmp_path, site, lambda to: old(to) if first and first.pop() else new(to))
    get(source, tmp_path / "data")
    assert (tmp_path / "data/toy/toy.dat.gz").read_bytes() == DATA


def test_a_part_of_another_release_is_not_continued(tmp_path: Path, site: Site) -> None:
    older = gzip.compress(b"older" * 50_000, mtime=0)
    with pytest.raises(UserError):
        get(publish(tmp_path, site, ranged(older, cuts=[100, 0]), data=older), tmp_path / "data", attempts=1)
    assert (tmp_path / "data/toy/toy.dat.gz.part").stat().st_size == 100
    site.seen.clear()
    get(publish(tmp_path, site), tmp_path / "data")
    assert "Range" not in site.asked("/files/toy.dat.gz")[0]
    assert (tmp_path / "data/toy/toy.dat.gz").read_bytes() == DATA


def test_what_is_in_a_part_is_verified_too(tmp_path: Path, site: Site) -> None:
    source = publish(tmp_path, site, ranged(DATA, cuts=[5000]))
    with pytest.raises(UserError, match="broke"):
        get(source, tmp_path / "data", attempts=1)
    (tmp_path / "data/toy/toy.dat.gz.part").write_bytes(bytes(5000))
    with pytest.raises(UserError, match="damaged on the way"):
        get(source, tmp_path / "data")
    assert left(tmp_path / "data") == []
    get(source, tmp_path / "data")
    assert (tmp_path / "data/toy/toy.dat.gz").read_bytes() == DATA


def test_a_wrong_checksum_leaves_nothing_behind(tmp_path: Path, site: Site) -> None:
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    source = publish(tmp_path, site, ranged(wrong))
    with pytest.raises(UserError, match=f"files/toy.dat.gz: damaged on the way: its md5 is {md5(wrong)}, its publisher says {md5(DATA)}"):
        get(source, tmp_path / "data")
    assert left(tmp_path / "data") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DATA[:-9], "without its end"),
        (b"<html>log in</html>", "not gzip throughout"),
        (DATA + b"rubbish", "not gzip throughout"),
        (DATA[:5000] + bytes(50) + DATA[5050:], "not gzip throughout"),
        (b"", "an empty gzip file"),
    ],
)
def test_damaged_gzip_is_refused_even_with_the_right_checksum(tmp_path: Path, site: Site, data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=f"damaged at its publisher's, whose checksum it has: .*{message}"):
        get(publish(tmp_path, site, data=data), tmp_path / "data")
    assert left(tmp_path / "data") == []


@given(members=st.lists(st.binary(max_size=2000), min_size=1, max_size=5), padding=st.integers(0, 700))
def test_gzip_of_many_members_is_right(tmp_path_factory: pytest.TempPathFactory, members: list[bytes], padding: int) -> None:
    data = b"".join(map(gzip.compress, members)) + bytes(padding)
    path = tmp_path_factory.getbasetemp() / "many.gz"
    path.write_bytes(data)
    verify(path, RemoteFile("many.gz", "http://x/", f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)), unpack=True)


@pytest.mark.parametrize("length", [len(DATA) - 10, len(DATA) + 10])
def test_a_body_of_another_length_than_the_list_says_is_refused(tmp_path: Path, site: Site, length: int) -> None:
    other = (DATA + bytes(10))[:length]
    with pytest.raises(UserError, match=rf"{length} bytes, but its publisher's list says {len(DATA)}; not fetched"):
        get(publish(tmp_path, site, ranged(other)), tmp_path / "data")
    assert left(tmp_path / "data") == []


def test_without_any_length_the_checksum_finds_a_truncated_body(tmp_path: Path, site: Site) -> None:
    def answer(to: Handler) -> None:
        to.send_response(200)
        to.end_headers()
        to.wfile.write(DATA[:1000])
        to.close_connection = True

    with pytest.raises(UserError, match="damaged on the way"):
        get(publish(tmp_path, site, answer, size=None), tmp_path / "data")
    assert left(tmp_path / "data") == []


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(tmp_path: Path, site: Site) -> None:
    busy, file = [1, 2], ranged(DATA)
    source = publish(tmp_path, site, lambda to: to.reply(503, b"", {"Retry-After": "0"}) if busy and busy.pop() else file(to))
    get(source, tmp_path / "data", wait=1000)  # the server's own waiting time counts
    assert len(site.asked("/files/toy.dat.gz")) == 3
    del site.routes["/files/toy.dat.gz"]
    site.seen.clear()
    with pytest.raises(UserError, match=r"files/toy.dat.gz: the server answers 404"):
        get(source, tmp_path / "elsewhere")
    assert len(site.asked("/files/toy.dat.gz")) == 1
    assert left(tmp_path / "elsewhere") == []


def test_redirects_are_followed_and_continued(tmp_path: Path, site: Site) -> None:
    site.routes["/mirror/toy"] = ranged(DATA, cuts=[7000])
    source = publish(tmp_path, site, lambda to: to.reply(302, b"moved", {"Location": "../mirror/toy"}))
    get(source, tmp_path / "data")
    assert (tmp_path / "data/toy/toy.dat.gz").read_bytes() == DATA
    assert [headers.get("Range") for headers in site.asked("/mirror/toy")] == [None, "bytes=7000-"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "javascript:x", "file:x"])
def test_redirects_to_anything_but_http_are_refused(tmp_path: Path, site: Site, location: str) -> None:
    source = publish(tmp_path, site, lambda to: to.reply(302, b"", {"Location": location}))
    with pytest.raises(UserError, match="which is not http"):
        get(source, tmp_path / "data")
    assert left(tmp_path / "data") == []
    assert len(site.asked("/files/toy.dat.gz")) == 1


@pytest.mark.parametrize("location", ["http://[x/", "http://127.0.0.1:99999/", "http://127.0.0.1:x/"])
def test_redirects_to_no_address_are_refused(tmp_path: Path, site: Site, location: str) -> None:
    source = publish(tmp_path, site, lambda to: to.reply(302, b"", {"Location": location}))
    with pytest.raises(UserError, match="which is no address"):
        get(source, tmp_path / "data")


def test_a_redirect_loop_ends(tmp_path: Path, site: Site) -> None:
    source = publish(tmp_path, site, lambda to: to.reply(301, b"", {"Location": "/files/toy.dat.gz"}))
    with pytest.raises(UserError, match="more than 10 redirects"):
        get(source, tmp_path / "data")
    assert len(site.asked("/files/toy.dat.gz")) == 11


def test_https_stays_https() -> None:
    assert redirected("https://a.org/x/y", "../z") == "https://a.org/z"
    assert redirected("https://a.org/x", "//b.org/z") == "https://b.org/z"
    assert redirected("http://a.org/x", "https://b.org/z") == "https://b.org/z"
    assert redirected("http://a.org/x", "http://b.org/z") == "http://b.org/z"
    with pytest.raises(UserError, match=r"from https to 'http://b.org/z', which anyone on the way can change"):
        redirected("https://a.org/x", "http://b.org/z")


def test_a_silent_server_counts_as_broken(tmp_path: Path, site: Site) -> None:
    file = ranged(DATA)
    silent = [1]

    def answer(to: Handler) -> None:
        if silent:
            silent.pop()
            to.send_response(200)
            to.send_header("Content-Length", str(len(DATA)))
            to.send_header("ETag", '"one"')
            to.end_headers()
            to.wfile.write(DATA[:3000])
            to.wfile.flush()
            time.sleep(2)
        else:
            file(to)

    source = publish(tmp_path, site, answer)
    begun = time.monotonic()
    get(source, tmp_path / "data", timeout=0.2)
    assert time.monotonic() - begun < 1.5
    assert site.asked("/files/toy.dat.gz")[1]["Range"] == "bytes=3000-"
    assert (tmp_path / "data/toy/toy.dat.gz").read_bytes() == DATA


def test_too_little_disk_is_said_before_anything_is_fetched(tmp_path: Path, site: Site) -> None:
    with pytest.raises(UserError, match=r"to be fetched takes 1000\.0 TB, but only .* of disk are free"):
        get(publish(tmp_path, site, size=10**15), tmp_path / "data")
    assert site.asked("/files/toy.dat.gz") == []
    assert not (tmp_path / "data").exists()


def test_a_disk_that_fills_up_keeps_the_part(tmp_path: Path, site: Site) -> None:
    source = publish(tmp_path, site)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"toy.dat.gz.part: File too large after \d+ bytes; make room"):
            get(source, tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    begun = (tmp_path / "data/toy/toy.dat.gz.part").stat().st_size
    assert 0 < begun <= 100_000
    get(source, tmp_path / "data")
    assert site.asked("/files/toy.dat.gz")[-1]["Range"] == f"bytes={begun}-"
    assert (tmp_path / "data/toy/toy.dat.gz").read_bytes() == DATA


def test_ctrl_c_leaves_a_part_that_the_next_run_continues(tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = threading.Event()
    file = ranged(DATA)

    def answer(to: Handler) -> None:
        if waiting.is_set():
            file(to)
            return
        to.send_response(200)
        to.send_header("Content-Length", str(len(DATA)))
        to.send_header("ETag", '"one"')
        to.end_headers()
        to.wfile.write(DATA[:20_000])
        to.wfile.flush()
        waiting.set()
        time.sleep(30)

    source, out = publish(tmp_path, site, answer), tmp_path / "data"
    command = [sys.executable, str(CONFIGS.parent / "llama_gene.py"), "convert", "fetch", source, "--out", str(out)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert waiting.wait(30)
    part = out / "toy/toy.dat.gz.part"
    for _ in range(500):
        if part.exists() and part.stat().st_size == 20_000:
            break
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert left(out) == ["toy", "toy/toy.dat.gz.part", "toy/toy.dat.gz.part.json"]
    assert main(["convert", "fetch", source, "--out", str(out)]) == 0
    assert f"1 files to fetch, {(len(DATA) - 20_000) / 1000:.1f} kB" in capsys.readouterr().out
    assert site.asked("/files/toy.dat.gz")[-1]["Range"] == "bytes=20000-"
    assert left(out) == ["toy", "toy/manifest.json", "toy/toy.dat.gz"]


def test_offline_names_addresses_and_files(tmp_path: Path, site: Site) -> None:
    source = card(tmp_path, site, list_url="http://nowhere.invalid/list", url="http://nowhere.invalid/files/")
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"nowhere.invalid/list: no network, or no such server\. ") as caught:
        get(source, tmp_path / "data", wait=30)  # nothing was ever reached, so waiting is no help
    assert time.monotonic() - begun < 10
    assert f"bring by hand: http://nowhere.invalid/files/toy.dat.gz as {tmp_path}/data/toy/toy.dat.gz" in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_login_page_is_no_list(tmp_path: Path, site: Site) -> None:
    for kind in ("metalink", "hub", "github"):
        site.page("/list", "<html><p>Log in<br></html>")
        with pytest.raises(UserError, match="login page"):
            get(card(tmp_path, site, kind=kind), tmp_path / "data")
    site.page("/list", '<!DOCTYPE x [<!ENTITY a "aaaa">]><metalink>&a;</metalink>')
    with pytest.raises(UserError, match="document type"):
        get(card(tmp_path, site), tmp_path / "data")


def test_dry_run_needs_no_network(tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    source = publish(tmp_path, site)
    assert main(["convert", "fetch", source, "--out", str(tmp_path / "data"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for words in ("Toy proteins", "CC-BY-4.0", "Nobody et al.", "toy.dat.gz", f"{site.url}files/", f"{tmp_path}/data/toy"):
        assert words in printed
    assert site.seen == []
    assert not (tmp_path / "data").exists()


def git_name(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def test_a_hub_dataset_of_several_pages(tmp_path: Path, site: Site) -> None:
    small, large = b"sequence,label\nACGT,1\n", b"sequence,label\n" + b"ACGT,0\n" * 5000
    entry = {"type": "file", "path": "tf/0/train.csv", "size": len(large), "oid": "0" * 40}
    entry["lfs"] = {"oid": hashlib.sha256(large).hexdigest(), "size": len(large), "pointerSize": 130}
    site.page("/api/list", json.dumps([{"type": "directory", "path": "tf"}, entry]), Link=f'<{site.url}api/more>; rel="next"')
    others = [{"type": "file", "path": name, "size": len(small), "oid": git_name(small)} for name in ("tf/0/test.csv", "tf/test.csv")]
    site.page("/api/more", json.dumps(others))
    site.page("/loop", "[]", Link=f'<{site.url}loop>; rel="next"')
    with pytest.raises(UserError, match="goes round in a circle"):
        get(card(tmp_path, site, kind="hub", list_url=f"{site.url}loop"), tmp_path / "data")
    site.routes |= {"/r/tf/0/train.csv": ranged(large), "/r/tf/0/test.csv": ranged(small)}
    source = card(tmp_path, site, kind="hub", list_url=f"{site.url}api/list", url=f"{site.url}r/", files=["*/*/train.csv", "*/*/test.csv"])
    get(source, tmp_path / "data")
    assert (tmp_path / "data/toy/tf/0/train.csv").read_bytes() == large
    assert (tmp_path / "data/toy/tf/0/test.csv").read_bytes() == small
    assert not (tmp_path / "data/toy/tf/test.csv").exists()
    site.routes["/r/tf/0/test.csv"] = ranged(small.replace(b"1", b"0"))
    with pytest.raises(UserError, match="its git-sha1 is"):
        get(source, tmp_path / "other", only=["*/test.csv"])
    assert left(tmp_path / "other") == []


def test_a_github_folder_at_a_commit(tmp_path: Path, site: Site) -> None:
    text = b"# Cells\n"
    tree = [{"path": f"contents/{name}.md", "type": "blob", "sha": git_name(text), "size": len(text)} for name in ("m1", "m2")]
    tree += [{"path": "contents", "type": "tree", "sha": "0" * 40}, {"path": "contents/deep/m3.md", "type": "blob", "sha": git_name(text)}]
    site.routes |= {f"/raw/contents/{name}.md": ranged(text) for name in ("m1", "m2")}
    values = {"kind": "github", "list_url": f"{site.url}trees/abc123", "url": f"{site.url}raw/", "files": ["contents/*.md"]}
    site.page("/trees/abc123", json.dumps({"tree": tree, "truncated": False}))
    get(card(tmp_path, site, **values), tmp_path / "data")
    assert left(tmp_path / "data/toy/contents") == ["m1.md", "m2.md"]
    assert read_manifest(tmp_path / "data/toy")["source"]["version"] == "abc123"
    site.page("/trees/abc123", json.dumps({"tree": tree, "truncated": True}))
    with pytest.raises(UserError, match="too many files for one list"):
        get(card(tmp_path, site, **values), tmp_path / "more")


def test_a_zenodo_record(tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    files = [{"key": name, "size": len(DATA), "checksum": f"md5:{md5(DATA)}", "links": {}} for name in ("b_v0.zip", "a_v0.zip", "x.csv")]
    site.page("/api/records/123", json.dumps({"id": 123, "files": files}))
    site.routes |= {f"/records/123/files/{name}_v0.zip": ranged(DATA) for name in "ab"}
    values = {"kind": "zenodo", "list_url": f"{site.url}api/records/123", "url": f"{site.url}records/123/files/", "files": ["*_v0.zip"]}
    source = card(tmp_path, site, **values, folder="some/sets", then="unzip {folder}/*.zip -d {folder}")
    get(source, tmp_path / "data")
    folder = tmp_path / "data/some/sets"
    assert left(folder) == ["a_v0.zip", "b_v0.zip", "manifest.json"]
    assert read_manifest(folder)["source"]["version"] == "123"
    assert f"then: unzip {folder}/*.zip -d {folder}\n" in capsys.readouterr().out
    site.routes["/records/123/files/a_v0.zip"] = ranged(DATA[:-1] + b"!")
    with pytest.raises(UserError, match="its md5 is"):
        get(source, tmp_path / "other")


def plain(folder: Path, site: Site, data: bytes, **values: Any) -> str:
    site.routes |= {f"/files/{name}": ranged(data, etag=f'"{md5(data)}"') for name in ("toy.tar.gz", "more.txt")}
    return card(folder, site, kind="plain", list_url="", **({"files": ["toy.tar.gz"]} | values))


def noted(folder: Path) -> dict[str, str]:
    return {file["path"]: file["checksum"] for file in read_manifest(folder, "fetch")["files"]}


def seen(data: bytes) -> str:
    return f"seen-sha256:{hashlib.sha256(data).hexdigest()}"


def test_without_a_published_checksum_the_first_fetch_is_trusted_and_later_ones_are_held_to_it(
    tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = plain(tmp_path, site, DATA), tmp_path / "data/toy"
    get(source, tmp_path / "data")
    printed = capsys.readouterr().out
    assert printed.index("nothing vouches for the first download; its SHA-256 is noted") < printed.index("1 files to fetch, 300.")
    assert noted(folder) == {"toy.tar.gz": seen(DATA)}
    assert read_manifest(folder)["files"][0]["etag"] == f'"{md5(DATA)}"'
    get(source, tmp_path / "data")
    assert len(site.asked("/files/toy.tar.gz")) == 1
    assert noted(folder) == {"toy.tar.gz": seen(DATA)}
    # changed here, at the same length
    (folder / "toy.tar.gz").write_bytes(DATA[:-1] + b"!")
    with pytest.raises(UserError, match=r"toy.tar.gz: not what .* is now .*changed there or here.*--overwrite"):
        get(source, tmp_path / "data")
    # gone here, and another file there
    (folder / "toy.tar.gz").unlink()
    other = gzip.compress(b"another")
    plain(tmp_path, site, other)
    with pytest.raises(
        UserError, match=rf"toy.tar.gz: not what the first fetch noted.*it was {hashlib.sha256(DATA).hexdigest()}; not kept"
    ):
        get(source, tmp_path / "data")
    assert left(folder) == ["manifest.json"]
    get(source, tmp_path / "data", overwrite=True)
    assert noted(folder) == {"toy.tar.gz": seen(other)}
    # another length there
    plain(tmp_path, site, DATA)
    with pytest.raises(UserError, match=r"not what .* is now"):
        get(source, tmp_path / "data")
    get(source, tmp_path / "data", overwrite=True)
    assert noted(folder) == {"toy.tar.gz": seen(DATA)}


def test_a_broken_download_without_a_checksum_goes_on_too(tmp_path: Path, site: Site) -> None:
    source = plain(tmp_path, site, DATA)
    site.routes["/files/toy.tar.gz"] = ranged(DATA, cuts=[5000])
    with pytest.raises(UserError, match="broke"):
        get(source, tmp_path / "data", attempts=1)
    get(source, tmp_path / "data")
    assert site.asked("/files/toy.tar.gz")[-1]["Range"] == "bytes=5000-"
    assert noted(tmp_path / "data/toy") == {"toy.tar.gz": seen(DATA)}


def test_what_was_noted_outlives_a_choice_and_what_is_brought_by_hand_is_noted(tmp_path: Path, site: Site) -> None:
    source, folder = plain(tmp_path, site, DATA, files=["toy.tar.gz", "more.txt"]), tmp_path / "data/toy"
    get(source, tmp_path / "data", only=["*.gz"])
    (folder / "more.txt").write_bytes(DATA)
    get(source, tmp_path / "data", only=["*.txt"])
    assert noted(folder) == {"toy.tar.gz": seen(DATA), "more.txt": seen(DATA)}
    assert not site.asked("/files/more.txt")


def test_damage_is_found_without_a_checksum_where_a_file_shows_it(tmp_path: Path, site: Site) -> None:
    with pytest.raises(UserError, match=r"there being no checksum: a gzip file without its end; not kept"):
        get(plain(tmp_path, site, DATA[:-9]), tmp_path / "data")
    assert left(tmp_path / "data") == []


def test_cards_without_a_list_name_their_files(tmp_path: Path, site: Site) -> None:
    for values in ({"files": ["*.gz"]}, {"list_url": "none"}, {"folder": "../x"}, {"folder": "/etc"}):
        with pytest.raises(UserError, match=r"toy.yaml"):
            load_source(card(tmp_path, site, **({"kind": "plain", "list_url": ""} | values)))


NAMES = ["../x.csv", "a/../../x.csv", "/etc/x.csv", "a//x.csv", ".ssh/x.csv", "a\\..\\x.csv", "C:x.csv", "a/\nx.csv", "a/~/x.csv", "-x.csv"]


ANY = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3))
ITEM = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["file", "blob", "tree"]),
        "path": st.sampled_from(["a/b.csv", "A/b.csv", "a/../b", ""]) | ANY,
    },
    optional={
        "oid": st.just("0" * 40) | ANY,
        "sha": st.just("0" * 40) | ANY,
        "size": st.integers() | ANY,
        "lfs": st.fixed_dictionaries({"oid": st.just("0" * 64) | ANY}) | ANY,
    },
)
LISTS = {
    "hub": st.lists(ITEM, max_size=4).map(json.dumps) | ANY.map(json.dumps),
    "github": st.fixed_dictionaries({"tree": st.lists(ITEM, max_size=4) | ANY, "truncated": st.just(False) | ANY}).map(json.dumps),
    "zenodo": st.fixed_dictionaries(
        {
            "files": st.lists(
                st.fixed_dictionaries(
                    {"key": st.sampled_from(["a.zip", "A.zip", "../a", ".x"]) | ANY},
                    optional={"size": st.integers() | ANY, "checksum": st.just(f"md5:{'0' * 32}") | st.text(max_size=5) | ANY},
                ),
                max_size=4,
            )
            | ANY
        }
    ).map(json.dumps),
    "metalink": st.lists(st.tuples(st.sampled_from(["a.gz", "../a", "&amp;", "&"]), st.sampled_from(["0" * 32, "x", ""])), max_size=4).map(
        lambda items: metalink({name: (checksum, 1) for name, checksum in items})
    ),
}


@pytest.mark.parametrize("kind", LISTS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_list_gives_files_or_a_clear_error(tmp_path: Path, site: Site, kind: str, data: st.DataObject) -> None:
    site.page("/list", data.draw(LISTS[kind]))
    message, files = "", []
    try:
        files = listing(load_source(card(tmp_path, site, kind=kind, files=["**/*"])), Client(attempts=1, wait=0)).files
    except UserError as error:
        message = str(error)
    assert bool(files) != message.startswith(f"{site.url}list: ")
    assert all(".." not in file.name and len(file.checksum) > 32 for file in files)


VALUES = st.sampled_from(
    ["", "0", "5", "-1", "x", "bytes 5-9/10", "bytes */3", '"one"', 'W/"one"', "chunked", "gzip", "99999999999999999999", "é"]
)
HEADERS = st.sampled_from(
    ["Content-Length", "Content-Range", "ETag", "Last-Modified", "Transfer-Encoding", "Location", "Retry-After", "Link"]
)
ANSWER = st.tuples(
    st.sampled_from([200, 206, 302, 416, 503, 404, 100, 204, 304]),
    st.dictionaries(HEADERS, VALUES),
    st.sampled_from([b"0123456789", b"01234", b"56789"]) | st.binary(max_size=12),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(ANSWER, min_size=1, max_size=4))
def test_any_answers_give_the_file_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, site: Site, answers: list[Any]) -> None:
    right, target = b"0123456789", tmp_path_factory.mktemp("answers") / "toy"
    left = list(answers)

    def answer(to: Handler) -> None:
        status, headers, body = left.pop(0) if left else (404, {}, b"")
        headers = {name: "0" if name == "Retry-After" else value for name, value in headers.items()}
        to.reply(status, body, headers)

    site.routes["/toy"] = answer
    file = RemoteFile("toy", f"{site.url}toy", f"md5:{md5(right)}", None)
    message = ""
    try:
        Client(attempts=3, wait=0, timeout=0.3).download(file, target)
    except UserError as error:
        message = str(error)
    assert target.exists() != message.startswith(site.url)
    assert not target.exists() or target.read_bytes() == right


@pytest.mark.parametrize("name", NAMES)
def test_names_of_a_server_lead_nowhere_else(tmp_path: Path, site: Site, name: str) -> None:
    site.page("/list", json.dumps([{"type": "file", "path": name, "size": 1, "oid": git_name(b"x")}]))
    with pytest.raises(UserError, match="no plain file name; refused"):
        get(card(tmp_path, site, kind="hub", files=["**/*.csv"]), tmp_path / "data")
    assert left(tmp_path) == ["toy.yaml"]


@pytest.mark.parametrize("names", [["A.csv", "a.csv"], ["a", "a/b"], ["b/A", "B"], ["x", "x.part"], ["manifest.json"], ["Manifest.JSON"]])
def test_names_that_collide_are_refused(tmp_path: Path, site: Site, names: list[str]) -> None:
    site.page("/list", json.dumps([{"type": "file", "path": name, "size": 1, "oid": git_name(b"x")} for name in names]))
    with pytest.raises(UserError, match="collides with another file"):
        get(card(tmp_path, site, kind="hub", files=["**/*"]), tmp_path / "data")
    assert site.seen[-1][1] == "/list"


def test_what_is_in_the_way_is_named(tmp_path: Path, site: Site) -> None:
    source, out = publish(tmp_path, site), tmp_path / "data"
    out.write_text("a file")
    with pytest.raises(UserError, match=r"data/toy: cannot be written .*; choose another output"):
        get(source, out)
    out.unlink()
    (out / "toy/toy.dat.gz").mkdir(parents=True)
    with pytest.raises(UserError, match=r"toy.dat.gz: is no file"):
        get(source, out)
    (out / "toy/toy.dat.gz").rmdir()
    with other(out / "toy"), pytest.raises(UserError, match=r"data/toy: process .* is at work there"):
        get(source, out)
    get(source, out)


@given(name=st.text())
def test_a_safe_name_stays_below_its_folder(name: str) -> None:
    try:
        safe_name(name, "list")
    except UserError:
        return
    path = Path("/data/toy") / name
    assert path.resolve().is_relative_to("/data/toy")
    assert path != Path("/data/toy")
    assert name.isascii()


@pytest.fixture
def ncbi(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """NCBI's folders as their README describes them; the shipped card with this site's address."""
    given = yaml.safe_load((SOURCES / "refseq.yaml").read_text(encoding="utf-8"))
    given["list_url"] = given["url"] = f"{site.url}genomes/all/"
    (tmp_path / "refseq.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    monkeypatch.setattr("data_convert.fetch.sources.SOURCES", tmp_path)
    above = "/genomes/all/GCF/000/005/845/"
    links = ["../", "GCF_000005845.1_ASM584v1/", "GCF_000005845.2_ASM584v2/", "GCF_000005845.20_other/"]
    site.page(above, "<pre>" + "".join(f'<a href="{link}">{link}</a>  2024-01-01\n' for link in links) + "</pre>")
    folder, sums = f"{above}GCF_000005845.2_ASM584v2/", ""
    for ending in ("genomic.fna.gz", "genomic.gbff.gz"):
        data = gzip.compress(ending.encode())
        site.routes[f"{folder}GCF_000005845.2_ASM584v2_{ending}"] = ranged(data)
        sums += f"{md5(data)}  ./GCF_000005845.2_ASM584v2_{ending}\n{'0' * 32}  ./GCF_000005845.2_ASM584v2_cds_from_{ending}\n"
    site.page(f"{folder}md5checksums.txt", sums)
    return site


def test_an_assembly_is_found_by_its_accession(ncbi: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    get("refseq:GCF_000005845.2", tmp_path / "data")
    folder = tmp_path / "data/refseq/GCF_000005845.2"
    assert left(folder) == ["GCF_000005845.2_genomic.fna.gz", "GCF_000005845.2_genomic.gbff.gz", "manifest.json"]
    assert gzip.decompress((folder / "GCF_000005845.2_genomic.fna.gz").read_bytes()) == b"genomic.fna.gz"
    assert read_manifest(folder, "fetch")["source"]["version"] == "GCF_000005845.2_ASM584v2"
    printed = capsys.readouterr().out
    assert "it has no protein.faa.gz" in printed
    assert "unknown size" not in printed  # asked of the server, since NCBI's list has none


def test_an_assembly_that_is_not_there(ncbi: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder of GCF_000005845.3 there, only .*GCF_000005845.2_ASM584v2"):
        get("refseq:GCF_000005845.3", tmp_path / "data")
    for name in ("refseq", "refseq:GCF_000005845", "refseq:GCF_000005845.2/../x", "refseq:NC_000913.3"):
        with pytest.raises(UserError, match=r"write the assembly with its version, for example refseq:GCF_000005845.2"):
            get(name, tmp_path / "data")


def test_unknown_sources_and_patterns(tmp_path: Path, site: Site) -> None:
    with pytest.raises(UserError, match="source 'swisprot': no such card; did you mean 'swissprot'"):
        load_source("swisprot")
    with pytest.raises(UserError, match="write 'gue'"):
        load_source("gue:tf")
    with pytest.raises(UserError, match=r"only=.*: matches no file of toy, which has toy.dat.gz"):
        get(publish(tmp_path, site), tmp_path / "data", only=["*.fasta.gz"])
    with pytest.raises(UserError, match=r"nothing named 'other.gz' there any more"):
        get(card(tmp_path, site, files=["other.gz"]), tmp_path / "data")
    site.page("/list", metalink({"toy.dat.gz": ("soon", 5)}))
    with pytest.raises(UserError, match=r"no md5 checksum or size that can be used for 'toy.dat.gz'"):
        get(card(tmp_path, site), tmp_path / "data")
    for values in ({"url": "file:///etc/"}, {"url": f"{site.url}files"}, {"files": ["../x"]}, {"files": []}):
        with pytest.raises(UserError, match=r"toy.yaml"):
            load_source(card(tmp_path, site, **values))


SHIPPED = sorted(path.stem for path in (CONFIGS / "sources").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cards_are_whole(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = load_source(f"{name}:GCF_000005845.2" if name == "refseq" else name)
    found = source.card
    without_list = {"pip": (found.licence_url,), "plain": (found.url, found.licence_url)}
    ours = without_list.get(found.kind, (found.url, found.list_url, found.licence_url))
    assert all(urlsplit(url).scheme == "https" for url in ours)
    assert min(map(len, (found.title, found.licence, found.citation, found.size, found.evidence))) > 5
    preview(FetchRecipe(sources=[f"{name}:GCF_000005845.2" if name == "refseq" else name], out=Path("data")))
    assert found.licence in capsys.readouterr().out


BY_HAND = {"lucaone_type", "sim", "sim_opaque"}
"""Files of many publishers that go by other names, and those of `convert simulate`."""


@pytest.mark.parametrize("task", [task for task in find_cards(["*"]) if task.id.partition("/")[0] not in BY_HAND], ids=lambda task: task.id)
def test_every_card_of_a_benchmark_has_a_source_and_says_so_where_its_files_are_missing(task: TaskCard, tmp_path: Path) -> None:
    names = {source_of(file) for file in task.files.model_dump().values() if file is not None}
    assert len(names) == 1
    (name,) = names
    assert name is not None
    recipe = TasksRecipe(out=tmp_path / "out", tasks=[{"card": task.id, "source": tmp_path}])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match=rf"`llama-gene convert fetch {name} --out {tmp_path}` gets it"):
            convert(recipe)


def test_licences_that_forbid_commerce_are_said_before_anything_is_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    preview(FetchRecipe(sources=["nt-revised", "opi", "mol-instructions"], out=Path("data")))
    assert capsys.readouterr().out.count("no commercial use") == 3


def test_lists_are_bounded(site: Site, tmp_path: Path) -> None:
    site.page("/list", b" " * ((1 << 25) + 1))
    with pytest.raises(UserError, match="which is no list of files"):
        listing(load_source(card(tmp_path, site)), Client(attempts=1))
