"""`eval predict both_strands=true`: of tasks that are the same on both strands, the mean of the two likelihoods."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import yaml
from asked_records import read
from toy_cards import CARD

from artefacts.errors import UserError
from data_convert.tasks.convert import convert
from data_convert.tasks.task_recipe import TasksRecipe
from eval.ask.predict import predict
from eval.recipe import PredictRecipe
from sequences.alphabets import reverse_complement


def converted(folder: Path, *, symmetric: bool) -> Path:
    """Records of two tasks, one of which (x/toy) may be the same on both strands."""
    draw = random.Random(1)
    rows = ["".join(draw.choices("ACGT", k=12)) for _ in range(6)]
    (folder / "x").mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("seq,label\n" + "".join(f"{row},{n % 2}\n" for n, row in enumerate(rows)))
    (folder / "turned.csv").write_text("seq,label\n" + "".join(f"{reverse_complement(row)},{n % 2}\n" for n, row in enumerate(rows)))
    cards = []
    for name, changes in {"toy": {"strand_symmetric": symmetric}, "other": {"strand_symmetric": False}}.items():
        cards.append(folder / "x" / f"{name}.yaml")
        cards[-1].write_text(yaml.safe_dump({**CARD, "id": f"x/{name}", "max_letters": 20, **changes}))
    for out, files in (("records", CARD["files"]), ("turned", {"train": "train.csv", "test": "turned.csv"})):
        tasks = [{"card": str(card), "source": folder, "files": files, "split_note": "made up"} for card in cards]
        convert(TasksRecipe.model_validate({"out": folder / out, "tasks": tasks}))
    return folder / "records"


def test_the_mean_of_both_strands_where_the_card_says_so(extended_folder: Path, tmp_path: Path) -> None:
    records = converted(tmp_path / "data", symmetric=True)
    found = {}
    for name, folder, both in (("plain", records, False), ("turned", records.parent / "turned", False), ("both", records, True)):
        predict(PredictRecipe(model=extended_folder, records=folder, out=tmp_path / name, both_strands=both, controls=["removed"]))
        found[name] = {system: read(tmp_path / name / f"{system}.jsonl") for system in ("llama-gene", "llama-gene@removed")}
    for system in ("llama-gene", "llama-gene@removed"):
        changed = 0
        for plain, turned, both in zip(*(found[name][system] for name in ("plain", "turned", "both")), strict=True):
            assert both["text"] == plain["text"]
            if plain["task"] == "x/other":
                assert both["logprobs"] == pytest.approx(plain["logprobs"], abs=1e-4)
                continue
            pairs = zip(plain["logprobs"], turned["logprobs"], strict=True)
            mean = [math.log((math.exp(one) + math.exp(two)) / 2) for one, two in pairs]
            assert both["logprobs"] == pytest.approx(mean, abs=1e-4)
            assert both["predicted"] == both["choices"][mean.index(max(mean))]
            changed += both["logprobs"] != pytest.approx(plain["logprobs"], abs=1e-4)
        assert bool(changed) == (system == "llama-gene")  # with nothing between the tags both strands are one
    assert len(list((tmp_path / "both").iterdir())) == len(list((tmp_path / "plain").iterdir()))
    assert json.loads((tmp_path / "both" / "manifest.json").read_text())["counts"]["predictions"] == 24


def test_where_no_card_says_so_it_is_refused(extended_folder: Path, tmp_path: Path) -> None:
    records = converted(tmp_path / "data", symmetric=False)
    with pytest.raises(UserError, match="no card of its tasks says strand_symmetric"):
        predict(PredictRecipe(model=extended_folder, records=records, out=tmp_path / "out", both_strands=True))
    asked = PredictRecipe(model=extended_folder, records=records, out=tmp_path / "out", both_strands=True, endpoint="http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="an endpoint does not give"):
        predict(asked)
