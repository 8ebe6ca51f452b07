"""Work that continues: finished pieces are appended to a file beside the output, and a later run takes them from there.

A piece is written once it is whole and in one go; what a kill left half-written at the end is cut off. The pieces belong to
one plan, so that nothing of other records, another model or other settings can slip in.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.folder import differing

PLAN = "plan.json"
PIECES = "pieces.jsonl"


class Partial:
    """`<out>.partial`: the plan and the finished pieces of an output that is not complete yet."""

    def __init__(self, out: Path, plan: dict[str, Any], *, overwrite: bool = False) -> None:
        """Open what an earlier run left, or begin.

        Args:
            plan: everything that decides the result, plain JSON values.
            overwrite: begin anew where the plan is another one.

        Raises:
            UserError: the pieces were made by another plan.
        """
        self.folder = out.with_name(out.name + ".partial")
        noted = self.folder / PLAN
        if noted.is_file():
            old = json.loads(noted.read_text(encoding="utf-8"))
            differs = differing(old, plan)
            if differs and not overwrite:
                name = differs[0]
                raise UserError(
                    f"{self.folder}: begun with {name}={old.get(name)}, now it is {plan.get(name)}; continue with the old value, remove "
                    "that folder to start over, or pass --overwrite"
                )
            if differs:
                self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not noted.is_file():
            (self.folder / PIECES).unlink(missing_ok=True)
            temporary = noted.with_suffix(".new")
            temporary.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
            temporary.replace(noted)

    def pieces(self, count: int, make: Callable[[int], Any]) -> Iterator[Any]:
        """Piece 0 to count - 1: those found, then those that `make(number)` returns (plain JSON values), each kept first."""
        path = self.folder / PIECES
        done = 0
        if path.is_file():
            with path.open("rb+") as file:
                whole = file.read().rfind(b"\n") + 1
                file.truncate(whole)
                file.seek(0)
                for line in file:
                    yield json.loads(line)
                    done += 1
        with path.open("a", encoding="utf-8") as file:
            for number in range(done, count):
                piece = make(number)
                file.write(json.dumps(piece, ensure_ascii=False) + "\n")
                file.flush()
                yield piece

    def remove(self) -> None:
        """Once the output is in place."""
        shutil.rmtree(self.folder)
