"""Packing and tasks under Ray and datatrove themselves, two workers on this machine, one of them killed: the bytes of one process."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cards import write

from artefacts.errors import UserError
from artefacts.folder import fingerprint
from data_convert.corpus import pack as packing
from data_convert.corpus import parts
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.plan import plan
from data_convert.tasks import convert as converting
from data_convert.tasks.convert import convert
from data_convert.tasks.mixing import Mix
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe

ROOT = Path(__file__).resolve().parents[2]
ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"engine={name} needs the package"))
    for name in ("ray", "datatrove")
]


@pytest.fixture
def recipe(tmp_path: Path, extended_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PackRecipe]:
    draw = random.Random(3)
    genome = tmp_path / "g.fa"
    genome.write_text("".join(f">c{i}\n{''.join(draw.choices('ACGT', k=900))}\n" for i in range(12)), encoding="utf-8")
    tests = [place for place in sys.path if Path(place).is_relative_to(ROOT / "tests")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *tests]))  # of the workers
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(packing, "TOKENS_WORTH_A_WORKER", 1)

    def make(name: str, **changes: object) -> PackRecipe:
        sources = [Source(modality="dna", files=[genome], window=200, heldout_share=0.1)]
        values = {"tokenizer": extended_folder, "out": tmp_path / name, "block_tokens": 64, "sources": sources, "workers": 2}
        return PackRecipe(**{**values, "part_bytes": 3000, "shard_blocks": 10, **changes})

    return make


def die_once(out: Path) -> None:
    if not (killed := out.with_name("killed")).exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def convert_part(job: Any) -> None:
    die_once(job[0].out)
    parts.convert_part(job)


def write_task(task: Any) -> None:
    die_once(task[1].out)
    converting._write(task)


def wrong(job: Any) -> None:
    raise UserError("g.fa:7: what is wrong; what to do")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_is_replaced_and_the_bytes_are_those_of_one_process(recipe, tmp_path, monkeypatch, engine, capfd):
    pack(recipe("local", workers=1))
    monkeypatch.setattr(packing, "convert_part", convert_part)
    pack(recipe("other", engine=engine))
    assert (tmp_path / "killed").exists()
    assert fingerprint(tmp_path / "other") == fingerprint(tmp_path / "local")
    capfd.readouterr()
    monkeypatch.setattr(packing, "convert_part", wrong)
    with pytest.raises(UserError, match=r"^g.fa:7: what is wrong; what to do$"):
        pack(recipe("wrong", engine=engine))
    assert "Traceback" not in "".join(capfd.readouterr())
    assert not (tmp_path / "wrong").exists()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", *ENGINES])
def test_tasks_of_several_workers_are_those_of_one(recipe, tmp_path, extended_folder, monkeypatch, engine):
    draw = random.Random(5)
    entries = []
    for number in range(5):
        rows = [f"{''.join(draw.choices('ACGT', k=8))},{draw.randrange(2)}" for _ in range(60)] + ["ACG?,1"]
        files = {split: f"{split}{number}.csv" for split in ("train", "test")}
        for file in files.values():
            (tmp_path / file).write_text("seq,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
        card = write(tmp_path, id=f"x/toy{number}", files=files)
        card = card.rename(card.with_name(f"toy{number}.yaml"))
        entries.append(TaskEntry(card=str(card), source=tmp_path, balance=number == 1, group="cluster" if number == 2 else None))

    def made(name: str, **more: Any) -> Path:
        mix = Mix(records=150, temperature=2)
        convert(TasksRecipe(out=tmp_path / name, tasks=entries, mix=mix, tokenizer=extended_folder, parquet=True, **more))
        return tmp_path / name

    alone = made("alone")
    if engine != "local":
        monkeypatch.setattr(converting, "_write", write_task)
    together = made("together", workers=2, engine=engine)
    assert (tmp_path / "killed").exists() == (engine != "local")
    assert fingerprint(together) == fingerprint(alone)
    assert not (together / "parts").exists()
    assert len((alone / "train.jsonl").read_text(encoding="utf-8").splitlines()) == 150
    assert (alone / "set_aside.tsv").read_text(encoding="utf-8").count("\n") == 1 + 2 * 5


class Share:
    """The step that docs/scaling.md gives to datatrove."""

    def __init__(self, recipe: PackRecipe) -> None:
        self.recipe = recipe

    def __call__(self, data=None, rank=0, world_size=1):
        pack(self.recipe.model_copy(update={"part": f"{rank + 1}/{world_size}"}))
        return data or ()


@pytest.mark.slow
def test_the_script_that_datatrove_makes_for_slurm(recipe, tmp_path, monkeypatch):
    """A stand-in of `sbatch` runs the tasks of the array in turn, but for the second; the launch is given again."""
    executor = pytest.importorskip("datatrove.executor", reason="the Slurm executor needs the package datatrove")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(
        "#!/bin/bash\n"
        'last=$(sed -n "s/^#SBATCH --array=0-//p" "${@: -1}")\n'
        f'for ((i = 0; i <= last; i++)); do [ "$i" = 1 ] && mkdir {tmp_path}/lost 2>/dev/null && continue\n'
        '  SLURM_ARRAY_TASK_ID=$i SLURM_NODELIST=node1 bash "${@: -1}" >&2 || exit 1; done\n'
        "echo Submitted batch job 7\n"
    )
    (folder / "scontrol").write_text("#!/bin/bash\necho node1\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]))

    def launch() -> None:
        executor.SlurmPipelineExecutor(
            [Share(recipe("array"))], 3, "01:00:00", "cpu", logging_dir=str(tmp_path / "logs"), with_srun=False, cpus_per_task=4
        ).run()

    launch()
    script = (tmp_path / "logs" / "launch_script.slurm").read_text()
    for line in ("#SBATCH --cpus-per-task=4", "#SBATCH --partition=cpu", "#SBATCH --time=01:00:00", "#SBATCH --array=0-2"):
        assert line in script.splitlines()
    lost = [part for part in plan(recipe("array")) if part.number % 3 == 1]
    with pytest.raises(UserError, match=f"{len(lost)} of .* parts are missing"):
        pack(recipe("array", part="merge"))
    launch()
    pack(recipe("array", part="merge"))
    pack(recipe("local", workers=1))
    assert fingerprint(tmp_path / "array") == fingerprint(tmp_path / "local")
