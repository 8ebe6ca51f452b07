"""Text formats: articles in JSON lines, markdown, plain; sections and paragraphs; licences are counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts.errors import Ledger, UserError
from data_convert.corpus.documents import Document, read_documents
from data_convert.corpus.pack_recipe import Source
from sequences.markdown import Unit, markdown_text, split
from sequences.texts import Text, read_texts


def read(folder: Path, name: str, content: str | bytes, unit: Unit = "document") -> tuple[list[Text], Ledger]:
    path, ledger = folder / name, Ledger()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_texts(path, ledger, unit)), ledger


ARTICLES = [
    {"id": "PMC1", "title": "Two  genes", "abstract": "Short.", "license": "CC BY",
     "sections": [{"heading": "Methods", "text": "We cut.\n\nAnd sewed."}, {"heading": "Results", "paragraphs": ["One.", "Two."]}]},
    {"paper_id": "S2", "title": "Cells", "abstract": [{"text": "Abs."}], "licence": "CC0",
     "body_text": [{"section": "Intro", "text": "A."}, {"section": "Intro", "text": "B."}, {"section": "End", "text": "C."}]},
    {"pmcid": "PMC3", "sections": {"Aim": "To see.", "Way": ["By", {"text": "looking."}]}, "license": " "},
    {"id": 4, "text": "As it is. ", "title": "unused", "license": "CC BY"},
]  # fmt: skip
AS_TEXT = [
    ("PMC1", "# Two genes\n\nShort.\n\n## Methods\n\nWe cut.\n\nAnd sewed.\n\n## Results\n\nOne.\n\nTwo."),
    ("S2", "# Cells\n\nAbs.\n\n## Intro\n\nA.\n\nB.\n\n## End\n\nC."),
    ("PMC3", "## Aim\n\nTo see.\n\n## Way\n\nBy\n\nlooking."),
    ("4", "As it is. "),
]


@pytest.mark.parametrize("zipped", [False, True])
def test_articles_with_sections_and_licences(tmp_path, zipped):
    content = "\n".join(map(json.dumps, ARTICLES)).encode()
    found, ledger = read(tmp_path, "a.jsonl", gzip.compress(content) if zipped else content)
    assert [(text.id, text.text) for text in found] == AS_TEXT
    assert [text.line for text in found] == [1, 2, 3, 4]
    assert ledger.as_dict()["notes"] == {"licence CC BY": 2, "licence CC0": 1, "licence not stated": 1}


def test_articles_by_section_and_paragraph(tmp_path):
    content = "\n".join(map(json.dumps, ARTICLES[:2]))
    found, ledger = read(tmp_path, "a.jsonl", content, "section")
    assert [(text.id, text.text) for text in found] == [
        ("PMC1/1", "# Two genes\n\nShort."),
        ("PMC1/2", "## Methods\n\nWe cut.\n\nAnd sewed."),
        ("PMC1/3", "## Results\n\nOne.\n\nTwo."),
        ("S2/1", "# Cells\n\nAbs."),
        ("S2/2", "## Intro\n\nA.\n\nB."),
        ("S2/3", "## End\n\nC."),
    ]
    assert ledger.as_dict()["written"] == 2
    found, _ = read(tmp_path, "a.jsonl", content, "paragraph")
    assert [text.text for text in found][:4] == ["# Two genes", "Short.", "## Methods", "We cut."]


def test_bad_articles_are_set_aside(tmp_path):
    lines = [
        '{"title": "No text"}',
        '{"text": "half \\ud800"}',
        "[" * 100_000,
        '{"text": " \\n"}',
        '{"sections": 7}',
        '{"id": "\\udc00", "text": "x"}',
    ]
    found, ledger = read(tmp_path, "a.jsonl", "\n".join([*lines, '{"text": "ok"}']))
    assert [text.id for text in found] == ["line7"]
    path = tmp_path / "a.jsonl"
    assert ledger.examples == {
        "no 'text' field and no sections": [f"{path}:1", f"{path}:5"],
        "half a surrogate pair, which is no character": [f"{path}:2", f"{path}:6"],
        "not a JSON line": [f"{path}:3"],
        "empty text": [f"{path}:4"],
    }
    assert ledger.notes == {"licence not stated": 1}


PAGE = """---
title: Genes
---
# Genes

