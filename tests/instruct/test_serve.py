"""`llama-gene serve`, as a user starts it, in a real browser and through the openai client: nothing leaves the machine."""

from __future__ import annotations

import csv
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

from data_convert.tasks.cards import load_card
from data_convert.tasks.prompts import fill, render
from instruct.talk.limits import POSTS_PER_QUESTION

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
    card = load_card("sim/promoter")
    folder.mkdir()
    lines = []
    for number, letters in enumerate([SEQUENCE, SEQUENCE[::-1]]):
        prompt = [{"role": "user", "content": render(card, {"sequence": letters}, card.prompts.eval)}]
        answer = [{"role": "assistant", "content": "promoter"}]
        inputs = [{"name": "sequence", "modality": "dna", "letters": letters}]
        record = {"id": f"r{number}", "task": card.id, "split": "test", "kind": card.kind, "prompt": prompt, "completion": answer}
        lines.append({**record, "label": "promoter", "choices": card.choices, "inputs": inputs})
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


def ask(page: Any, prompt: str) -> None:
    """Ask, and wait for the whole answer to this very question: an answer is there from the start."""
    page.fill("#prompt textarea", prompt)
    page.click("#ask")
    wait_for_answer(page, prompt)


def text_of(page: Any, selector: str) -> str:
    return texts_of(page, selector)[0]


def texts_of(page: Any, selector: str) -> list[str]:
    """Of all of one moment, once they are there and shown: Gradio takes a part of the page away while it draws it anew."""
    shown = page.wait_for_function(
        "selector => { const texts = [...document.querySelectorAll(selector)].map(one => one.innerText.trim());"
        " return texts.length && texts.every(text => text) ? texts : null }",
        arg=selector,
    )
    return list(shown.json_value())


def wait_for_answer(page: Any, prompt: str) -> None:
    """Until it is whole, shown, and drawn no more: its last piece comes twice, and is drawn as often."""
    page.evaluate(
        "() => { window.drawn = performance.now(); window.watch?.disconnect();"
        " window.watch = new MutationObserver(() => window.drawn = performance.now());"
        " window.watch.observe(document.querySelector('#result'), { childList: true, subtree: true, attributes: true }) }"
    )
    page.wait_for_function(
        "asked => { const result = document.querySelector('#result'), shown = result.querySelector('[data-number]');"
        " return shown?.dataset.asked === asked && !shown.querySelector('.running') && !result.classList.contains('stale')"
        " && result.innerText.trim() && performance.now() - window.drawn > 500 }",
        arg=prompt,
    )


def test_an_example_is_there_and_answered_when_the_page_opens(page: Any) -> None:
    page.wait_for_selector("#result .bar")
    assert SEQUENCE in page.input_value("#prompt textarea")
    assert page.get_attribute("#result [data-number]", "data-asked") == page.input_value("#prompt textarea")
    likeliest = text_of(page, "#result .bar .name")
    verdict = "right" if likeliest == "promoter" else "wrong"
    assert text_of(page, f"#result .said.{verdict}") == f"The likeliest label is {verdict}: the record's own answer is promoter."
    page.wait_for_selector("#asked tr:nth-child(2)")
    assert text_of(page, "#asked .download") == "Download 1 answer as CSV"


