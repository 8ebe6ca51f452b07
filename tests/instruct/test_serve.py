"""`llama-gene serve`, as a user starts it, in a real browser and through the openai client: nothing leaves the machine."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from instruct.limits import POSTS_PER_QUESTION

pytest.importorskip("gradio", reason="the page needs gradio")
openai = pytest.importorskip("openai", reason="the endpoint's client")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SEQUENCE = "ACGTTGCAACGTTGCAACGTTGCAGATTACA"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Outside:
    """Stands in for all the world: a proxy that refuses and counts."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            caller, _ = self._socket.accept()
            with caller:
                self.calls.append(caller.recv(200))


@dataclass
class Served:
    """A running server."""

    page: str
    endpoint: str
    outside: Outside
    lines: list[str] = field(default_factory=list)


def records(folder: Path) -> Path:
    """Two held-out records of sim/promoter, as `convert tasks` lays them out."""
    from data_convert.cards import load_card
    from data_convert.prompts import choices, render

    card = load_card("sim/promoter")
    folder.mkdir()
    lines = []
    for number, letters in enumerate([SEQUENCE, SEQUENCE[::-1]]):
        prompt = [{"role": "user", "content": render(card, {"sequence": letters}, card.prompts.eval)}]
        answer = [{"role": "assistant", "content": "promoter"}]
        inputs = [{"name": "sequence", "modality": "dna", "letters": letters}]
        record = {"id": f"r{number}", "task": card.id, "split": "test", "kind": card.kind, "prompt": prompt, "completion": answer}
        lines.append({**record, "label": "promoter", "choices": choices(card), "inputs": inputs})
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "cards.json").write_text(json.dumps([card.model_dump(mode="json")]))
    return folder


@pytest.fixture(scope="module")
def served(extended_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    model = folder / "tiny gene"
    shutil.copytree(extended_folder, model)
    (model / "README.md").write_text(
        "---\nlicence: none\n---\n# A tiny card\n\n<script>window.bad = 1</script>\n![x](https://example.com/x.png)\n"
    )
    outside = Outside()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    environment |= dict.fromkeys([*names, *map(str.lower, names)], outside.address)
    environment |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "llama_gene", "serve", "--model", str(model), "--records", str(records(folder / "records"))]
    command += ["port=0", "endpoint_port=0", "longest_prompt=2000", "upload_mib=1", "max_new_tokens=8", "engine=transformers"]
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    found: dict[str, str] = {}
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if match := re.match(r"(page|endpoint): (\S+)", line):
            found[match[1]] = match[2]
        if line.startswith("Ctrl-C"):
            break
    assert set(found) == {"page", "endpoint"}, "".join(lines)[-3000:]
    # what is written later must not fill the pipe
    threading.Thread(target=lambda: lines.extend(process.stdout or []), daemon=True).start()
    yield Served(found["page"], found["endpoint"], outside, lines)
    process.terminate()
    assert process.wait(60) == 143
    for address in found.values():
        with pytest.raises(urllib.error.URLError):
            DIRECT.open(address, timeout=5)
    assert "Traceback" not in "".join(lines)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"no {CHROMIUM}; install Debian's package chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def page(served: Served, browser: Any) -> Iterator[Any]:
    """The page, opened; afterwards nobody but its own server may have answered it."""
    opened = browser.new_page()
    opened.set_default_timeout(30_000)
    answered: list[str] = []
    opened.on("response", lambda response: answered.append(response.url))
    opened.goto(served.page)
    opened.wait_for_selector("#ask")
    yield opened
    opened.close()
    assert [url for url in answered if not url.startswith((served.page, "data:", "blob:"))] == []


def choose_promoter(page: Any) -> str:
    page.click("#task input")
    page.locator("[role=option]", has_text="sim/promoter").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.includes('<dna>')")
    return page.input_value("#prompt textarea")


