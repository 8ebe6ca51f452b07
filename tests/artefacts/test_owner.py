"""An output has one owner; whoever comes second is told who it is, and what a killed one left goes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from holding import other

from artefacts.errors import UserError
from artefacts.folder import new_folder, write_manifest
from artefacts.owner import owned, release


def test_the_second_is_told_who_is_at_work(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    with other(out) as process:
        for name in (out, tmp_path / "link" / "out", out.parent / "x" / ".." / "out"):
            with pytest.raises(UserError, match=rf"out: process {process.pid} on \S+ \(since 20.+\) is at work there; wait"), owned(name):
                pytest.fail("two at one output")
        process.send_signal(signal.SIGSTOP)  # paused, it still is its owner
        with pytest.raises(UserError, match="is at work there"), new_folder(out):
            pytest.fail("two at one output")
        with owned(tmp_path / "another"):
            pass
        process.kill()
        process.wait()
        with owned(out):
            pass
    assert list(out.parent.iterdir()) == []


def test_a_function_below_holds_what_its_command_holds(tmp_path: Path) -> None:
    with owned(tmp_path / "out"):
        with new_folder(tmp_path / "out") as folder:
            (folder / "a").touch()
        with owned(tmp_path / "out"):
            pass
        assert (tmp_path / ".out.lock").exists()
        with other(tmp_path / "free"):
            pass
        release(tmp_path / "out")
        with other(tmp_path / "out"):
            pass
    assert not (tmp_path / ".out.lock").exists()


def test_several_may_share(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with other(out, "shared"):
        with owned(out, shared=True):
            pass
        with pytest.raises(UserError, match="is at work there"), owned(out):
            pytest.fail("alone beside another")
    with owned(out), pytest.raises(AssertionError), other(out, "shared"):
        pytest.fail("shared beside the one that is alone")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_named_and_removed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with other(out, "work") as process:
        (left,) = tmp_path.glob(".out.partial-*")
        process.kill()
        process.wait()
        assert (left / "half").exists()
    (tmp_path / ".output.partial-1").mkdir()  # of another name
    capfd.readouterr()
    with owned(out):
        assert not left.exists()
    assert f"{left}: left by a run that was killed; removed\n" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".output.partial-1"]


def test_a_run_killed_while_it_replaced_loses_neither(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_folder(out) as folder:
        write_manifest(folder, "test", recipe={}, inputs={}, counts={})
    child = os.fork()
    if not child:
        rename = Path.rename

        def once(self: Path, target: Path) -> Path:
            rename(self, target)
            os.kill(os.getpid(), signal.SIGKILL)
            return target

        Path.rename = once  # type: ignore[method-assign]
        with new_folder(out, overwrite=True):
            pass
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not out.exists()
    with owned(out):
        assert (out / "manifest.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"out: cannot be written \(Permission denied\)"), owned(tmp_path / "out"):
        pytest.fail("held")


def test_where_a_file_stands_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="out: cannot be written"), owned(tmp_path / "file" / "out"):
        pytest.fail("held")


def test_what_lay_beside_the_output_of_a_killed_run_goes_too(tmp_path: Path) -> None:
    left = [tmp_path / f".{name}.partial-1" for name in ("out.csv", "out.csv.manifest.json", "out.rejected.csv")]
    other = tmp_path / ".out.csv.gz.partial-1"
    for path in [*left, other]:
        path.write_text("half")
    with owned(tmp_path / "out.csv"):
        assert [path for path in [*left, other] if path.exists()] == [other]