def test_what_was_asked_is_listed_and_downloaded(page: Any, tmp_path: Path) -> None:
    page.wait_for_selector("#asked tr:nth-child(2)")
    page.fill("#prompt textarea", 'Say "it", now')
    page.click("#ask")
    page.wait_for_selector("#asked tr:nth-child(3)")
    assert text_of(page, "#asked tr:nth-child(2) td:first-child") == 'Say "it", now'
    with page.expect_download() as waiting:
        page.click("#asked .download")
    waiting.value.save_as(tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as handle:
        found = list(csv.DictReader(handle))
    assert [row["own"] for row in found] == ["promoter", ""]
    assert [row["judged"] in ("right", "wrong") for row in found] == [True, False]
    assert found[1]["prompt"] == 'Say "it", now'


def upload_rows(page: Any, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.click("#rows")
    chooser.value.set_files(path)


def test_a_table_is_answered_with_a_bar_and_comes_back(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("id,sequence\n" + "".join(f"r{n},{SEQUENCE}\n" for n in range(20)) + "bad,ACG1\n")
    page.click("#table button")
    page.evaluate(
        "new MutationObserver(() => { window.bars |= !!document.querySelector('#answers progress') })"
        ".observe(document.body, { childList: true, subtree: true })"
    )
    upload_rows(page, path)
    page.wait_for_selector("#answers .download")
    assert page.evaluate("window.bars") == 1
    assert text_of(page, "#answers .download") == "Download 20 rows as CSV"
    counts, why = text_of(page, "#answers .said.doubt").splitlines()
    assert counts.startswith("read 21, written 20, set aside 1 (")
    assert re.match(r"mine\.csv:22: bad: .*letter", why)
    with page.expect_download() as waiting:
        page.click("#answers .download")
    assert waiting.value.suggested_filename == "mine-answers.csv"
    waiting.value.save_as(tmp_path / "back.csv")
    with (tmp_path / "back.csv").open(newline="", encoding="utf-8") as handle:
        found = list(csv.DictReader(handle))
    assert [row["seq_id"] for row in found] == [f"r{n}" for n in range(20)]
    assert {row["label"] for row in found} <= {"background", "promoter"}
    path.write_text("id,sequence\n" + "".join(f"r{n},{SEQUENCE}\n" for n in range(501)))
    upload_rows(page, path)
    page.wait_for_selector("#answers .said.error")
    assert text_of(page, "#answers .said.error") == "mine.csv: more than 500 rows; `llama-gene predict` takes them all"
    for content, message in [
        (b"id,sequence\na,ACG1\n", "mine.csv: not one usable row"),
        (gzip.compress(b"id,sequence\na,ACGT\n"), "mine.csv: compressed; unpack it first"),
        (b"id,letters\na,ACGT\n", "mine.csv"),
    ]:
        path.write_bytes(content)
        upload_rows(page, path)
        page.wait_for_function("text => (document.querySelector('#answers .said.error')?.innerText || '').startsWith(text)", arg=message)
        assert "/" not in text_of(page, "#answers .said.error").partition(":")[0]


def test_the_questions_that_the_model_knows_are_listed(page: Any) -> None:
    page.click("#forms button")
    page.wait_for_selector("#forms li")
    card = load_card("sim/promoter")
    asked = [fill(wording, {"sequence": "<dna>…</dna>"}, card.choices) for wording in [*card.prompts.train, card.prompts.eval]]
    assert texts_of(page, "#forms li") == asked


def choose_promoter(page: Any) -> str:
    page.fill("#prompt textarea", "")  # what the page opens with looks like what comes
    page.click("#task input")
    page.locator("[role=option]", has_text="sim/promoter").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.includes('<dna>')")
    return page.input_value("#prompt textarea")


def test_a_prompt_is_typed_and_answer_bars_and_tokens_are_read(page: Any) -> None:
    ask(page, f"Which is this DNA, background, promoter?\n<dna>{SEQUENCE}</dna>")
    assert page.locator("#result .answer").count() == 1
    names = texts_of(page, "#result .bar .name")
    values = [float(text.removesuffix(" %")) for text in texts_of(page, "#result .bar .value")]
    assert sorted(names) == ["background", "promoter"]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(100, abs=0.11)
    inside = "bars => bars.map(bar => bar.getBoundingClientRect().width)"
    widths, fills = (page.locator(f"#result .bar .{part}").evaluate_all(inside) for part in ("track", "fill"))
    assert fills == pytest.approx([width * value / 100 for width, value in zip(widths, values, strict=True)], abs=1.5)
    assert "".join(texts_of(page, "#result .tokens .token.dna")) == SEQUENCE
    assert texts_of(page, "#result .tokens .token.special") == ["<dna>", "</dna>"]
    colours = {
        kind: page.locator(f"#result .tokens .token.{kind}").first.evaluate("e => getComputedStyle(e).backgroundColor")
        for kind in ("text", "dna", "special")
    }
    assert len(set(colours.values())) == 3
    assert "bases per token" in text_of(page, "#result .legend")


def test_a_span_that_is_never_closed_is_said(page: Any) -> None:
    ask(page, "Put DNA between <dna> and </dna>. Go on: <protein>MKV")
    english, never = text_of(page, "#result .said").splitlines()
    assert english.endswith("so this span is read as text, not as a sequence (<dna> at position 17)")
    assert never == "position 42: <protein> is never closed; the letters behind it are read as a sequence to be continued"


def test_an_example_of_a_task_is_filled_in(page: Any) -> None:
    first = choose_promoter(page)
    assert SEQUENCE in first
    assert "Held-out record r0 (simulated); its own answer is: promoter" in text_of(page, "#read")
    page.click("#another")
    page.wait_for_function(f"document.querySelector('#prompt textarea').value.includes('{SEQUENCE[::-1]}')")
    assert page.input_value("#sequence textarea") == SEQUENCE[::-1]


def test_a_fasta_file_is_uploaded_and_put_into_the_prompt(page: Any, tmp_path: Path) -> None:
    choose_promoter(page)
    path = tmp_path / "mine.fa"
    path.write_text(">seq1 from me\nacgtacgtac\nGGGTTT\n")
    page.set_input_files("#upload input[type=file], input[type=file]", path)
    page.wait_for_function("document.querySelector('#read').innerText.includes('seq1')")
    assert text_of(page, "#read .said.note") == "Read seq1 (16 letters) as dna. Now put it into the prompt."
    page.click("#compose")
    page.wait_for_function("document.querySelector('#prompt textarea').value.includes('<dna>ACGTACGTACGGGTTT</dna>')")
    ask(page, page.input_value("#prompt textarea"))
    assert "of sim/promoter" in text_of(page, "#result")


def test_a_limit_is_told_when_the_file_is_read(page: Any, tmp_path: Path) -> None:
    """Before anything is asked: the context of the model, and the number of sequences that a task has."""
    path = tmp_path / "mine.fa"
    path.write_text(">seq1\n" + "N" * 1500 + "\n")
    page.set_input_files("input[type=file]", path)
    page.wait_for_selector("#read .said.error")
    shown = text_of(page, "#read .said.error")
    assert re.fullmatch(
        r"Read seq1 \(1,500 letters\) as dna\. But: the conversation has 1,5\d\d tokens, more than the model's 1,024; .*", shown
    )
    assert page.input_value("#sequence textarea").startswith(">seq1")
    before = page.input_value("#prompt textarea")
    page.click("#compose")
    page.wait_for_function("document.querySelector('#read').innerText.startsWith('the conversation has')")
    assert page.input_value("#prompt textarea") == before
    choose_promoter(page)
    two = tmp_path / "two.fa"
    two.write_text(">seq1\nACGT\n>seq2\nACGT\n")
    page.set_input_files("input[type=file]", two)
    page.wait_for_function("document.querySelector('#read').innerText.includes('2 sequences where 1 is needed')")


def test_probabilities_are_of_the_card_s_words_and_modality_alone(page: Any) -> None:
    """With a card chosen, a question about something else has none, and a prompt in the card's words has."""
    card = load_card("sim/promoter")
    own = choose_promoter(page)
    for prompt in ("Is this a kinase? <protein>MKVLAAGWMKVLAAGW</protein>", own.replace("dna>", "protein>"), f"Well: {own}"):
        ask(page, prompt)
        assert "no labels to compare" in text_of(page, "#result")
        assert f"writes a sequence in the words of {card.id}." in text_of(page, "#result")
        assert page.locator("#result .bar").count() == 0
    ask(page, own)
    assert page.locator("#result .bar").count() == 2


def test_an_answer_that_contradicts_its_probabilities_is_marked(page: Any) -> None:
    ask(page, choose_promoter(page))
    answer, likeliest = page.text_content("#result .answer"), text_of(page, "#result .bar .name")
    assert answer != likeliest, "a model of random weights does not answer with a label"
    doubt = text_of(page, "#result .said.doubt")
    assert re.fullmatch(
        rf"The answer is none of the labels, but the likeliest label is '{likeliest}' \([\d.]+ %\): they contradict each other\.", doubt
    )


def test_an_answer_goes_when_its_prompt_changes(page: Any) -> None:
    """Typed or filled in, at once or while the answer is being written; it is there again with its question."""
    page.fill("#prompt textarea", "Name it")
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.type("#prompt textarea", " and name it once more" * 3)
    assert posts == [], "writing asks the server nothing"
    for wait in (0, 50, 1500):
        page.click("#ask")
        page.wait_for_timeout(wait)
        page.type("#prompt textarea", "x")
        page.wait_for_timeout(400)
        assert not page.locator("#result .answer").is_visible() or page.text_content("#result .answer") == ""
        page.wait_for_timeout(1200)  # what was still on its way has come
        assert not page.locator("#result .answer").is_visible() or page.text_content("#result .answer") == ""
    page.keyboard.press("Backspace")
    page.wait_for_function("!document.querySelector('#result').classList.contains('stale')")
    page.wait_for_function("document.querySelector('#result .answer').innerText.length > 0")
    choose_promoter(page)
    page.wait_for_function("document.querySelector('#result').classList.contains('stale')")


def test_ctrl_enter_asks_and_enter_does_not(page: Any) -> None:
    page.fill("#prompt textarea", "Name it")
    page.press("#prompt textarea", "Enter")
    page.wait_for_timeout(500)
    assert page.input_value("#prompt textarea") == "Name it\n"
    assert page.get_attribute("#result [data-number]", "data-asked") != "Name it\n"
    page.press("#prompt textarea", "Control+Enter")
    wait_for_answer(page, "Name it\n")
    assert page.input_value("#prompt textarea") == "Name it\n"


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_every_width_keeps_its_layout_and_a_phone_scrolls_to_the_answer(served: Served, browser: Any, width: int) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 800})
    try:
        opened.goto(served.page)
        opened.wait_for_selector("#ask")
        asked = choose_promoter(opened) + "\n"  # another question than that of the start, which is answered already
        opened.fill("#prompt textarea", asked)
        opened.evaluate("scrollTo(0, 0)")
        opened.press("#prompt textarea", "Control+Enter")
        wait_for_answer(opened, asked)
        opened.wait_for_timeout(500)
        assert opened.evaluate("document.scrollingElement.scrollWidth") <= width, "nothing is cut off at the right"
        boxes = {
            name: opened.locator(name).bounding_box()
            for name in ("#task", "#sequence", "#prompt", "#ask", "#stop", "#result", "#result .tokens")
        }
        for name, box in boxes.items():
            assert box["x"] >= 0, name
            assert box["x"] + box["width"] <= width, name
        beside = boxes["#result"]["x"] > boxes["#prompt"]["x"] + boxes["#prompt"]["width"]
        assert beside == (width == 1280) or width == 820
        assert beside or boxes["#result"]["y"] >= boxes["#ask"]["y"] + boxes["#ask"]["height"] - 1, "nothing lies over anything"
        answer = opened.locator("#result .answer").bounding_box()
        assert answer["y"] >= 0
        assert answer["y"] + min(answer["height"], 100) <= 800, "the answer is on the screen"
    finally:
        opened.close()


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
    shown = text_of(page, "#read .said.error, .toast-body.error")
    assert message.lower() in shown.lower()
    assert str(tmp_path) not in shown
    assert "/tmp" not in shown


def test_what_is_wrong_with_a_prompt_is_said(page: Any) -> None:
    for prompt, message in [
        ("", "write a prompt first"),
        ("Is <dna>ACEGT</dna> one?", "<dna> in the prompt: 'E' at position 3 is not a dna letter"),
        ("é " * 1000, "more than the model's"),
    ]:
        ask(page, prompt)
        assert message in text_of(page, "#result .said.error")
        assert page.locator("#result .bar").count() == 0


def test_an_answer_stays_where_a_label_does_not_fit(page: Any, extended_folder: Path) -> None:
    """Two tokens are left."""
    from instruct.talk.session import Sampling, Session

    session = Session(extended_folder)
    card = load_card("sim/promoter")

    def asked(size: int) -> str:
        return render(card, {"sequence": "N" * size}, card.prompts.eval)

    text = asked(session.context - len(session.prompt([{"role": "user", "content": asked(1)}])) - 1)
    assert session.context - len(session.prompt([{"role": "user", "content": text}])) == 2
    ask(page, text)
    assert "prompt and label have" in text_of(page, "#result .said.error")
    assert page.text_content("#result .answer") == session.answer([{"role": "user", "content": text}], Sampling(8))
    assert page.locator("#result .tokens").count() == 1


def test_bare_sequences_are_wrapped_after_saying_so_and_markup_stays_text(page: Any) -> None:
    ask(page, f"<img src=x onerror='window.bad=1'> Is {SEQUENCE} one?")
    assert f"Read ACGTTGCAACGT… ({len(SEQUENCE)} letters) as dna." in text_of(page, "#result .said.note")
    assert "no labels to compare" in text_of(page, "#result")
    assert page.evaluate("window.bad") is None


def test_the_model_card_is_shown_and_loads_nothing(page: Any, served: Served) -> None:
    refused: list[tuple[str, str]] = []
    page.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    assert "tiny gene" in text_of(page, "#head")
    assert "tokens in the vocabulary" in text_of(page, "#head")
    page.click("#card button")
    page.wait_for_selector("#card h1")
    assert text_of(page, "#card h1") == "A tiny card"
    assert refused in ([], [("https://example.com/x.png", "csp")])
    assert "licence: none" not in text_of(page, "#card")
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


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *(("queue/join", body) for body in (b"", b"{", b"[]", b"\xff", b"[" * 50_000, b'{"data": 1}', b'{"data": [], "fn_index": 0}')),
        ("queue/join", b'{"data": [], "fn_index": 9999, "session_hash": "x"}'),
        ("component_server", b'{"data": [], "component_id": 9999, "session_hash": "a", "fn_name": "x"}'),
        *((path, b"{}") for path in ("run/ask", "api/predict", "cancel", "reset", "upload", "component_server", "process_recording")),
    ],
)
def test_malformed_requests_to_the_page_are_refused(served: Served, path: str, body: bytes) -> None:
    assert 400 <= status(f"{served.page}gradio_api/{path}", body, {"Content-Type": "application/json"}) < 500


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
    assert [model.id for model in client.models.list()] == ["tiny gene"]
    assert client.models.retrieve("tiny gene").id == "tiny gene"