def test_a_prompt_is_typed_and_answer_bars_and_tokens_are_read(page: Any) -> None:
    page.fill("#prompt textarea", f"Which is this DNA, background, promoter?\n<dna>{SEQUENCE}</dna>")
    page.click("#ask")
    page.wait_for_selector("#result .bar")
    assert page.locator("#result .answer").count() == 1
    names = page.locator("#result .bar .name").all_inner_texts()
    values = [float(text.removesuffix(" %")) for text in page.locator("#result .bar .value").all_inner_texts()]
    assert sorted(names) == ["background", "promoter"]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(100, abs=0.11)
    widths = [bar.bounding_box()["width"] for bar in page.locator("#result .bar .track").all()]
    fills = [bar.bounding_box()["width"] for bar in page.locator("#result .bar .fill").all()]
    assert fills == pytest.approx([width * value / 100 for width, value in zip(widths, values, strict=True)], abs=1.5)
    assert "".join(page.locator("#result .tokens .token.dna").all_inner_texts()) == SEQUENCE
    assert page.locator("#result .tokens .token.special").all_inner_texts() == ["<dna>", "</dna>"]
    colours = {
        kind: page.locator(f"#result .tokens .token.{kind}").first.evaluate("e => getComputedStyle(e).backgroundColor")
        for kind in ("text", "dna", "special")
    }
    assert len(set(colours.values())) == 3
    assert "bases per token" in page.inner_text("#result .legend")


def test_a_span_that_is_never_closed_is_said(page: Any) -> None:
    page.fill("#prompt textarea", "Put DNA between <dna> and </dna>. Go on: <protein>MKV")
    page.click("#ask")
    page.wait_for_selector("#result .tokens")
    english, never = page.inner_text("#result .said").splitlines()
    assert english.endswith("so this span is read as text, not as a sequence (<dna> at position 17)")
    assert never == "position 42: <protein> is never closed; the letters behind it are read as a sequence to be continued"


def test_an_example_of_a_task_is_filled_in(page: Any) -> None:
    first = choose_promoter(page)
    assert SEQUENCE in first
    assert "Held-out record r0 (simulated); its own answer is: promoter" in page.inner_text("#read")
    page.click("#another")
    page.wait_for_function(f"document.querySelector('#prompt textarea').value.includes('{SEQUENCE[::-1]}')")
    assert page.input_value("#sequence textarea") == SEQUENCE[::-1]


