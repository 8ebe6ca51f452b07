"""Pieces of work: what is damaged is made again with all that follows, another plan is refused, and nothing of the user's goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts.errors import UserError
from artefacts.folder import new_file, write_manifest
from artefacts.owner import owned, pieces_of
from artefacts.resume import check_rejected, rejected_path, work_on, write_rejected


class Stopped(Exception):
    """A run that ends in the middle."""


def go(out: Path, items: int, made: list[int], stop: int | None = None, plan: str = "a", **options: bool) -> list[int]:
    def make(item: int) -> int:
        if item == stop:
            raise Stopped
        made.append(item)
        return item * item

    with work_on(out, {"plan": plan}, **options) as work:
        return list(work.each(range(items), make))


@given(stop=st.integers(1, 7), place=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_the_pieces_from_there_on(tmp_path_factory, stop, place, bit):
    out, made = tmp_path_factory.mktemp("work") / "out", list[int]()
    with pytest.raises(Stopped):
        go(out, 8, made, stop)
    assert made == list(range(stop))
    pieces = pieces_of(out)
    raw = bytearray(pieces.read_bytes())
    at = min(int(place * len(raw)), len(raw) - 1)
    raw[at] ^= 1 << bit
    pieces.write_bytes(raw)
    whole = bytes(raw[:at]).count(b"\n")  # lines above the damage
    made.clear()
    assert go(out, 8, made) == [number**2 for number in range(8)]
    assert made == list(range(whole, 8))
    assert not pieces.exists()


def test_pieces_in_another_order_and_another_plan_are_refused(tmp_path):
    out, made = tmp_path / "out", list[int]()
    with pytest.raises(Stopped):
        go(out, 8, made, 4)
    pieces = pieces_of(out)
    lines = pieces.read_bytes().splitlines(keepends=True)
    pieces.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(UserError, match="piece 1 stands in place of 0"):
        go(out, 8, made)
    with pytest.raises(UserError, match="was made with plan=a, now it is b"):
        go(out, 8, made, plan="b")
    assert go(out, 3, made, plan="b", overwrite=True) == [0, 1, 4]


def test_a_user_s_table_in_the_place_of_the_rejected_rows_stays(tmp_path):
    out = tmp_path / "out.csv"
    rejected_path(out).write_text("mine\n")
    with pytest.raises(UserError, match=r"out\.rejected\.csv: is to hold the rows that cannot be used, but is none of ours"):
        check_rejected(out)
    for rows in ([], [["x:2", "empty"]]):
        with pytest.raises(UserError, match="none of ours"):
            write_rejected(out, ("where", "reason"), rows)
    assert rejected_path(out).read_text() == "mine\n"
    rejected_path(out).unlink()
    with new_file(out) as file:
        file.write_text("table\n")
        write_manifest(
            out, "prediction", recipe={}, inputs={}, counts={}, rejected=write_rejected(out, ("where", "reason"), [["x:2", "empty"]])
        )
    check_rejected(out)
    assert write_rejected(out, ("where", "reason"), []) is None
    assert not rejected_path(out).exists()


def test_what_a_kill_left_behind_a_finished_output_goes_and_newer_work_stays(tmp_path: Path) -> None:
    """Killed between the output's name and the end of its pieces, a run left them for good: the next one refuses to write."""
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        go(out, 8, [], 4)
    out.write_text("finished\n")
    with owned(out):
        pass
    assert not pieces_of(out).parent.exists()
    os.utime(out, (0, 0))
    with pytest.raises(Stopped):
        go(out, 8, [], 4, overwrite=True)
    with owned(out):
        pass
    assert pieces_of(out).is_file()
    assert out.read_text() == "finished\n"