def test_one_request_does_not_stop_the_endpoint_for_all(served: Served, extended_folder: Path) -> None:
    """An answer ends with the context at the latest, whatever is asked for, and however."""
    client = openai.OpenAI(base_url=served.endpoint, api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": "Name it"}]
    for asked in ({"max_tokens": 10**9}, {"max_completion_tokens": 10**9}, {}):
        answered = client.chat.completions.create(model="tiny gene", messages=messages, temperature=0, **asked)
        assert answered.usage.total_tokens <= 1024
        *_, last = client.chat.completions.create(model="tiny gene", messages=messages, temperature=0, stream=True, **asked)
        assert last.usage.total_tokens <= 1024
    assert client.completions.create(model="tiny gene", prompt="Name it", max_tokens=10**9, temperature=0).usage.total_tokens <= 1024
    drawn = {
        client.chat.completions.create(model="tiny gene", messages=messages, temperature=1.5, max_tokens=20, seed=s)
        .choices[0]
        .message.content
        for s in range(3)
    }
    assert len(drawn) == 3, "a temperature is not ignored, though the folder answers greedily"
    for refused in ({"generation_config": '{"max_new_tokens": 1000000000}'}, {"max_tokens": 0}, {"max_tokens": 2**70, "messages": "x"}):
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="tiny gene", messages=messages, extra_body=refused)
    with pytest.raises(openai.BadRequestError, match=r"the prompt has .* tokens, and the model's context 1,024 with the answer"):
        client.chat.completions.create(model="tiny gene", messages=[{"role": "user", "content": "word " * 2000}])


