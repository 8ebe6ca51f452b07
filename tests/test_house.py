"""The laws of the house that CONTRIBUTING.md and docs/architecture.md state."""

from __future__ import annotations

import ast
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
