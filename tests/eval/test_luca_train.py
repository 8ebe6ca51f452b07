"""Training and prediction with LucaOne's heads: what is learnt, what is kept, files in and out as the original's."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from invented_run import CARDS, write_lines
from safetensors.torch import load_file, save_file
from samples import forget_weights
from sklearn import metrics as sk
from torch import nn

import llama_gene
from artefacts.errors import UserError
from artefacts.recipe import load
from configs import CONFIGS
from data_convert.tasks.kinds import KINDS
from data_convert.tasks.labels import read_label_file
from eval.ask.subjects import machine
from eval.baselines.embedding.command import embed
from eval.baselines.embedding.recipe import EmbedRecipe
from eval.baselines.heads.nets import Head, load_head
from eval.baselines.heads.options import Network
from eval.baselines.training import command as commanding
from eval.baselines.training import fit as fitting
from eval.baselines.training import predict as predicting
from eval.baselines.training.command import train
from eval.baselines.training.data import Data, Example, read_data, score_lines
from eval.baselines.training.features import Features
from eval.baselines.training.fit import measure
from eval.baselines.training.predict import predict
from eval.baselines.training.recipe import PredictRecipe, Schedule, TrainRecipe, departures
from eval.judge.answers import Answers, value
from eval.judge.score import score
from eval.predictions import read_lines
from eval.show.report import ReportRecipe, report

RECIPES = sorted((CONFIGS / "baselines").glob("*.yaml"))
TASKS = {"centraldogma", "supktax", "genustax", "speciestax", "protloc", "protstab", "ncrnafam", "infa", "ppi", "ncrpi"}
QUICK = {"epochs": 6, "learning_rate": 1e-2, "warmup": 0.1, "batch": 8}
AMINO = "ACDEFGHIKLMNPQRSTVWY"


def letters(rng: random.Random, alphabet: str, motif: str = "", length: int = 30) -> str:
    text = "".join(rng.choices(alphabet, k=length))
    place = rng.randrange(length)
    return text[:place] + motif + text[place:]


def official(folder: Path, kind: str, *, pair: bool = False, n: tuple[int, int, int] = (120, 30, 40)) -> Path:
    """A dataset in the original's layout whose label is given away by a motif; of a pair b has it."""
    rng = random.Random(3)
    motifs = {"binary": ["", "WWWW"], "multiclass": ["WWWW", "HHHH", "CCCC"], "regression": ["", "W", "WW", "WWW", "WWWWW"]}[kind]
    for split, rows in zip(("train", "dev", "test"), n, strict=True):
        path = folder / split / f"{split}.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(
                ["seq_id_a", "seq_id_b", "seq_type_a", "seq_type_b", "seq_a", "seq_b", "label"]
                if pair
                else ["seq_id", "seq_type", "seq", "label"]
            )
            for i in range(rows):
                code = rng.randrange(len(motifs))
                own = letters(rng, AMINO.replace("W", "").replace("H", "").replace("C", ""), motifs[code])
                label = code if kind != "regression" else code / 2
                row = [f"a{split}{i}", f"b{split}{i}", "gene", "prot", letters(rng, "ACGT"), own, label]
                writer.writerow(row if pair else [f"{split}{i}", "prot", own, label])
    if kind != "regression":
        (folder / "label.txt").write_text("label\n" + "\n".join(f"class {i}" for i in range(len(motifs))) + "\n")
    return folder


def recipe(data: Path, out: Path, kind: str, **more: Any) -> TrainRecipe:
    network = {"net": "lucappi2", "fc": [16]} if more.pop("pair", False) else {}
    given = {
        "data": data,
        "out": out,
        "loss": {"kind": kind},
        "metric": "spearman" if kind == "regression" else "accuracy",
        "network": network,
        "schedule": QUICK,
        "seed": 3,
        **more,
    }
    return TrainRecipe.model_validate(given)


# --- recipes that ship ---


def test_a_recipe_for_each_of_the_ten_tasks() -> None:
    assert {path.stem for path in RECIPES} == TASKS


SIZES = {  # parameters by the description, section 2.6
    "centraldogma": (40_010_241, 2),
    "ncrpi": (40_010_241, 2),
    "ppi": (20_021_633, 2),
    "infa": (20_021_633, 2),
    "protloc": (19_989_382, 6),
    "protstab": (56_286_465, 0),
    "ncrnafam": (53_151_960, 88),
}