def test_no_other_model_is_loaded_and_the_loaded_one_stays(served: Served, extended_folder: Path) -> None:
    root = served.endpoint.removesuffix("/v1")
    json_type = {"Content-Type": "application/json"}
    other = json.dumps({"model": str(extended_folder), "messages": [{"role": "user", "content": "a"}]}).encode()
    assert status(f"{root}/load_model", other, json_type) == 404
    assert status(f"{root}/reset", b"", json_type) == 404
    assert status(f"{root}/v1/responses", other, json_type) == 404
    assert status(f"{root}/docs") == status(f"{root}/openapi.json") == 404
    assert status(f"{root}/v1/chat/completions", other, json_type) == 400


@pytest.mark.parametrize("of", ["page", "endpoint"])
def test_foreign_names_are_refused(served: Served, of: str) -> None:
    address = served.page if of == "page" else f"{served.endpoint}/models"
    assert status(address) == 200
    for host, expected in (("evil.example", 403), ("evil.example:7860", 403), ("localhost", 200)):
        assert status(address, headers={"Host": host}) == expected
    assert status(served.page if of == "page" else f"{served.endpoint}/completions", b"{}", {"Host": "evil.example"}) == 403


def test_nothing_was_asked_of_the_world(served: Served) -> None:
    """After everything above: no hub, no update check, no telemetry, no font."""
    time.sleep(0.5)
    assert served.outside.calls == []


