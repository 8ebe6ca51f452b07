"""`make docs`: every page, link and anchor of the site, and nothing in it that a browser would fetch from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs import CONFIGS

ROOT = CONFIGS.parent
for package in ("mkdocs", "material", "mkdocstrings"):
    pytest.importorskip(package, reason="`pip install -e '.[docs]'` builds the site")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strict: a link or an anchor that leads nowhere, a page without a place, or a docstring that cannot be read fails it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", ROOT / "mkdocs.yml", "--site-dir", folder]
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    env = os.environ | nobody | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_page_of_docs_is_a_page_of_the_site(site: Path) -> None:
    wanted = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    there = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert wanted - {"README.html"} <= there
    assert {"index.html", "CONTRIBUTING.html", "reference/tokenizer.html"} <= there
    assert not (site / "hooks.py").exists()


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"?(https?:[^\s\">]+)|url\([\"']?(https?:[^)]+)\)", text)
        loaded += re.findall(r"<link[^>]*\brel=\"?stylesheet\"?[^>]*href=\"?(https?:[^\s\">]+)", text)
        assert loaded == [], page


@pytest.mark.slow
def test_the_reference_has_the_docstrings(site: Path) -> None:
    for page, words in (
        ("tokenizer", "class VocabularyRows|extend"),
        ("data_convert", "Which of the card's files there are|Ask the publisher"),
        ("eval", "Spearman|bootstrap"),
    ):
        text = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
        assert re.search(words, text), page
    links = (site / "pretraining.html").read_text(encoding="utf-8")
    assert "<code>training/estimate.py</code>" in links
    assert "../training/estimate.py" not in links