def test_a_fasta_file_is_uploaded_and_put_into_the_prompt(page: Any, tmp_path: Path) -> None:
    choose_promoter(page)
    path = tmp_path / "mine.fa"
    path.write_text(">seq1 from me\nacgtacgtac\nGGGTTT\n")
    page.set_input_files("#upload input[type=file], input[type=file]", path)
    page.wait_for_function("document.querySelector('#read').innerText.includes('seq1')")
    assert page.inner_text("#read .said.note") == "Read seq1 (16 letters) as dna. Now put it into the prompt."
    page.click("#compose")
    page.wait_for_function("document.querySelector('#prompt textarea').value.includes('<dna>ACGTACGTACGGGTTT</dna>')")
    page.click("#ask")
    page.wait_for_selector("#result .bar")
    assert "of sim/promoter" in page.inner_text("#result")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.fa", b"hello\n", "bad.fa:1: not FASTA: expected a header that starts with '>', found 'hello'"),
        ("letters.fa", b">x\nMK1L\n", "letters.fa:1 (x): '1' at position 3 is not a protein letter"),
        ("packed.fa.gz", gzip.compress(b">x\nACGT\n", mtime=0), "packed.fa.gz: compressed; unpack it first"),
        ("empty.fa", b"", "empty"),
        ("long.fa", b">x\n" + b"ACGT" * 600 + b"\n", "long.fa: more than 2,000 letters"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(page: Any, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    page.set_input_files("input[type=file]", path)
    page.wait_for_selector("#read .said.error, .toast-body.error")
    shown = page.locator("#read .said.error, .toast-body.error").first.inner_text()
    assert message.lower() in shown.lower()
    assert str(tmp_path) not in shown
    assert "/tmp" not in shown


def test_what_is_wrong_with_a_prompt_is_said(page: Any) -> None:
    for prompt, message in [
        ("", "write a prompt first"),
        ("Is <dna>ACEGT</dna> one?", "<dna> in the prompt: 'E' at position 3 is not a dna letter"),
        ("é " * 1000, "more than the model's"),
    ]:
        page.fill("#prompt textarea", prompt)
        page.click("#ask")
        page.wait_for_function("text => (document.querySelector('#result .said.error')?.innerText || '').includes(text)", arg=message)
        assert page.locator("#result .bar").count() == 0


def test_an_answer_stays_where_a_label_does_not_fit(page: Any, extended_folder: Path) -> None:
    """Two tokens are left."""
    from instruct.session import Sampling, Session

    session = Session(extended_folder)
    text = f"<dna>{'N' * (session.context - len(session.prompt([{'role': 'user', 'content': ''}])) - 4)}</dna>"
    choose_promoter(page)
    page.fill("#prompt textarea", text)
    page.click("#ask")
    page.wait_for_function("(document.querySelector('#result .said.error')?.innerText || '').includes('prompt and label have')")
    assert page.text_content("#result .answer") == session.answer([{"role": "user", "content": text}], Sampling(8))
    assert page.locator("#result .tokens").count() == 1


def test_bare_sequences_are_wrapped_after_saying_so_and_markup_stays_text(page: Any) -> None:
    page.fill("#prompt textarea", f"<img src=x onerror='window.bad=1'> Is {SEQUENCE} one?")
    page.click("#ask")
    page.wait_for_selector("#result .tokens")
    assert f"Read ACGTTGCAACGT… ({len(SEQUENCE)} letters) as dna." in page.inner_text("#result .said.note")
    page.wait_for_function("document.querySelector('#result').innerText.includes('no labels to compare')")
    assert page.evaluate("window.bad") is None


def test_the_model_card_is_shown_and_loads_nothing(page: Any, served: Served) -> None:
    refused: list[tuple[str, str]] = []
    page.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    assert "tiny gene" in page.inner_text("#head")
    assert "tokens in the vocabulary" in page.inner_text("#head")
    page.click("#card button")
    page.wait_for_selector("#card h1")
    assert page.inner_text("#card h1") == "A tiny card"
    assert refused in ([], [("https://example.com/x.png", "csp")])
    assert "licence: none" not in page.inner_text("#card")
    assert page.evaluate("window.bad") is None


def status(address: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> int:
    try:
        with DIRECT.open(urllib.request.Request(address, data=data, headers=headers or {}), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "/proc/self/environ", "MODEL/model.safetensors"]
)
def test_no_file_of_the_machine_is_given_out(served: Served, extended_folder: Path, path: str) -> None:
    path = path.replace("MODEL", str(extended_folder))
    for route in ("gradio_api/file=", "file=", "static/", "assets/", "gradio_api/stream/"):
        assert status(f"{served.page}{route}{path}") in (400, 403, 404, 405, 422)


def test_an_uploaded_name_does_not_choose_its_place(served: Served, tmp_path: Path) -> None:
    boundary = "x" * 20
    name = f"../../../../..{tmp_path}/evil.fa"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = f"{head}>a\nAC\n\r\n--{boundary}--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    assert status(f"{served.page}gradio_api/upload", body.encode(), headers) == 200
    assert list(tmp_path.iterdir()) == []


def test_too_much_is_refused(served: Served) -> None:
    assert status(f"{served.page}gradio_api/upload", b"x" * (3 << 20), {"Content-Type": "application/octet-stream"}) == 413


def test_an_address_in_a_header_is_not_believed(served: Served) -> None:
    """Else a client would have as many rates as it makes up addresses. Here another address has used up its own."""
    host, port = re.findall(r"//(.+):(\d+)/", served.page)[0]
    other = http.client.HTTPConnection(host, int(port), source_address=("127.0.0.2", 0))
    for _ in range(30 * POSTS_PER_QUESTION + 1):
        other.request("POST", "/nothing", b"x")
        answer = other.getresponse()
        answer.read()
    assert answer.status == 429
    assert status(f"{served.page}nothing", b"x", {"X-Forwarded-For": "127.0.0.2"}) != 429


def test_the_endpoint_answers_the_openai_client_like_a_plain_pipeline(served: Served, extended_folder: Path) -> None:
    from transformers import pipeline

    messages: Any = [{"role": "user", "content": f"Is <dna>{SEQUENCE}</dna> one?"}]
    expected = pipeline("text-generation", model=str(extended_folder), device="cpu")(messages, max_new_tokens=12, do_sample=False)
    client = openai.OpenAI(base_url=served.endpoint, api_key="none")
    answered = client.chat.completions.create(model="tiny gene", messages=messages, max_tokens=12, temperature=0)
    assert answered.choices[0].message.content == expected[0]["generated_text"][-1]["content"]
    assert list(client.models.list()) == []


def test_nothing_was_asked_of_the_world(served: Served) -> None:
    """After everything above: no hub, no update check, no telemetry, no font."""
    time.sleep(0.5)
    assert served.outside.calls == []


def test_ctrl_c_ends_the_server(extended_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llama_gene", "serve", "--model", str(extended_folder), "--no-endpoint", "port=0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        assert any(line.startswith("Ctrl-C") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        left = process.stdout.read()
        assert process.wait(60) == 0, left
        assert "Traceback" not in left
    finally:
        process.kill()
