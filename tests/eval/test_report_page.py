"""The page in a real browser: everything is drawn, nothing is fetched, nothing is complained of."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invented_run import invent, write_lines

from eval.judge.score import score
from eval.predictions import read_lines
from eval.show.report import ReportRecipe, report

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'llama-gene[dev]'")
    if not CHROMIUM.is_file():
        pytest.skip(f"no {CHROMIUM}: the page is not looked at in a browser")
    with sync.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_of_a_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A report with baselines, three seeds of the model, a control, and groups of related sequences."""
    folder = invent(tmp_path_factory.mktemp("page"))
    lines, rng = list(read_lines(folder / "predictions" / "llama-gene.jsonl")), random.Random(0)
    for name in ("seed1", "seed2"):
        changed = [{**line, "predicted": line["gold"]} if rng.random() < 0.3 else line for line in lines]
        write_lines(folder / name / "llama-gene.jsonl", changed)
    silent = [{**line, "predicted": None, "text": None, "parsed": None, "status": None, "logprobs": None} for line in lines]
    write_lines(folder / "others" / "llama-gene@shuffled.jsonl", silent)
    write_lines(folder / "others" / "nearest.jsonl", [{**line, "predicted": line["gold"]} for line in silent])
    rows = [f"{line['id']}\tg{place % 17}" for place, line in enumerate(lines)]
    (folder / "records" / "groups.tsv").write_text("\n".join(["id\tgroup", *rows]) + "\n", encoding="utf-8")
    folders = [folder / name for name in ("predictions", "seed1", "seed2", "others")]
    document = score(folder / "records", folders, folder / "metrics.json", seed=0)
    english = {"bits_per_byte": 2.417, "perplexity": 31.25, "tokens": 4100, "difference": 0.0}
    worse = {"bits_per_byte": 2.913, "perplexity": 66.5, "tokens": 4100, "difference": 0.496}
    kept = {"text": "english", "bytes": 13_840, "paragraphs": 52, "models": {"base": english, "gene": worse}}
    (folder / "retention.json").write_text(json.dumps(kept), encoding="utf-8")
    out = folder / "report.html"
    stages = {"tokenizer": folder / "extended", "pretrain": folder / "pretrained", "instruct": folder / "instructed"}
    report(ReportRecipe(metrics=folder / "metrics.json", records=folder / "records", predictions=folder / "predictions", out=out, **stages))
    return out, document


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 420)])
def test_the_page_in_chromium(browser: Any, page_of_a_run: tuple[Path, dict[str, Any]], scheme: str, width: int) -> None:
    path, document = page_of_a_run
    fetched: list[str] = []
    said: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.on("request", lambda request: fetched.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    assert fetched == [path.as_uri()]
    assert said == []
    # every figure has a size, and every line in it was painted
    boxes = page.evaluate("[...document.querySelectorAll('svg')].map(s => [s.clientWidth, s.clientHeight])")
    assert len(boxes) > 10
    assert min(min(box) for box in boxes) > 40
    drawn = page.evaluate("[...document.querySelectorAll('svg polyline')].map(l => l.getTotalLength())")
    assert len(drawn) > 8
    assert min(drawn) > 20
    # colours of the theme reach the drawings: lines are not black, and light and dark differ
    colours = page.evaluate("[...new Set([...document.querySelectorAll('svg polyline')].map(l => getComputedStyle(l).stroke))]")
    assert "rgb(0, 0, 0)" not in colours
    assert ("rgb(31, 95, 208)" in colours) == (scheme == "light")
    cells = page.evaluate("[...document.querySelectorAll('.confusion td')].map(c => getComputedStyle(c).backgroundColor)")
    assert len(set(cells)) > 3
    # nothing sticks out: wide tables scroll in their own box
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # nothing is smaller than 11 px, in drawings neither
    small = page.evaluate(
        """() => { const found = []; const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) { const at = walk.currentNode.parentElement, svg = at.closest('svg');
          if (!walk.currentNode.data.trim() || !at.getClientRects().length) continue;
          const size = parseFloat(getComputedStyle(at).fontSize) * (svg ? svg.clientWidth / svg.viewBox.baseVal.width : 1);
          if (size < 10.9) found.push([size, walk.currentNode.data]); } return found; }"""
    )
    assert small == []
    # the scores of the overview are in sight, on a phone too
    for cell in page.locator("#tasks ~ .card").first.locator("tr:nth-child(1) td").all():
        box = cell.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    text = page.inner_text("body")
    for task in document["tasks"]:
        assert f"{task['systems']['llama-gene']['metrics'][task['primary_metric']]['value']:.3f}".replace("-", "−") in text
    for words in (
        "Negative controls",
        "17 groups of related sequences",
        "Split and leakage",
        "over runs",
        "Unread answers",
        "Reliability",
        "2.913",
        "+0.496",
        "The final model, gene, needs 2.91 bits per byte of English, 21% more than base: it has lost English.",
    ):
        assert words in text, words
    context.close()


def test_markdown_says_the_same(page_of_a_run: tuple[Path, dict[str, Any]]) -> None:
    path, document = page_of_a_run
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    for task in document["tasks"]:
        for system, scores in task["systems"].items():
            for metric, found in scores["metrics"].items():
                if found["value"] is not None and "@" not in system:
                    assert f"{found['value']:.3f}" in text, (task["task"], system, metric)
    assert "## Negative controls" in text
    assert "| gene | 2.913 | +0.496 | 66.50 | 4,100 |" in text
    assert "the letters of every sequence in random order" in text
    assert f"± {document['tasks'][0]['systems']['llama-gene']['metrics']['mcc']['sd']:.3f}" in text
    assert "Names of classes follow" not in text
    assert json.loads((path.parent / "metrics.json").read_text(encoding="utf-8")) == document
