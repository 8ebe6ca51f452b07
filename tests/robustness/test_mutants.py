"""Spoilt files through every reader: each is read, and its rows counted, or refused in words that name it; never a traceback or a hang.

Sixty mutants for each reader here; `make torture` gives each 29,000, a million in all, and then looks for new paths through the
readers, guided by which lines a mutant reaches. The smallest files that ever broke the law are kept in minimal_failures.json.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import mutants as m
import pytest
import reader_fuzz as fuzz
from transformers import AutoTokenizer

FORMATS_SHARE = 0.35
"""Of the mutants that other readers get: these are checked letter by letter."""
LONG = m.MUTANTS >= 1000
pytestmark = pytest.mark.timeout(7200 if LONG else 600)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, extended_folder: Path) -> tuple[Path, dict[str, m.Target]]:
    folder = tmp_path_factory.mktemp("mutants")
    return folder, m.targets(folder, AutoTokenizer.from_pretrained(extended_folder))


@pytest.mark.parametrize("name", m.TARGETS)
def test_the_good_file_is_read(found: tuple[Path, dict[str, m.Target]], name: str) -> None:
    folder, target = found[0], found[1][name]
    path = folder / target.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(target.seed)
    target.read(path)


@pytest.mark.parametrize("name", m.TARGETS)
def test_a_mutant_is_read_or_refused(found: tuple[Path, dict[str, m.Target]], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder, target = found[0], found[1][name]
    kinds: dict[str, bytes] = {}
    for content, wrong in m.failures(target, folder, m.MUTANTS, seed=int(os.environ.get("LLAMA_GENE_SEED", "0"))):
        kind = wrong.partition(":")[0]
        if kind not in kinds:
            kinds[kind] = m.smaller(target, folder / target.name, content, wrong)
    assert not kinds, {kind: (content, m.broken_law(target, folder / target.name, content)) for kind, content in kinds.items()}


@pytest.mark.parametrize("name", fuzz.EXAMPLES)
def test_a_mutant_of_a_format_loses_nothing(tmp_path: Path, name: str) -> None:
    """Damage anywhere, and, where a format recovers, damage in one record: the records away from it come out as they were."""
    example, draw, wrong = fuzz.EXAMPLES[name], random.Random(f"{name} {os.environ.get('LLAMA_GENE_SEED', '0')}"), list[str]()
    for _ in range(int(m.MUTANTS * FORMATS_SHARE)):
        edits = fuzz.random_edits(example, draw)
        try:
            if example.recovers and draw.random() < 1 / 3:
                fuzz.check_one_record(example, edits, tmp_path, draw.randrange(1, len(example.records)))
            else:
                unit = draw.choice(("document", "section", "paragraph"))
                fuzz.check_anywhere(example, edits, tmp_path, draw.random() < 0.5, unit)
        except Exception as error:
            wrong.append(f"{edits}: {type(error).__name__}: {error}"[:1000])
    assert not wrong, wrong[:5]


@pytest.mark.parametrize(("name", "content"), [(name, one) for name, known in json.loads(m.CORPUS.read_text()).items() for one in known])
def test_what_once_broke_a_reader_breaks_it_no_more(found: tuple[Path, dict[str, m.Target]], name: str, content: str) -> None:
    folder, target = found[0], found[1][name]
    (folder / target.name).parent.mkdir(parents=True, exist_ok=True)
    assert m.broken_law(target, folder / target.name, content.encode("latin-1")) is None


@pytest.mark.skipif(not LONG, reason="make torture: coverage-guided, minutes")
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris (pip install atheris)")
@pytest.mark.parametrize("name", m.GUIDED)
def test_no_new_path_breaks_a_reader(tmp_path: Path, name: str) -> None:
    line = [sys.executable, str(Path(__file__).with_name("guided.py")), name, str(tmp_path), f"-runs={m.MUTANTS}", "-seed=1"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
