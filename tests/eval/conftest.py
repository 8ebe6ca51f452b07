"""An invented run: records, predictions and the folders a report reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from invented_run import invent


@pytest.fixture
def invented(tmp_path: Path) -> Path:
    """A folder with records/ and predictions/ (the model only), histories and reports of the stages before."""
    return invent(tmp_path)
