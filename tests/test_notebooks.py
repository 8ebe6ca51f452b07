"""The notebooks run from the first cell to the last, in an empty folder, and are kept without outputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from configs import CONFIGS

nbformat = pytest.importorskip("nbformat", reason="`pip install -e '.[notebooks]'` runs notebooks")
nbclient = pytest.importorskip("nbclient", reason="`pip install -e '.[notebooks]'` runs notebooks")
pytest.importorskip("ipykernel", reason="`pip install -e '.[notebooks]'` runs notebooks")
NOTEBOOKS = sorted((CONFIGS.parent / "notebooks").glob("*.ipynb"))


def test_both_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first-steps", "your-table"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert cell.cell_type == "markdown" or (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CONFIGS.parent), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    assert {"first-steps": "parameters, loss", "your-table": "promoter"}[path.stem] in said