def test_ctrl_c_ends_the_server_and_uploads_do_not_stay(extended_folder: Path, tmp_path: Path) -> None:
    soon = "import sys, instruct.talk.serve, llama_gene; instruct.talk.serve.KEPT = 1; sys.exit(llama_gene.main(sys.argv[1:]))"
    command = [sys.executable, "-c", soon, "serve", "--model", str(extended_folder), "--no-endpoint", "port=0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        address = ""
        for line in process.stdout:
            address = line.removeprefix("page: ").strip() if line.startswith("page: ") else address
            if line.startswith("Ctrl-C"):
                break
        # uploads that nobody asks about go: here after a second
        boundary = "x" * 20
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="left.fa"\r\n\r\n'
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        assert status(f"{address}gradio_api/upload", f"{head}>a\nAC\n\r\n--{boundary}--\r\n".encode(), headers) == 200
        assert list(tmp_path.rglob("left.fa"))
        deadline = time.monotonic() + 20
        while list(tmp_path.rglob("left.fa")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        left = process.stdout.read()
        assert process.wait(60) == 0, left
        assert "Traceback" not in left
    finally:
        process.kill()


def test_sigterm_ends_an_endpoint_that_does_not_hear_it(extended_folder: Path, tmp_path: Path) -> None:
    """Stopped altogether, as one that computes for hours is: the grace passes, here a second, and it is killed."""
    soon = "import sys, instruct.talk.serve, llama_gene; instruct.talk.serve.GRACE = 1; sys.exit(llama_gene.main(sys.argv[1:]))"
    command = [sys.executable, "-c", soon, "serve", "--model", str(extended_folder), "--no-page", "endpoint_port=0", "engine=transformers"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        assert any(line.startswith("Ctrl-C") for line in process.stdout)
        found = subprocess.run(["ps", "-ww", "--ppid", str(process.pid), "-o", "pid=,args="], capture_output=True, text=True, check=True)
        # beside it stands the small process that would end it if this one were killed
        (endpoint,) = (int(line.split()[0]) for line in found.stdout.splitlines() if "os.killpg" not in line)
        os.kill(endpoint, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 143
        with pytest.raises(ProcessLookupError):
            os.kill(endpoint, 0)
    finally:
        process.kill()