A gene <!-- not
shown --> is `<!-- code -->`.

```python
# no heading <!-- kept -->

x = 1
```
## Parts <!-- hidden -->
<!-- ``` -->
~~~
## no heading
~~~~

    indented code

Setext
===
#no heading
<!-- never closed
"""
SECTIONS = [
    "# Genes\n\nA gene  is `<!-- code -->`.\n\n```python\n# no heading <!-- kept -->\n\nx = 1\n```",
    "## Parts \n\n~~~\n## no heading\n~~~~\n\n    indented code\n\nSetext\n===\n#no heading\n<!-- never closed",
]


def test_markdown(tmp_path):
    found, ledger = read(tmp_path, "page.md", PAGE.replace("\n", "\r\n"))
    assert [(text.id, text.text.strip()) for text in found] == [("page.md", "\n".join(SECTIONS))]
    assert ledger.as_dict()["written"] == 1
    found, _ = read(tmp_path, "page.markdown", gzip.compress(PAGE.encode()), "section")
    assert [(text.id, text.text) for text in found] == [("page.markdown/1", SECTIONS[0]), ("page.markdown/2", SECTIONS[1])]
    found, _ = read(tmp_path, "page.md", PAGE, "paragraph")
    assert "```python\n# no heading <!-- kept -->\n\nx = 1\n```\n## Parts" in [text.text for text in found]
    assert "    indented code" in [text.text for text in found]


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("---\nno end", "---\nno end"),
        ("---\na: b\n...\ntext", "text"),
        ("----\ntext\n---\n", "----\ntext\n---\n"),
        ("a\n---\nb", "a\n---\nb"),
        ("```\n<!-- a -->", "```\n<!-- a -->"),
        ("```a``` <!-- b -->c", "```a``` c"),
        ("<!-- a --> b --> <!-- c", " b --> <!-- c"),
    ],
)
def test_front_matter_and_comments(content, kept):
    assert markdown_text(content) == kept


@given(
    st.lists(st.sampled_from(["# ", "```\n", "~~~\n", "\n", "\n\n", " ", "word", "<!--", "-->", "`", "---\n"]), max_size=40),
    st.sampled_from(["section", "paragraph"]),
)
def test_parts_put_together_are_the_text(pieces, unit):
    text = "".join(pieces)
    parts = list(split(text, unit))
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part.strip() for part in parts)


def test_text_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match=r"a\.md: not one usable text document: not UTF-8: 1"):
        read(tmp_path, "a.md", b"\xff")
    with pytest.raises(UserError, match=r"empty text: 1"):
        read(tmp_path, "a.md", "<!-- nothing -->")
    with pytest.raises(UserError, match=r"\.txt, \.jsonl or \.md"):
        read(tmp_path, "a.pdf", "x")


def test_documents_of_text(tmp_path):
    path, records, documents = tmp_path / "a.txt", Ledger(), Ledger()
    path.write_text("One.\n\nTwo.\n")
    assert list(read_documents(Source(modality="text", files=[path]), path, records, documents)) == [
        Document("line1", "text", "One.", str(path)),
        Document("line3", "text", "Two.", str(path)),
    ]


@pytest.mark.shared
def test_real_articles(shared_data):
    for path in sorted((shared_data / "text").glob("*.jsonl.gz")):
        ledger = Ledger()
        whole = [text.text for text in read_texts(path, ledger)]
        assert ledger.as_dict()["written"] == len(whole) == sum(ledger.notes.values())
        assert all(note.startswith("licence CC") for note in ledger.notes)
        sections = [text.text for text in read_texts(path, Ledger(), "section")]
        assert len(sections) >= len(whole)
        assert "".join("".join(sections).split()) == "".join("".join(whole).split())
