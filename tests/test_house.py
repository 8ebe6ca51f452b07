"""The laws of the house that CONTRIBUTING.md and docs/architecture.md state."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ["configs", "artefacts", "sequences", "pages", "tokenizer", "data_convert", "training", "pretrain", "eval", "instruct"]
"""From the ground up."""


@pytest.mark.parametrize("room", FLOORS)
def test_rooms_import_downwards_only(room: str) -> None:
    upwards = set()
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [n.name for n in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            for to in {module.partition(".")[0] for module in modules} & set(FLOORS):
                if FLOORS.index(to) > FLOORS.index(room):
                    upwards.add(f"{path.relative_to(ROOT)} -> {to}")
    assert sorted(upwards) == []


OF_TODAY = [path for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "lab-notebook"]
"""The notebook tells what was, under the names of its day."""


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", *OF_TODAY], ids=lambda path: path.stem)
def test_files_that_the_documents_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / path for path in re.findall(r"\]\(([\w./-]+)\)", text)]
    rooms = "|".join([*FLOORS, "benchmarks", "tests", "docs"])
    files = [ROOT / path for path in re.findall(rf"\b((?:{rooms})/[\w/.-]+\.(?:py|md|yaml|jinja))\b", text)]
    missing = [str(path) for path in links + files if not path.exists()]
    assert missing == []