LUCA, DNABERT, ESM, ONE_HOT = "LucaGroup/LucaOne-default-step36M", "zhihan1996/DNABERT-2-117M", "facebook/esm2_t36_3B_UR50D", "one-hot"
EARLY = "LucaGroup/LucaOne-default-step5.6M"
SEPARATED = "LucaGroup/LucaOne-gene-step36.8M LucaGroup/LucaOne-prot-step38.2M"
MIXED = f"{DNABERT} {ESM}"
ATTENTION, MAX = "value_attention", "max"
PUBLISHED = {
    # the scripts of the published figure: net, encoders, layers, heads, pooling, fc, learning rate, warm-up, batch, accumulation,
    # loss (with the weight of positives or those of classes), max_length, complete
    "centraldogma": ("lucappi2", EARLY, 0, 0, ATTENTION, [128], 1e-4, 100, 1, 16, "binary", 2.0, [2460, 620], True),
    "supktax": ("luca_base", LUCA, 4, 8, ATTENTION, [], 1e-4, 100, 16, 2, "multiclass", None, [1502], False),
    "genustax": ("luca_base", LUCA, 2, 4, MAX, [], 1e-4, 100, 16, 2, "multiclass", None, [1502], False),
    "speciestax": ("luca_base", LUCA, 2, 4, ATTENTION, [], 1e-4, 100, 16, 2, "multiclass", None, [1502], False),
    "protloc": ("luca_base", LUCA, 0, 0, ATTENTION, [], 1e-4, 1000, 8, 1, "multiclass", [2, 50, 1, 5, 8, 10], [5629], False),
    "protstab": ("luca_base", LUCA, 4, 8, ATTENTION, [], 1e-4, 1000, 16, 1, "regression", None, [64], False),
    "ncrnafam": ("luca_base", LUCA, 4, 8, MAX, [], 1e-4, 1000, 16, 1, "multiclass", None, [202], False),
    "infa": ("lucappi", LUCA, 0, 0, ATTENTION, [128], 2e-4, 100, 16, 1, "binary", 2.0, [1692], False),
    "ppi": ("lucappi", LUCA, 0, 0, ATTENTION, [128], 1e-4, 1000, 16, 1, "binary", 1.0, [2048], False),
    "ncrpi": ("lucappi2", LUCA, 0, 0, ATTENTION, [128], 2e-4, 100, 1, 16, "binary", 1.0, [4096], True),
}
COMPARED = {
    # the scripts of the comparisons: encoders, layers, heads, width of the Transformer (0: none), pooling, learning rate, batch,
    # accumulation, complete; one_hot but CentralDogma's, and ncRPI's separated, are ours
    "centraldogma": {
        "separated": (SEPARATED, 0, 0, 0, ATTENTION, 1e-4, 1, 8, True),
        "dnabert2_esm2": (MIXED, 0, 0, 0, ATTENTION, 1e-4, 1, 8, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 1e-4, 1, 8, False),
        "one_hot_transformer": (ONE_HOT, 4, 8, 768, ATTENTION, 1e-4, 1, 8, False),
    },
    "supktax": {
        "linear": (LUCA, 0, 0, 0, ATTENTION, 1e-4, 16, 2, False),
        "dnabert2_linear": (DNABERT, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "dnabert2": (DNABERT, 4, 8, 768, ATTENTION, 1e-4, 16, 1, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 1e-4, 16, 2, False),
    },
    "genustax": {
        "linear": (LUCA, 0, 0, 0, ATTENTION, 1e-4, 16, 2, False),
        "dnabert2_linear": (DNABERT, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "dnabert2": (DNABERT, 4, 8, 768, MAX, 1e-4, 16, 1, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 1e-4, 16, 2, False),
    },
    "speciestax": {
        "linear": (LUCA, 0, 0, 0, ATTENTION, 1e-4, 16, 2, False),
        "dnabert2_linear": (DNABERT, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "dnabert2": (DNABERT, 4, 8, 768, MAX, 1e-4, 16, 1, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 1e-4, 16, 2, False),
    },
    "protloc": {
        "linear_complete": (LUCA, 0, 0, 0, ATTENTION, 1e-4, 16, 1, True),
        "encoder": (LUCA, 4, 8, 1024, MAX, 1e-4, 16, 1, True),
        "esm2_linear": (ESM, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "esm2": (ESM, 4, 8, 1024, MAX, 1e-4, 16, 1, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 1e-4, 8, 1, False),
    },
    "protstab": {
        "linear": (LUCA, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "esm2_linear": (ESM, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "esm2": (ESM, 4, 8, 1024, ATTENTION, 1e-4, 16, 1, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
    },
    "ncrnafam": {
        "linear": (LUCA, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "dnabert2_linear": (DNABERT, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "dnabert2": (DNABERT, 4, 8, 768, MAX, 1e-4, 16, 1, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
    },
    "infa": {
        "linear": (LUCA, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "encoder": (LUCA, 4, 8, 1024, ATTENTION, 1e-4, 16, 1, False),
        "dnabert2_linear": (DNABERT, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "dnabert2": (DNABERT, 4, 8, 768, ATTENTION, 1e-4, 16, 1, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
    },
    "ppi": {
        "encoder": (LUCA, 4, 8, 1024, ATTENTION, 1e-4, 16, 1, False),
        "esm2_linear": (ESM, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
        "esm2": (ESM, 4, 8, 1024, ATTENTION, 1e-4, 16, 1, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 1e-4, 16, 1, False),
    },
    "ncrpi": {
        "encoder": (LUCA, 2, 4, 1024, ATTENTION, 2e-4, 1, 16, True),
        "separated": (SEPARATED, 0, 0, 0, ATTENTION, 2e-4, 1, 16, True),
        "dnabert2_esm2_linear": (MIXED, 0, 0, 0, ATTENTION, 2e-4, 1, 16, False),
        "dnabert2_esm2": (MIXED, 2, 4, 768, ATTENTION, 2e-4, 1, 16, False),
        "one_hot": (ONE_HOT, 0, 0, 0, ATTENTION, 2e-4, 1, 16, False),
    },
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_the_published_ones(path: Path) -> None:
    given = load(TrainRecipe, path, ["data=.", "out=."])
    net, loss, schedule = given.network, given.loss, given.schedule
    weights = loss.class_weights if loss.kind == "multiclass" else loss.pos_weight
    assert (
        *(net.net, " ".join(given.encoders), net.layers, net.heads if net.layers else 0, net.pooling, net.fc),
        *(schedule.learning_rate, schedule.warmup, schedule.batch, schedule.accumulation),
        *(loss.kind, weights, given.max_length, given.embedding_complete),
    ) == PUBLISHED[path.stem]
    own = {"binary": "accuracy", "multiclass": "accuracy", "regression": "spearman"}[loss.kind]
    found = (given.metric, given.seed, given.trunc_type, given.matrix_add_special_token, given.standardise, loss.regression)
    assert found == (own, 1221, "right", False, False, "l2")
    common = {"epochs": 50, "weight_decay": 0.01, "clip": 1.0, "patience": None, "warmup": schedule.warmup}
    of_network = {"width": 1024, "inner": 4096, "classifier": 128, "dropout": 0.1, "act": False, "zero_rows": False}
    assert schedule.model_dump().items() >= common.items()
    assert net.model_dump().items() >= of_network.items()
    systems = {given.system}
    for name, expected in COMPARED[path.stem].items():
        other = given.model_copy(update={"comparison": name}).resolved()
        n, s = other.network, other.schedule
        transformer = (n.layers, n.heads, n.width) if n.layers else (0, 0, 0)
        compared = (" ".join(other.encoders), *transformer, n.pooling, s.learning_rate, s.batch, s.accumulation, other.embedding_complete)
        assert compared == expected, name
        assert (n.net, n.fc, other.loss) == (net.net, net.fc, loss)
        assert other.max_length == ([2048] if path.stem == "ncrpi" and other.encoders == MIXED.split() else given.max_length)
        assert s.model_dump().items() >= common.items()
        assert n.model_dump().items() >= {**of_network, "width": n.width}.items()
        systems.add(other.system)
    assert given.comparisons.keys() == COMPARED[path.stem].keys()
    assert len(systems) == 1 + len(given.comparisons)  # each a column of its own in the tables
    if path.stem in SIZES:
        parameters, classes = SIZES[path.stem]
        with torch.device("meta"):
            head = Head(net, [2560] * (1 + net.pair), classes if classes > 2 else 1)
        assert sum(p.numel() for p in head.parameters()) == parameters
    with pytest.raises(UserError, match="comparison 'x' is not in the recipe"):
        given.model_copy(update={"comparison": "x"}).resolved()


# --- all ten tasks ---

MOLECULES = {
    **{name: ["gene"] for name in ("supktax", "genustax", "speciestax", "ncrnafam")},
    **{name: ["prot"] for name in ("protloc", "protstab")},
    **{name: ["gene", "prot"] for name in ("centraldogma", "ncrpi")},
    **{"infa": ["gene", "gene"], "ppi": ["prot", "prot"]},
}
CLASSES = {"supktax": 4, "genustax": 83, "speciestax": 173, "protloc": 6, "ncrnafam": 88}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_trains_and_predicts(path: Path, tmp_path: Path) -> None:
    """And its comparisons: files of the original in, a row out for every row, as the training itself predicted them.

    The letters stand for the encoders, the Transformers are narrow and there is one epoch; all else is the recipe's.
    """
    rng = random.Random(0)
    types, classes = MOLECULES[path.stem], CLASSES.get(path.stem, 2)
    columns = [name + end for name in ("seq_id", "seq_type", "seq") for end in (("_a", "_b") if len(types) == 2 else ("",))]
    for split in ("train", "dev", "test"):
        rows = []
        for i in range(8):
            texts = [letters(rng, "ACGT" if seq_type == "gene" else AMINO, length=rng.randint(6, 12)) for seq_type in types]
            label = rng.random() if path.stem == "protstab" else [0, classes - 1][i % 2]
            rows.append([*(f"{place}{split}{i}" for place in range(len(types))), *types, *texts, label])
        (tmp_path / split).mkdir()
        with (tmp_path / split / f"{split}.csv").open("w", newline="") as handle:
            csv.writer(handle).writerows([[*columns, "label"], *rows])
    (tmp_path / "label.txt").write_text("\n".join(["label", *(f"class {i}" for i in range(classes))]) + "\n")
    given = load(TrainRecipe, path, ["data=.", "out=."])
    for name in [None, *given.comparisons]:
        here = "" if name is None else f"comparisons.{name}."
        out, table = tmp_path / f"head_{name}", tmp_path / f"{name}.csv"
        line = ["baseline", "train", "--recipe", str(path), "--data", str(tmp_path), "--out", str(out), f"{here}encoders=[one-hot]"]
        line += ["schedule.epochs=1", f"{here}network.width=32", "network.inner=32", *([f"comparison={name}"] if name else [])]
        assert llama_gene.main(line) == 0
        layers = given.model_copy(update={"comparison": name}).resolved().network.layers
        inner = [part for part in load_file(out / "model.safetensors") if part.endswith(("fc1.weight", "intermediate.dense.weight"))]
        assert len(inner) == layers * len(MOLECULES[path.stem] if given.network.net == "lucappi2" else [0])
        line = ["baseline", "predict", "--model", str(out), "--input-file", str(tmp_path / "test" / "test.csv"), "--out", str(table)]
        assert llama_gene.main(line) == 0
        of_training, found = (list(csv.DictReader(file.open(newline=""))) for file in (out / "test_prediction.csv", table))
        assert [row["label"] for row in found] == [row["label"] for row in of_training] or given.loss.kind == "regression"
        assert [float(row["prob"]) for row in found] == pytest.approx([float(row["prob"]) for row in of_training], abs=1e-5)
        assert len(found) == json.loads((out / "metrics.json").read_text())["test"]["n"] == 8


# --- learning ---


@pytest.mark.parametrize(
    ("kind", "least", "more"),
    [
        ("binary", 0.9, {}),
        ("multiclass", 0.9, {"network": {"pooling": "max"}}),
        ("regression", 0.6, {"standardise": True}),
        ("binary", 0.8, {"pair": True}),
    ],
)
def test_heads_learn_and_repeat_themselves(kind: str, least: float, more: dict[str, Any], tmp_path: Path) -> None:
    data = official(tmp_path / "data", kind, pair=bool(more.get("pair")))
    figures = train(recipe(data, tmp_path / "one", kind, **more))
    again = train(recipe(data, tmp_path / "two", kind, **more))
    assert figures == again
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (tmp_path / "two" / "model.safetensors").read_bytes()
    test = figures["test"]
    assert test["interval"]["value"] > least
    assert test["interval"]["value"] == pytest.approx(test["sp_statistic" if kind == "regression" else "acc"], abs=1e-5)
    rows = list(csv.DictReader((tmp_path / "one" / "test_prediction.csv").open()))
    assert len(rows) == 40
    if kind != "regression":
        assert sum(row["label"] == row["ground_truth"] for row in rows) / 40 == pytest.approx(test["acc"])
    history = [json.loads(line) for line in (tmp_path / "one" / "history.jsonl").read_text().splitlines()]
    scores = [line["spearman" if kind == "regression" else "accuracy"] for line in history]
    assert figures["best_epoch"] == scores.index(max(scores)) + 1
    assert figures["dev"]["interval"]["value"] == pytest.approx(max(scores), abs=1e-6)


def test_stored_and_made_embeddings_train_the_same_head(tmp_path: Path) -> None:
    data = official(tmp_path / "data", "binary")
    for split in ("train", "dev", "test"):
        embed(
            EmbedRecipe.model_validate(
                {
                    "input_file": data / split / f"{split}.csv",
                    "out": tmp_path / "store",
                    "encoder": "one-hot",
                    "seq_type": "prot",
                    "save_type": "numpy",
                }
            )
        )
    made = train(recipe(data, tmp_path / "made", "binary"))
    assert train(recipe(data, tmp_path / "stored", "binary", embeddings=tmp_path / "store")) == made
    assert train(recipe(data, tmp_path / "uncached", "binary", cache_gb=0.0)) == made
    (tmp_path / "store" / "matrix_train7.pt").unlink()
    with pytest.raises(UserError, match="1 embeddings are missing, the first is that of 'train7'"):
        train(recipe(data, tmp_path / "missing", "binary", embeddings=tmp_path / "store"))


def stored(data: Path, out: Path, **more: Any) -> Path:
    """Embeddings of all splits; `columns` of pairs."""
    columns = more.pop("columns", {})
    for split in ("train", "dev", "test"):
        given = {"input_file": data / split / f"{split}.csv", "out": out, "encoder": "one-hot", "seq_type": "prot", **columns, **more}
        embed(EmbedRecipe.model_validate(given))
    return out


SHORT = {"max_length": [22], "embedding_complete": False}
"""20 letters, where there are 30 and more."""
MISMATCHES: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "encoder": ({"encoder": "kmer"}, {}, r"made by another encoder \(kmer\) than one-hot"),
    "vectors": ({"embedding_type": "vector"}, {}, "embedding_type=vector, not matrix"),
    "special": ({"matrix_add_special_token": True}, {}, "matrix_add_special_token=True, not False"),
    "shorter": ({"truncation_seq_length": 10}, {}, "with truncation_seq_length=10, the recipe has truncation_seq_length=4094"),
    "longer": ({}, SHORT, "with truncation_seq_length=4094, the recipe has truncation_seq_length=20"),
    "side": ({"trunc_type": "left", "truncation_seq_length": 20}, SHORT, "trunc_type=left, the recipe has trunc_type=right"),
    "windows": ({"embedding_fixed_len_a_time": 7}, {}, "fixed_len_a_time=7, the recipe has embedding_fixed_len_a_time=None"),
    "no windows": ({}, {"embedding_fixed_len_a_time": 7}, "fixed_len_a_time=None, the recipe has embedding_fixed_len_a_time=7"),
    "as said": ({"truncation_seq_length": 20}, SHORT, None),
    # what differs here made no difference to any sequence
    "side of what is whole": ({"trunc_type": "left", "truncation_seq_length": 50}, {}, None),
    "all anyway": ({"embedding_complete": True, "embedding_complete_seg_overlap": True, "embedding_fixed_len_a_time": 80}, {}, None),
    "rows cut later": ({}, {**SHORT, "embedding_complete": True}, None),
    "half": ({"use_bf16": True}, {}, None),
}
"""Of the store, of the recipe, and what is said of them."""


@pytest.mark.parametrize("name", MISMATCHES)
def test_what_a_store_says_of_itself_is_compared(name: str, tmp_path: Path) -> None:
    made, more, message = MISMATCHES[name]
    data = official(tmp_path / "data", "binary", n=(5, 2, 2))
    store = stored(data, tmp_path / "store", **made)
    given = recipe(data, tmp_path / "out", "binary", embeddings=store, **more)
    examples = [example for split in read_data(given).splits.values() for example in split]
    if message is not None:
        with pytest.raises(UserError, match=message):
            Features(given).check(examples)
        return
    from_disk, at_once = Features(given), Features(given.model_copy(update={"embeddings": []}))
    from_disk.check(examples)
    for a, b in zip(from_disk.matrices(examples)[0], at_once.matrices(examples)[0], strict=True):
        assert torch.equal(a, b)


def test_embeddings_of_another_sequence_are_found_before_training(tmp_path: Path) -> None:
    data = official(tmp_path / "data", "binary", n=(5, 2, 2))
    given = recipe(data, tmp_path / "out", "binary", embeddings=stored(data, tmp_path / "store"))
    edited(data, "test", 2, "test0,prot,MKV,1")
    with pytest.raises(UserError, match="embedding of 'test0' is of another sequence"):
        Features(given).check(read_data(given).splits["test"])


def test_two_encoders_from_two_folders(tmp_path: Path) -> None:
    """Each input its encoder, from disk as at once; one folder cannot hold both."""
    data = official(tmp_path / "data", "binary", pair=True, n=(20, 8, 8))
    a = stored(data, tmp_path / "a", encoder="kmer", seq_type="gene", columns={"id_idx": 0, "seq_idx": 4})
    b = stored(data, tmp_path / "b", columns={"id_idx": 1, "seq_idx": 5})
    more = {"pair": True, "encoders": ["kmer", "one-hot"], "schedule": {**QUICK, "epochs": 1}}
    at_once = train(recipe(data, tmp_path / "at_once", "binary", **more))
    assert train(recipe(data, tmp_path / "stored", "binary", embeddings=[str(a), str(b)], **more)) == at_once
    with pytest.raises(UserError, match=r"b: was made by another encoder \(one-hot\) than kmer"):
        train(recipe(data, tmp_path / "turned", "binary", embeddings=[b, a], **more))
    with pytest.raises(UserError, match=r"a: was made by another encoder \(kmer\) than one-hot"):
        train(recipe(data, tmp_path / "both", "binary", embeddings=a, **more))
    line = ["data=.", "out=.", "loss.kind=binary", "metric=accuracy"]
    assert load(TrainRecipe, None, [*line, "embeddings=[x, y]"]).embeddings == [Path("x"), Path("y")]
    assert load(TrainRecipe, None, [*line, "embeddings=x"]).embeddings == [Path("x")]
    assert load(TrainRecipe, None, [*line, "embeddings=null"]).embeddings == []  # as heads that were trained before have it
    with pytest.raises(UserError, match="embeddings"):
        load(TrainRecipe, None, [*line, "embeddings=[x, y, z]"])


def test_encoders_given_to_predict_stand_in_for_the_folder_of_training(tmp_path: Path) -> None:
    data = official(tmp_path / "binary_data", "binary", n=(20, 8, 8))
    store = stored(data, tmp_path / "store")
    train(recipe(data, tmp_path / "binary", "binary", embeddings=store, schedule={**QUICK, "epochs": 1}))
    head, new = tmp_path / "binary", {"input_file": None, "seq": "MKVWWWW", "seq_type": "prot"}
    whole = predicted(head, tmp_path / "stored.csv")
    with pytest.raises(UserError, match="1 embeddings are missing"):
        predicted(head, tmp_path / "new.csv", **new)
    assert len(predicted(head, tmp_path / "new.csv", encoders=["one-hot"], **new)) == 1
    store.rename(tmp_path / "moved")
    for name, more in {"x": {"encoders": ["one-hot"]}, "e": {"embeddings": tmp_path / "moved"}}.items():
        rows = predicted(head, tmp_path / f"{name}.csv", **more)
        assert [float(row["prob"]) for row in rows] == pytest.approx([float(row["prob"]) for row in whole], abs=1e-5)
    with pytest.raises(UserError, match="made by another encoder"):
        predicted(head, tmp_path / "both.csv", encoders=["kmer"], embeddings=tmp_path / "moved")


def test_early_stopping_and_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dev scores are dictated: the head kept is that of the best epoch, not of the last."""
    data = official(tmp_path / "data", "binary")
    scores = iter([0.2, 0.9, 0.9, 0.1, 0.1, 0.1])
    states: list[dict[str, torch.Tensor]] = []

    def dictated(fitted: fitting.Fitted, *rest: Any, shared: bool) -> np.ndarray:
        states.append({name: tensor.clone() for name, tensor in fitted.head.state_dict().items()})
        return np.zeros((30, 1))

    monkeypatch.setattr(fitting, "predict", dictated)
    monkeypatch.setattr(fitting, "selection", lambda *a: next(scores))
    given = recipe(data, tmp_path / "out", "binary", schedule={**QUICK, "patience": 2})
    fitted = fitting.fit(given, read_data(given), Features(given), torch.device("cpu"))
    assert (fitted.best_epoch, len(fitted.history)) == (2, 4)
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in fitted.head.state_dict().items())


def test_accumulated_passes_are_one_step(tmp_path: Path) -> None:
    """1 x 12 with accumulation and 12 at once, also where the last step is not full: the same head."""
    data = official(tmp_path / "data", "binary", n=(30, 10, 10))
    network = {"dropout": 0.0}
    for out, schedule in (("one", {"batch": 12}), ("two", {"batch": 3, "accumulation": 4})):
        train(recipe(data, tmp_path / out, "binary", network=network, schedule={**QUICK, "epochs": 2, **schedule}))
    one, two = (load_head(tmp_path / out, Network.model_validate(network)).state_dict() for out in ("one", "two"))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_warm_up_and_decay() -> None:
    share = fitting.learning_rate(Schedule(warmup=10), 110)
    assert [share(i) for i in (0, 9, 10, 60, 110)] == pytest.approx([1 / 11, 10 / 11, 1, 0.5, 0])
    assert fitting.learning_rate(Schedule(warmup=0.5), 100)(50) == pytest.approx(1)
    head = Head(Network(layers=1, width=16, heads=2, inner=8), [4], 1)
    kept, free = (group["params"] for group in fitting._decayed(head, 0.1))
    norms = {p for m in head.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    biases = {m.bias for m in head.modules() if isinstance(m, nn.Linear)}
    assert set(free) == norms | biases
    assert len(kept) + len(free) == len(list(head.parameters()))


def test_figures_name_where_a_recipe_is_not_the_originals(tmp_path: Path) -> None:
    data = official(tmp_path / "data", "regression", n=(24, 8, 8))
    figures = train(recipe(data, tmp_path / "out", "regression", standardise=True, schedule={**QUICK, "learning_rate": 0.002}))
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["differs_from_the_original"]
    assert found == figures["differs_from_the_original"]
    assert found["network.zero_rows"] == "False, the original has True"
    assert found["standardise"] == "True, the original has False"
    assert found["schedule.learning_rate"] == "0.002, the original has 0.0001 or 0.0002"
    for path in sorted((CONFIGS / "baselines").glob("*.yaml")):
        given = load(TrainRecipe, path, ["data=.", "out=o", "network.zero_rows=true"])
        assert departures(given) == {}, path
        assert set(departures(load(TrainRecipe, path, ["data=.", "out=o"]))) == {"network.zero_rows"}


def test_max_length_cuts_letters_before_or_rows_after(tmp_path: Path) -> None:
    data = official(tmp_path / "data", "binary", pair=True)
    given = recipe(data, tmp_path / "out", "binary", pair=True, max_length=[12, 20])
    examples = read_data(given).splits["dev"][:4]
    for more in ({}, {"embedding_complete": True}, {"embedding_complete": True, "cache_gb": 0.0}):
        a, b = Features(given.model_copy(update=more)).matrices(examples)
        assert {len(matrix) for matrix in a} == {10}
        assert {len(matrix) for matrix in b} == {18}
    left = Features(given.model_copy(update={"trunc_type": "left"})).matrices(examples)[0][0]
    right = Features(given).matrices(examples)[0][0]
    assert not torch.equal(left, right)


# --- figures ---


def test_figures_equal_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 5, 200)
    p = rng.dirichlet(np.ones(5), 200)
    data = Data("multiclass", list("abcde"), {})
    found = measure(data, [Example(str(i), (), int(g)) for i, g in enumerate(gold)], p, "accuracy", 0)
    assert found["acc"] == pytest.approx(sk.accuracy_score(gold, p.argmax(1)), abs=1e-6)
    assert "top5_acc" not in found  # of five classes
    assert found["top3_acc"] == pytest.approx(sk.top_k_accuracy_score(gold, p, k=3), abs=1e-6)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(gold, p, multi_class="ovr", average="macro"), abs=1e-6)
    assert found["interval"]["low"] < found["acc"] < found["interval"]["high"]
    many = [Example(str(i), (), [j for j in range(5) if (i >> j) & 1]) for i in range(32)]
    assert (
        measure(
            Data("multilabel", list("abcde"), {}), many, np.array([[(i >> j) & 1 for j in range(5)] for i in range(32)]), "macro_f1", 0
        )["f1"]
        == 1
    )


# --- data ---


def read_label(text: str, kind: str, names: list[str]) -> Any:
    return KINDS[kind].read_code(text, names, by_name=False)


def test_labels_and_their_files(tmp_path: Path) -> None:
    path = tmp_path / "label.txt"
    path.write_text("label\nzero\none\n")
    assert read_label_file(path) == ["zero", "one"]
    path.write_text('index,name\n1,one\n0,"zero, or none"\n')
    assert read_label_file(path) == ["zero, or none", "one"]
    path.write_text("index,name\n0,a\n2,b\n")
    with pytest.raises(UserError, match="not 0 to 1"):
        read_label_file(path)
    assert (
        read_label("1", "multiclass", ["x", "y"])
        == read_label("y", "multiclass", ["x", "y"])
        == read_label("1.0", "binary", ["x", "y"])
        == 1
    )
    assert read_label("[0, 2]", "multilabel", ["x", "y", "z"]) == [0, 2]
    for text, kind in (
        ("2", "binary"),
        ("__import__('os')", "multilabel"),
        ("[3]", "multilabel"),
        ("nan", "regression"),
        ("z", "multiclass"),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - json's own words for some
            read_label(text, kind, ["x", "y", "z"] if kind == "multilabel" else ["x", "y"])


def test_classes_that_are_called_by_numbers(tmp_path: Path) -> None:
    """A cell is an index, as the format says; names where only that fits the files; where both would do, nobody guesses."""

    def codes(names: str, cells: str) -> list[int]:
        data = tmp_path / f"{names} {cells}"
        for split in ("train", "test"):
            (data / split).mkdir(parents=True)
            lines = [f"{split}{i},prot,{'MKV' * (i + 1)},{cell}" for i, cell in enumerate(cells.split())]
            (data / split / f"{split}.csv").write_text("\n".join(["seq_id,seq_type,seq,label", *lines]) + "\n")
        (data / "label.txt").write_text("\n".join(["label", *names.split()]) + "\n")
        given = recipe(data, tmp_path / "out", "multiclass", dev_share=0.01)
        found = read_data(given)
        return [example.label for example in sorted(found.splits["test"], key=lambda example: example.id)]

    assert codes("1 2 3", "0 1 2 0") == [0, 1, 2, 0]
    assert codes("1 2 3", "0.0 1.0 2.0") == [0, 1, 2]
    assert codes("1 2 3", "1 2 3 2") == [0, 1, 2, 1]
    assert codes("0 1 2", "0 1 2") == [0, 1, 2]
    assert codes("10 20 30", "0 20 2 30") == [0, 1, 2, 2]  # no name is an index
    with pytest.raises(UserError, match=r"label\.txt: classes are called by numbers .* are indices and names alike; put a word"):
        codes("1 2 3", "1 2 1")
    with pytest.raises(UserError, match="are neither all indices nor all names"):
        codes("1 2 3", "0 1 3")


def test_class_weights_are_for_these_classes(tmp_path: Path) -> None:
    data = official(tmp_path / "data", "multiclass", n=(9, 3, 3))
    given = recipe(data, tmp_path / "out", "multiclass", loss={"kind": "multiclass", "class_weights": [2, 50, 1, 5, 8, 10]})
    with pytest.raises(UserError, match=r"3 classes \(0 is 'class 0'\), but 6 values in loss\.class_weights; give one for each class"):
        read_data(given)


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_training_that_diverges_is_told(kind: str, tmp_path: Path) -> None:
    data = official(tmp_path / "data", kind, n=(24, 8, 8))
    with pytest.raises(UserError, match=r"is no finite number; the training diverged, which a lower schedule\.learning_rate mends"):
        train(recipe(data, tmp_path / "out", kind, schedule={**QUICK, "learning_rate": 1e30, "batch": 24}))
    assert not (tmp_path / "out").exists()


def test_a_bad_test_record_does_not_cost_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = official(tmp_path / "data", "binary", n=(24, 8, 8))
    for split in ("train", "dev", "test"):
        given = {"input_file": data / split / f"{split}.csv", "out": tmp_path / "store", "encoder": "one-hot", "seq_type": "prot"}
        embed(EmbedRecipe.model_validate({**given, "save_type": "tensor"}))
    given_train = recipe(data, tmp_path / "out", "binary", embeddings=tmp_path / "store", schedule={**QUICK, "epochs": 1})

    def test_is_lost(fitted: fitting.Fitted, examples: list[Example], *rest: Any, shared: bool) -> np.ndarray:
        if examples[0].id.startswith("test"):
            raise UserError("the store is gone")
        return fitting.predict(fitted, examples, *rest, shared=shared)

    with monkeypatch.context() as patch:
        patch.setattr(commanding, "predict", test_is_lost)
        with pytest.raises(UserError, match=r"the store is gone; the head is in .*out: once that is mended, `baseline predict` tests it"):
            train(given_train)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["notes"] == ["test was not measured"]
    found = predict(
        PredictRecipe.model_validate({"model": tmp_path / "out", "input_file": data / "test" / "test.csv", "out": tmp_path / "p.csv"})
    )
    assert found == 8
    monkeypatch.setattr(commanding, "fit", lambda *a: pytest.fail("the epochs began"))
    file = tmp_path / "store" / "matrix_test3.pt"
    whole = torch.load(file, weights_only=True)
    torch.save(torch.full_like(whole, float("nan")), file)
    with pytest.raises(UserError, match="the embedding of 'test3' holds numbers that are not finite; embed it again"):
        train(given_train.model_copy(update={"out": tmp_path / "nan"}))
    torch.save(whole, file)
    edited(data, "test", 5, "test3,prot,MKVWWWWL,1")
    with pytest.raises(UserError, match="'test3' is of another sequence"):
        train(given_train.model_copy(update={"out": tmp_path / "other"}))


def test_rows_set_aside_are_told_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = official(tmp_path / "data", "binary", n=(24, 8, 8))
    edited(data, "test", 5, "x,prot,MK1,1")
    edited(data, "test", 6, "y,prot,,1")
    edited(data, "dev", 3, "z,prot,MK1K,1")
    (tmp_path / "r.yaml").write_text("loss: {kind: binary}\nmetric: accuracy\nmax_broken: 0.3\nschedule: {epochs: 1}\n")
    assert (
        llama_gene.main(["baseline", "train", "--recipe", str(tmp_path / "r.yaml"), "--data", str(data), "--out", str(tmp_path / "out")])
        == 0
    )
    notes = [
        "dev: 1 of 8 rows set aside (1 letter outside protein)",
        "test: 2 of 8 rows set aside (1 empty sequence, 1 letter outside protein)",
    ]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["notes"] == notes
    assert "".join(f"note: {note}\n" for note in notes) in capsys.readouterr().out
    with (tmp_path / "out" / "rejected.csv").open(newline="") as handle:
        header, *rejected = list(csv.reader(handle))
    assert header == ["reason", "where"]
    assert [(row[0].split(" (")[0], Path(row[1]).name, row[2:]) for row in rejected] == [
        ("letter outside protein", "dev.csv:3", ["z", "prot", "MK1K", "1"]),
        ("letter outside protein", "test.csv:5", ["x", "prot", "MK1", "1"]),
        ("empty sequence", "test.csv:6", ["y", "prot", "", "1"]),
    ]


def edited(data: Path, split: str, line: int, new: str) -> None:
    path = data / split / f"{split}.csv"
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [new]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x,prot,MKV,7", r"train.csv:5: label '7' is none of the 2 classes"),
        ("x,prot,MKV", r"train.csv:5: more or fewer fields than the header has"),
        ("train0,prot,MKV,1", r"train.csv:5: id 'train0' stands also in line 2"),
        ("x,peptide,MKV,1", r"train.csv:5: seq_type 'peptide' is not known"),
    ],
)
def test_bad_rows_of_training_data(line: str, message: str, tmp_path: Path) -> None:
    data = official(tmp_path / "data", "binary")
    edited(data, "train", 5, line)
    with pytest.raises(UserError, match=message):
        read_data(recipe(data, tmp_path / "out", "binary"))


def test_bad_sequences_are_counted_and_set_aside(tmp_path: Path) -> None:
    data = official(tmp_path / "data", "binary")
    edited(data, "train", 5, "x,prot,MK1,1")
    edited(data, "train", 6, "y,prot,,1")
    edited(data, "train", 7, "z,gene,MKVLL,1")
    found = read_data(recipe(data, tmp_path / "out", "binary"))
    assert (found.ledgers["train"]["read"], found.ledgers["train"]["written"]) == (120, 117)
    assert found.ledgers["train"]["reasons"] == {"empty sequence": 1, "letter outside gene": 1, "letter outside protein": 1}
    with pytest.raises(UserError, match="4 columns, where pairs have 7"):
        read_data(recipe(data, tmp_path / "out", "binary", pair=True))
    (data / "dev" / "dev.csv").unlink()
    assert read_data(recipe(data, tmp_path / "out", "binary")).notes == [
        "train: 3 of 120 rows set aside (1 empty sequence, 1 letter outside gene, 1 letter outside protein)",
        "dev: 12 records cut from train",
    ]
    (data / "dev" / "dev.csv").write_bytes((data / "test" / "test.csv").read_bytes())
    assert any("the test score chose the epoch" in note for note in read_data(recipe(data, tmp_path / "out", "binary")).notes)
    (data / "label.txt").unlink()
    with pytest.raises(UserError, match=r"label\.txt: no such file"):
        read_data(recipe(data, tmp_path / "out", "multiclass"))
    (data / "test" / "test.csv").unlink()
    with pytest.raises(UserError, match=r"the layout is train/train\.csv"):
        read_data(recipe(data, tmp_path / "out", "binary"))


def test_recipes_that_do_not_fit_together(tmp_path: Path) -> None:
    for more, message in (
        ({"encoders": ["one-hot", "x"]}, "two towers"),
        ({"metric": "spearman"}, "not for binary"),
        ({"standardise": True}, "for regression"),
        ({"network": {"layers": 1, "width": 30}}, "even multiple"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe(tmp_path, tmp_path / "out", "binary", **more)


# --- instruction records, tables ---


def test_records_train_and_flow_into_the_tables(invented: Path) -> None:
    records, gathered = invented / "records", invented / "luca"
    done = []
    for card in CARDS:
        first = next(line for line in read_lines(records / "train.jsonl") if line["task"] == card["id"])
        if card["kind"] == "text":
            continue
        net = {"net": "lucappi2", "fc": [8]} if len(first["inputs"]) == 2 else {}
        train(
            recipe(
                records,
                invented / f"head{len(done)}",
                card["kind"],
                network=net,
                task=card["id"],
                predictions=gathered,
                system="lucaone",
                schedule={**QUICK, "epochs": 1},
            )
        )
        done.append(card["id"])
    document = score(records, [invented / "predictions", gathered], invented / "metrics.json", seed=0)
    assert [task["task"] for task in document["tasks"] if "lucaone" in task["systems"]] == done
    differs = document["provenance"]["made_from"]["luca"]["differs"]["lucaone"]
    assert "network.zero_rows: False, the original has True" in differs
    report(ReportRecipe(metrics=invented / "metrics.json", out=invented / "report.html"))
    assert f"lucaone is not LucaOne's own recipe: {'; '.join(differs)}." in (invented / "report.html").read_text()
    assert len(done) >= 3
    with pytest.raises(UserError, match="is not here; the records hold"):
        read_data(recipe(records, invented / "x", "binary"))
    write_lines(records / "train.jsonl", [line for line in read_lines(records / "train.jsonl") if line["task"] != done[0]])
    with pytest.raises(UserError, match="has no train records"):
        read_data(recipe(records, invented / "x", CARDS[0]["kind"], task=done[0]))


@pytest.mark.parametrize(("task", "kind"), [("bench/species", "multiclass"), ("sim/promoter", "binary"), ("sim/stability", "regression")])
def test_a_shipped_head_predicts_records_for_the_tables(task: str, kind: str, invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As LucaOne ships heads, without head.json and with the classes in another order than the card's choices."""
    records, head, out = invented / "records", invented / "head", invented / "luca" / "shipped.jsonl"
    train(recipe(records, head, kind, task=task, network={"zero_rows": True}, schedule={**QUICK, "epochs": 2}))
    of_training = list(read_lines(head / "predictions" / "luca.jsonl"))
    (head / "head.json").unlink()
    (invented / "task.yaml").write_text(f"loss: {{kind: {kind}}}\nmetric: {'spearman' if kind == 'regression' else 'mcc'}\n")
    given = {"model": head, "records": records, "records_task": task, "out": out, "batch": 20, "task": invented / "task.yaml"}
    if kind != "regression":
        names = (head / "label.txt").read_text().splitlines()[1:]
        (head / "label.txt").write_text("\n".join(["label", *names[::-1]]) + "\n")
        state = load_file(head / "model.safetensors")
        for part in ("classifier.weight", "classifier.bias"):
            state[part] = -state[part] if kind == "binary" else state[part].flip(0)
        save_file(state, head / "model.safetensors")
        forget_weights(head)
    for _ in range(2):  # a second run replaces the task's lines
        assert predict(PredictRecipe.model_validate(given)) == 60
    found = list(read_lines(out))
    of_head, expected = (np.array([line["logprobs"] or line["predicted"] for line in lines]) for lines in (found, of_training))
    assert of_head == pytest.approx(expected, abs=1e-4)
    assert of_head.std(axis=0).min() > 1e-3  # the sequences matter
    assert [line["predicted"] for line in found] == [line["predicted"] for line in of_training] or kind == "regression"
    whole, calls = out.read_bytes(), []

    def stopped(*arguments: Any) -> np.ndarray:
        calls.append(arguments[1])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fitting.predict(*arguments)

    out.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(predicting, "probabilities", stopped)
        for _ in range(2):  # the second run begins with the batch that the first did not finish
            with contextlib.suppress(KeyboardInterrupt):
                predict(PredictRecipe.model_validate(given))
    assert len(calls) == 4
    assert out.read_bytes() == whole
    document = score(records, [invented / "predictions", out.parent], invented / "metrics.json", seed=0)
    assert [found["task"] for found in document["tasks"] if "shipped" in found["systems"]] == [task]
    with pytest.raises(ValueError, match=r"go to <system>\.jsonl"):
        PredictRecipe.model_validate({**given, "out": "p.csv"})
    if kind == "binary":
        (head / "label.txt").write_text("label\nyes\nno\n")
        with pytest.raises(UserError, match="has the choices promoter, background, the head yes, no; pass labels=FILE"):
            predict(PredictRecipe.model_validate(given))
        with pytest.raises(UserError, match="is multiclass with 1 inputs, which this head is not for"):
            predict(PredictRecipe.model_validate({**given, "records_task": "bench/species"}))


def test_from_a_file_of_the_original_to_a_score(tmp_path: Path) -> None:
    """GenusTax, whose records leave their many choices to the card."""
    rng, motifs = random.Random(0), ["CCCCCCCC", "GGGGGGGG", "TATATATA"]
    folder = tmp_path / "data" / "lucaone-tasks" / "GenusTax" / "gene" / "multi_class"
    for split, rows in (("train", 60), ("dev", 15), ("test", 30)):
        (folder / split).mkdir(parents=True)
        lines = [f"{split}{i},gene,{letters(rng, 'ACGT', motifs[i % 3] * 4)},{i % 3}" for i in range(rows)]
        (folder / split / f"{split}.csv").write_text("\n".join(["seq_id,seq_type,seq,label", *lines]) + "\n")
    (folder / "label.txt").write_text("label\nAlba\nBorea\nCalix\n")
    records, gathered = tmp_path / "records", tmp_path / "luca"
    assert (
        llama_gene.main(["convert", "tasks", "--cards", "lucaone/genus_tax", "--source", str(tmp_path / "data"), "--out", str(records)])
        == 0
    )
    assert "choices" not in next(read_lines(records / "test.jsonl"))
    from_csv = train(recipe(folder, tmp_path / "csv", "multiclass"))
    figures = train(recipe(records, tmp_path / "head", "multiclass", predictions=gathered, system="one_hot"))
    assert figures["test"]["n"] == from_csv["test"]["n"] == 30
    document = score(records, gathered, tmp_path / "metrics.json", seed=0)
    found = document["tasks"][0]["systems"]["one_hot"]["metrics"]["accuracy"]["value"]
    assert found == pytest.approx(figures["test"]["acc"], abs=1e-6)
    assert found > 0.6


# --- prediction ---


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A head of each kind, and their data."""
    folder = tmp_path_factory.mktemp("heads")
    found = {}
    for kind, pair in (("binary", False), ("multiclass", False), ("regression", False), ("binary", True)):
        name = "pair" if pair else kind
        data = official(folder / f"{name}_data", kind, pair=pair)
        more = {"standardise": True} if kind == "regression" else {}
        train(recipe(data, folder / name, kind, pair=pair, **more))
        found[name] = folder / name
    return found


def predicted(head: Path, out: Path, **more: Any) -> list[dict[str, str]]:
    data = head.parent / f"{head.name}_data"
    given = {"model": head, "out": out, "input_file": data / "test" / "test.csv", **more}
    predict(PredictRecipe.model_validate({key: value for key, value in given.items() if value is not None}))
    with out.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("name", ["binary", "multiclass", "regression", "pair"])
def test_prediction_equals_that_of_training(name: str, heads: dict[str, Path], tmp_path: Path) -> None:
    truth = 6 if name == "pair" else 3
    rows = predicted(heads[name], tmp_path / "p.csv", ground_truth_idx=truth, batch=7)
    expected = list(csv.DictReader((heads[name] / "test_prediction.csv").open()))
    ids = ["seq_id_a", "seq_id_b", "seq_a", "seq_b"] if name == "pair" else ["seq_id", "seq"]
    assert list(rows[0]) == [*ids, "prob", "label", "ground_truth"]
    assert [row[ids[0]] for row in rows] == [row[ids[0]] for row in expected]
    assert np.array([float(row["prob"]) for row in rows]) == pytest.approx(np.array([float(row["prob"]) for row in expected]), abs=1e-5)
    if name == "regression":
        assert all(row["label"] == row["prob"] for row in rows)
    else:
        assert [row["label"] for row in rows] == [row["label"] for row in expected]
        assert {row["ground_truth"] for row in rows} <= {"0", "1", "2"}  # the column as it stands in the file


def test_threshold_and_top_k(heads: dict[str, Path], tmp_path: Path) -> None:
    assert {row["label"] for row in predicted(heads["binary"], tmp_path / "a.csv", threshold=0.0)} == {"class 1"}
    rows = predicted(heads["multiclass"], tmp_path / "b.csv", topk=2)
    assert list(rows[0]) == ["seq_id", "seq", "top1_prob", "top1_label", "top2_probs", "top2_labels"]
    for row in rows:
        probs, labels = json.loads(row["top2_probs"]), json.loads(row["top2_labels"].replace("'", '"'))
        assert len(probs) == len(labels) == 2
        assert (probs[0], labels[0]) == (float(row["top1_prob"]), row["top1_label"])
        assert probs[0] >= probs[1]


def test_prediction_goes_on_where_it_was_stopped(heads: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "p.csv"
    whole = predicted(heads["binary"], out)
    lines = out.read_text().splitlines(keepends=True)
    marked = lines[1].replace(whole[0]["prob"], "0.123")
    out.write_text("".join([lines[0], marked, *lines[2:9], lines[9][:20]]))  # eight rows, then one cut off
    again = predicted(heads["binary"], out)
    assert again[0]["prob"] == "0.123"  # kept, not made again
    assert [row["seq_id"] for row in again] == [row["seq_id"] for row in whole]
    assert again[1:] == whole[1:]
    for more, differs in (
        ({"ground_truth_idx": 3}, "ground_truth_idx=None"),
        ({"threshold": 0.9}, "threshold=0.5"),
        ({"topk": 2}, "topk=1"),
    ):
        with pytest.raises(UserError, match=f"was made with {differs}, now .* choose another --out, or pass --overwrite"):
            predicted(heads["binary"], out, **more)
    other = shutil.copytree(heads["binary"], tmp_path / "binary")
    state = load_file(other / "model.safetensors")
    save_file({name: tensor + 0.5 for name, tensor in state.items()}, other / "model.safetensors")
    forget_weights(other)
    shutil.copytree(heads["binary"].parent / "binary_data", tmp_path / "binary_data")
    with pytest.raises(UserError, match="was made with head="):
        predicted(other, out)
    for key in ("torch", "device"):  # rows of another version or device differ in their last digits
        with monkeypatch.context() as patch:
            patch.setattr("eval.baselines.training.predict.machine", lambda key=key: {**machine(), key: "another"})
            with pytest.raises(UserError, match=f"was made with {key}=.*, now it is another; .* choose another --out"):
                predicted(heads["binary"], out)
    assert predicted(heads["binary"], out) == again
    (tmp_path / "p.csv.plan.json").unlink()  # as an older run, or the original, leaves a table
    with pytest.raises(UserError, match=r"exists, and no p\.csv\.plan\.json says what made its rows"):
        predicted(heads["binary"], out)
    given = {"model": other, "input_file": tmp_path / "binary_data" / "test" / "test.csv", "out": out}
    assert predict(PredictRecipe.model_validate(given), overwrite=True) == 40
    assert predict(PredictRecipe.model_validate(given)) == 0
    assert [row["prob"] for row in csv.DictReader(out.open())] != [row["prob"] for row in whole]


def test_another_sequence_under_an_id_is_refused(heads: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    one = {"input_file": None, "seq_type": "prot"}
    predicted(heads["binary"], out, seq="MKVAAA", **one)
    assert len(predicted(heads["binary"], out, seq=" mkvaaa*", **one)) == 1  # the same one
    assert len(predicted(heads["binary"], out, seq="WWWWWWWW", seq_id="another", **one)) == 2
    with pytest.raises(UserError, match="holds another sequence under the id 'seq'; choose another --out"):
        predicted(heads["binary"], out, seq="WWWWWWWW", **one)


def test_overwrite_removes_nothing_before_all_is_read(heads: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, bad = tmp_path / "p.csv", tmp_path / "bad.csv"
    predicted(heads["binary"], out)
    whole = out.read_bytes()
    bad.write_text("seq_id,seq_type,seq\na,prot,M1\n")
    line = ["baseline", "predict", "--model", str(heads["binary"]), "--out", str(out), "--overwrite"]
    assert llama_gene.main([*line, "--input-file", str(bad)]) == 2
    assert llama_gene.main([*line, "--seq", "MKV", "--seq-type", "prot", "--embeddings", str(tmp_path / "absent")]) == 2
    assert "absent: no such folder of embeddings" in capsys.readouterr().err
    assert out.read_bytes() == whole
    assert llama_gene.main([*line, "--seq", "MKV", "--seq-type", "prot"]) == 0
    assert len(out.read_text().splitlines()) == 2


def test_overwrite_keeps_the_lines_of_other_tasks(invented: Path) -> None:
    records, head, out = invented / "records", invented / "head", invented / "luca" / "shipped.jsonl"
    train(recipe(records, head, "binary", task="sim/promoter", schedule={**QUICK, "epochs": 1}))
    out.parent.mkdir()
    others = [{"id": f"x{i}", "task": "another/task"} for i in range(3)]
    write_lines(out, others)
    line = ["baseline", "predict", "--model", str(head), "--records", str(records), "--out", str(out), "--overwrite", "--records-task"]
    assert llama_gene.main([*line, "no/task"]) == 2
    assert list(read_lines(out)) == others
    for _ in range(2):
        assert llama_gene.main([*line, "sim/promoter"]) == 0
        assert list(read_lines(out))[:3] == others
        assert len(list(read_lines(out))) == 63


def test_inputs_without_types_fasta_and_one_sample(heads: dict[str, Path], tmp_path: Path) -> None:
    whole = predicted(heads["binary"], tmp_path / "whole.csv")
    plain, fasta = tmp_path / "plain.csv", tmp_path / "p.fa"
    plain.write_text("seq_id,seq\n" + "".join(f"{row['seq_id']},{row['seq']}\n" for row in whole))
    fasta.write_text("".join(f">{row['seq_id']}\n{row['seq']}\n" for row in whole))
    for path in (plain, fasta):
        rows = predicted(heads["binary"], tmp_path / f"{path.stem}_out.csv", input_file=path, seq_type="prot")
        assert [row["label"] for row in rows] == [row["label"] for row in whole]
        with pytest.raises(UserError, match="--seq-type"):
            predicted(heads["binary"], tmp_path / "no.csv", input_file=path)
    (one,) = predicted(heads["binary"], tmp_path / "one.csv", input_file=None, seq=whole[0]["seq"], seq_type="prot", seq_id="mine")
    assert float(one["prob"]) == pytest.approx(float(whole[0]["prob"]), abs=1e-5)
    pair = {"seq_a": "ACGT", "seq_b": "MKVWWWW", "seq_type_a": "gene", "seq_type_b": "prot"}
    assert len(predicted(heads["pair"], tmp_path / "pair.csv", input_file=None, **pair)) == 1
    with (heads["pair"].parent / "pair_data" / "test" / "test.csv").open() as handle:
        rows_of_pairs = list(csv.reader(handle))[1:]
    for name, header, rows in (
        ("binary", "id,molecule,sequence,label", [[row["seq_id"], "prot", row["seq"], "0"] for row in whole]),
        ("pair", "id1,id2,kind1,kind2,s1,s2,label", rows_of_pairs),
    ):  # columns go by position, as with the original, whatever they are called
        plain.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
        found = predicted(heads[name], tmp_path / f"{name}_by_position.csv", input_file=plain, seq_type="prot")
        expected = predicted(heads[name], tmp_path / f"{name}_named.csv")
        assert found == expected
    plain.write_text("id,molecule,sequence\nx,prot,MKVWWWW\ny,peptide,MKVWWWW\n")
    with pytest.raises(UserError, match=r"plain.csv:3: seq_type 'peptide' is not known"):
        predicted(heads["binary"], tmp_path / "peptide.csv", input_file=plain, seq_type="prot")
    with pytest.raises(UserError, match="reads pairs"):
        predicted(heads["pair"], tmp_path / "x.csv", input_file=None, seq="ACGT", seq_type="gene")


def test_bad_rows_to_predict_are_refused_or_set_aside(heads: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("seq_id,seq_type,seq\na,prot,MKV\nb,prot,M1\nc,prot,\na,prot,MMM\nd,prot," + "ACGT" * 20 + "\ne,prot,WWWW\n")
    with pytest.raises(UserError, match=r"in.csv:3: b: letter outside protein \('1' at position 2\)"):
        predicted(heads["binary"], tmp_path / "p.csv", input_file=path)
    assert not (tmp_path / "p.csv").exists()
    rows = predicted(heads["binary"], tmp_path / "p.csv", input_file=path, on_bad="set_aside", max_broken=0.7)
    assert [row["seq_id"] for row in rows] == ["a", "e"]
    with (tmp_path / "p.rejected.csv").open(newline="") as handle:
        rejected = list(csv.reader(handle))
    assert [row[2:3] for row in rejected[1:]] == [["b"], ["c"], ["a"], ["d"]]


def test_a_shipped_head_predicts(heads: dict[str, Path], tmp_path: Path) -> None:
    """As LucaOne ships them: no head.json; a recipe says what it is, and the zero rows are put back."""
    torch.manual_seed(0)
    network = Network(layers=0, zero_rows=True)
    head = Head(network, [39], 1)
    torch.save(head.state_dict(), tmp_path / "pytorch_model.bin")
    task = tmp_path / "task.yaml"
    task.write_text("encoders: [one-hot]\nloss: {kind: regression}\nmetric: spearman\nmax_length: [64]\n")
    (row,) = predicted(tmp_path, tmp_path / "p.csv", task=task, input_file=None, seq="MKVLA", seq_type="prot")
    rows = torch.nn.functional.one_hot(torch.tensor([26, 21, 13, 10, 11]), 39).float()
    x = torch.cat([torch.zeros(1, 39), rows, torch.zeros(1, 39)])[None]
    with torch.no_grad():
        assert float(row["prob"]) == pytest.approx(head.eval()((x, torch.ones(1, 7))).item(), abs=1e-6)
    with pytest.raises(UserError, match=r"no head\.json"):
        predicted(tmp_path, tmp_path / "q.csv", input_file=None, seq="MKVLA", seq_type="prot")


def test_broken_heads_are_told(heads: dict[str, Path], tmp_path: Path) -> None:
    broken = shutil.copytree(heads["binary"], tmp_path / "binary")
    for name, content, message in (
        ("head.json", b'{"recipe": {', r"head\.json: cannot be read"),
        ("head.json", b'{"recipe": {"metric": "x"}}', r"head\.json: cannot be read"),
        ("model.safetensors", (heads["binary"] / "model.safetensors").read_bytes()[:200], "not the weights that"),
        ("label.txt", b"label\nonly\n", "1 classes, but the head has"),
        ("model.safetensors", None, "no weights of a head"),
    ):
        whole = (heads["binary"] / name).read_bytes()
        if content is None:
            (broken / name).unlink()
        else:
            (broken / name).write_bytes(content)
        given = {"model": broken, "out": tmp_path / "p.csv", "seq": "MKV", "seq_type": "prot"}
        with pytest.raises(UserError, match=message):
            predict(PredictRecipe.model_validate(given))
        assert not (tmp_path / "p.csv").exists()
        (broken / name).write_bytes(whole)


def test_several_labels_of_a_record(tmp_path: Path) -> None:
    """Multilabel: two motifs, each with a label of its own, from the file of the original to a prediction table."""
    rng = random.Random(0)
    for split, rows in (("train", 150), ("dev", 30), ("test", 40)):
        (tmp_path / "data" / split).mkdir(parents=True)
        with (tmp_path / "data" / split / f"{split}.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["seq_id", "seq_type", "seq", "label"])
            for i in range(rows):
                codes = [code for code in range(2) if rng.random() < 0.5]
                motif = "".join("WWWWWW" if code == 0 else "HHHHHH" for code in codes)
                writer.writerow([f"{split}{i}", "prot", letters(rng, "ADEFGIKLMN", motif), codes])
    (tmp_path / "data" / "label.txt").write_text("label\nw\nh\n")
    given = recipe(tmp_path / "data", tmp_path / "head", "multilabel", metric="macro_f1", encoders=["kmer"])
    assert train(given)["test"]["f1"] > 0.9
    rows = predicted(tmp_path / "head", tmp_path / "p.csv", input_file=tmp_path / "data" / "test" / "test.csv", ground_truth_idx=3)
    right = [
        json.loads(row["ground_truth"]) == [["w", "h"].index(name) for name in json.loads(row["label"].replace("'", '"'))] for row in rows
    ]
    assert sum(right) > 35


def test_the_commands(heads: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = heads["binary"].parent / "binary_data"
    line = ["baseline", "train", "--recipe", str(CONFIGS / "baselines" / "ppi.yaml"), "--data", str(data), "--out", str(tmp_path / "h")]
    line += ["network.net=luca_base", "comparison=one_hot", "schedule.epochs=1", "network.fc=[]"]
    assert llama_gene.main(line) == 0
    assert "acc " in capsys.readouterr().out
    line = [
        "baseline",
        "predict",
        "--model_path",
        str(tmp_path / "h"),
        "--input_file",
        str(data / "test" / "test.csv"),
        "--save_path",
        str(tmp_path / "p.csv"),
    ]
    assert llama_gene.main([*line, "--threshold", "0.3"]) == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 41
    assert (
        llama_gene.main(["baseline", "predict", "--model", str(tmp_path / "absent"), "--seq", "A", "--seq-type", "prot", "--out", "o"]) == 2
    )
    assert "absent: no such head" in capsys.readouterr().err


def test_lines_of_a_multilabel_head_are_sets_with_scores() -> None:
    record = {"id": "t/test/0", "task": "t", "split": "test", "kind": "multilabel", "label": ["in"], "choices": ["in", "out"]}
    data = Data("multilabel", ["in", "out"], {"test": [Example("t/test/0", (), [0], record)]})
    (line,) = score_lines(data, data.splits["test"], np.array([[0.75, 0.25]]))
    assert (line["predicted"], line["item_scores"]) == (["in"], {"in": 0.75, "out": 0.25})
    # the lower threshold finds both, at the price of precision
    given = Answers("multilabel", ["in", "out"], [["in", "out"]], [line["predicted"]], None, [line["item_scores"]])
    assert value("fmax", given) == 1
    assert value("micro_f1", given) == pytest.approx(2 / 3)
