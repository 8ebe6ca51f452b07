"""The table of docs/lucaone.md, a check for every row: the commands of LucaOneTasks' documentation with nothing changed but paths."""

from __future__ import annotations

import argparse
import csv
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_luca_surface import SIZE

import llama_gene
from artefacts.errors import UserError
from artefacts.recipe import load
from eval.baselines.embedding.command import embed
from eval.baselines.embedding.recipe import EmbedRecipe
from eval.baselines.embedding.store import StoreReader
from eval.baselines.heads.nets import Head, batch
from eval.baselines.heads.options import Network
from eval.baselines.lucaone import checkpoint, published
from eval.baselines.lucaone.tokenizer import LucaOneTokenizer
from eval.baselines.training.recipe import TrainRecipe

ROOT = Path(__file__).parents[2]
SEED = ROOT.parent / "shared" / "seeds" / "lucaone_tasks_readme.txt"
PROTEINS = {"p1": "MKVLAAGWTYACDE", "p2": "ACDEFGHIKLMNPQRSTVWY" * 2, "p3": "MKK"}
GENES = {"g1": "ACGTTGCAACGT" * 2, "g2": "ACGTNNACG"}
VERSIONS = {("lucaone", 36000000): 1, ("lucaone", 5600000): 2, ("lucaone-gene", 36800000): 3, ("lucaone-prot", 30000000): 4}
EMBED = """get_embedding.py \
    --llm_dir {root} \
    --llm_type lucaone \
    --llm_version lucaone \
    --llm_step 36000000 \
    --truncation_seq_length 4096 \
    --trunc_type right \
    --seq_type prot \
    --input_file {root}/prot.fasta \
    --save_path {out} \
    --embedding_type matrix \
    --matrix_add_special_token \
    --embedding_complete \
    --embedding_complete_seg_overlap \
    --use_bp16 \
    --gpu_id 0"""
PREDICT = """predict_v1.py \
    --input_file {root}/pairs.csv \
    --llm_truncation_seq_length 4096 \
    --model_path {root} \
    --save_path {out} \
    --dataset_name CentralDogma \
    --dataset_type gene_protein \
    --task_type binary_class \
    --task_level_type seq_level \
    --model_type lucappi2 \
    --input_type matrix \
    --input_mode pair \
    --time_str 20240406173806 \
    --print_per_num 1000 \
    --step 64000 \
    --threshold 0.5 \
    --gpu_id 0"""
COMMANDS = {"get_embedding.py": ["baseline", "embed"], "predict_v1.py": ["baseline", "predict"]}


@dataclass
class Bench:
    """What a check works with."""

    root: Path
    """The original's layout."""
    out: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, command: str, *more: str, without: str = "") -> int:
        """The exit code of a command; flags of `more` stand in for the command's own."""
        program, *words = shlex.split(command.format(root=self.root, out=self.out))
        flag, flags = "", dict[str, list[str]]()
        for word in [*words, *more]:
            if word.startswith("--"):
                flag, flags[word] = word, []
            else:
                flags[flag] = [word]
        flags = {flag: values for flag, values in flags.items() if flag not in without.split()}
        return llama_gene.main([*COMMANDS[program], *(word for flag, values in flags.items() for word in (flag, *values))])

    def refused(self, command: str, *more: str, without: str = "") -> str:
        """The one line that a command ends in."""
        self.capsys.readouterr()
        assert self.run(command, *more, without=without) == 2
        said = [line for line in self.capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(said) == 1
        return said[0]

    def matrix(self, name: str, kind: str = "matrix") -> np.ndarray:
        """A file as the original's tools read it."""
        found = torch.load(self.out / f"{kind}_{name}.pt", weights_only=False)
        assert isinstance(found, np.ndarray)
        return found

    def rows(self) -> list[dict[str, str]]:
        with self.out.open(newline="") as handle:
            return list(csv.DictReader(handle))


def encoder(root: Path, version: str = "lucaone", step: int = 36000000) -> Path:
    return root / "llm" / "models" / "lucaone" / version / f"checkpoint-step{step}"


def states(folder: Path, letters: str, kind: str) -> np.ndarray:
    """Rows of [CLS], letters, [SEP]."""
    with torch.no_grad():
        return checkpoint.load(folder)(**LucaOneTokenizer()(letters, seq_type=kind, return_tensors="pt")).last_hidden_state[0].numpy()


def write_encoder(folder: Path, seed: int) -> None:
    """As the original's training saves one."""
    torch.manual_seed(seed)
    model = published.LucaGPLMForMaskedLM(published.LucaGPLMConfig(**SIZE))
    names = {name: re.sub(r"^lucaone\.(embeddings|encoder)\.", "", name) for name in model.state_dict()}
    state = {names[name].replace("lm_head.decoder", "lm_head"): tensor for name, tensor in model.state_dict().items()}
    folder.mkdir(parents=True)
    torch.save(state, folder / "pytorch.pth")
    (folder / "config.json").write_text('{"num_attention_heads": 4, "num_hidden_layers": 36}')


def write_head(root: Path, place: str, step: int, head: Head, names: list[str], arguments: dict[str, Any] | None) -> None:
    folder = root / "models" / place / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    torch.save(head.state_dict(), folder / "pytorch_model.bin")
    if arguments is not None:
        torch.save(argparse.Namespace(**arguments), folder / "training_args.bin")
    (root / "logs" / place).mkdir(parents=True)
    (root / "logs" / place / "label.txt").write_text("\n".join(["label", *names]) + "\n")


DOGMA, LOCATION = Network(net="lucappi2", fc=[128], zero_rows=True), Network(zero_rows=True)
PLACES = ["CYtoplasmicMembrane", "Cellwall", "Cytoplasmic", "Extracellular", "OuterMembrane", "Periplasmic"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of LucaOneTasks with checkpoints and heads, all of them small."""
    root = tmp_path_factory.mktemp("LucaOneTasks")
    for (version, step), seed in VERSIONS.items():
        write_encoder(encoder(root, version, step), seed)
    older = "models/lucagplm/v2.0/token_level,span_level,seq_level,structure_level/lucaone_gplm/20231125113045/checkpoint-step17600000"
    write_encoder(root / "llm" / older, 5)
    torch.manual_seed(9)
    dogma, location = Head(DOGMA, [32, 32], 1), Head(LOCATION, [32], 6)
    arguments = {"llm_type": "lucaone", "llm_version": "lucaone", "llm_step": "36000000", "embedding_complete": True, "device": None}
    write_head(root, "CentralDogma/gene_protein/binary_class/lucappi2/matrix/20240406173806", 64000, dogma, ["no", "yes"], None)
    write_head(root, "ProtLoc/protein/multi_class/luca_base/matrix/20240412140824", 466005, location, PLACES, arguments)
    for kind, sequences in (("prot", PROTEINS), ("gene", GENES)):
        (root / f"{kind}.fasta").write_text("".join(f">{name}\n{letters}\n" for name, letters in sequences.items()))
        lines = [f"clan,family,{name},{letters}" for name, letters in sequences.items()]
        (root / f"{kind}.csv").write_text("\n".join(["clan_id,pfam_id,protein_id,protein_seq", *lines]) + "\n")
    pairs = [f"{gene},{protein},gene,prot,{GENES[gene]},{PROTEINS[protein]}" for gene, protein in (("g1", "p1"), ("g2", "p3"))]
    (root / "pairs.csv").write_text("\n".join(["seq_id_a,seq_id_b,seq_type_a,seq_type_b,seq_a,seq_b", *pairs]) + "\n")
    return root


@pytest.fixture
def bench(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(root, tmp_path / "out", capsys)


def probability(network: Network, root: Path, place: str, step: int, inputs: list[np.ndarray], outputs: int) -> np.ndarray:
    head = Head(network, [32] * len(inputs), outputs)
    head.load_state_dict(torch.load(root / "models" / place / f"checkpoint-{step}" / "pytorch_model.bin"))
    with torch.no_grad():
        logits = head.eval()(*(batch([torch.from_numpy(rows)], zero_rows=True) for rows in inputs))[0]
    return (torch.sigmoid(logits) if outputs == 1 else torch.softmax(logits, dim=0)).numpy()


LOCATE = "--dataset_name ProtLoc --dataset_type protein --task_type multi_class --model_type luca_base --input_mode single --step 466005"
AS_LOCATION = [*LOCATE.split(), "--time_str", "20240412140824"]


def test_from_fasta_to_predictions_by_the_commands_of_the_original(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Embedded from FASTA into the original's files; then a pair of CSV, and FASTA, to prediction tables."""
    folder, table = bench.out, bench.out.parent / "results" / "predicted.csv"
    assert bench.run(EMBED) == 0
    assert "3 embedded with" in capsys.readouterr().out
    for name, letters in PROTEINS.items():
        assert bench.matrix(name) == pytest.approx(states(encoder(bench.root), letters, "prot"), abs=0.05)  # bf16
    bench.out = table
    assert bench.run(PREDICT) == 0
    rows = bench.rows()
    assert list(rows[0]) == ["seq_id_a", "seq_id_b", "seq_a", "seq_b", "prob", "label"]
    first = encoder(bench.root, step=5600000)  # a head that does not say what it was trained on
    for row in rows:
        inputs = [states(first, row["seq_a"], "gene")[1:-1], states(first, row["seq_b"], "prot")[1:-1]]
        place = "CentralDogma/gene_protein/binary_class/lucappi2/matrix/20240406173806"
        (expected,) = probability(DOGMA, bench.root, place, 64000, inputs, 1)
        assert float(row["prob"]) == pytest.approx(expected, abs=1e-5)
        assert row["label"] == ("yes" if expected >= 0.5 else "no")
    bench.out = table.with_name("located.csv")
    assert bench.run(PREDICT, *AS_LOCATION, "--input_file", str(bench.root / "prot.fasta"), "--seq_type", "prot") == 0
    for row in bench.rows():
        rows_of_letters = states(encoder(bench.root), row["seq"], "prot")[1:-1]  # 36M, as its training_args.bin says
        place = "ProtLoc/protein/multi_class/luca_base/matrix/20240412140824"
        expected = probability(LOCATION, bench.root, place, 466005, [rows_of_letters], 6)
        assert float(row["prob"]) == pytest.approx(expected.max(), abs=1e-5)
        assert row["label"] == PLACES[expected.argmax()]
    assert folder.is_dir()


# --- a check for every row of the table ---

Check = Callable[[Bench], None]
CHECKS: dict[str, Check] = {}


def row(*names: str) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        CHECKS.update(dict.fromkeys(names, check))
        return check

    return add


@row("`get_embedding.py`", "`--input_file`, `--save_path`")
def _embedding(bench: Bench) -> None:
    for kind, ids in (("prot.csv", ["--id_idx", "2", "--seq_idx", "3"]), ("prot.fasta", [])):
        bench.out = bench.out.with_name(kind)
        assert bench.run(EMBED, "--input_file", str(bench.root / kind), *ids) == 0
        assert {path.name for path in bench.out.glob("*.pt")} == {f"matrix_{name}.pt" for name in PROTEINS}
    assert "give one of them" in bench.refused(EMBED, "--out", str(bench.out / "other"))


@row("`--llm_dir`", "`--llm_type`, `--llm_version`, `--llm_step`")
def _llm_dir(bench: Bench) -> None:
    for (version, step), kind in zip(VERSIONS, ("prot", "prot", "gene", "prot"), strict=True):
        bench.out = bench.out.with_name(f"{version}-{step}")
        given = ["--llm_version", version, "--llm_step", str(step), "--seq_type", kind, "--input_file", str(bench.root / f"{kind}.fasta")]
        assert bench.run(EMBED, *given, without="--use_bp16") == 0
        name, letters = next(iter((PROTEINS if kind == "prot" else GENES).items()))
        assert bench.matrix(name) == pytest.approx(states(encoder(bench.root, version, step), letters, kind), abs=1e-5)
    bench.out = bench.out.with_name("without-step")  # 30000000, as documented
    assert bench.run(EMBED, "--llm_version", "lucaone-prot", without="--use_bp16 --llm_step") == 0
    bench.out = bench.out.with_name("older-layout")
    assert bench.run(EMBED, "--llm_step", "17600000") == 0
    bench.out = bench.out.with_name("model-folder")
    model = ["--llm_dir", str(encoder(bench.root))]
    assert bench.run(EMBED, *model, without="--llm_type --llm_version --llm_step") == 0
    assert "llm_type, llm_version, llm_step choose nothing" in bench.refused(EMBED, *model)
    assert "no such folder; give the root" in bench.refused(EMBED, "--llm_dir", str(bench.root / "absent"))
    assert "both name an encoder" in bench.refused(EMBED, "--encoder", "one-hot")
    assert "lucaone-prot, 'lucaone-" not in bench.refused(EMBED, "--llm_version", "v9")


@row("download from the FTP")
def _download(bench: Bench) -> None:
    empty = bench.out.parent / "empty"
    empty.mkdir()
    prot = ["--llm_dir", str(empty), "--llm_version", "lucaone-prot", "--llm_step", "30000000"]
    said = bench.refused(EMBED, *prot)
    assert "fetch http://47.93.21.181/lucaone/TrainedCheckPoint/latest/models/lucaone/lucaone-prot/checkpoint-step30000000/" in said
    assert "or take llm_step=38200000" in said
    assert "not on the hub" in bench.refused(EMBED, *prot, without="--llm_dir")
    made = EmbedRecipe.model_validate({"seq": "MK", "out": "o", "seq_type": "prot", "llm_dir": str(empty), "llm_step": 17600000})
    assert made.encoder_name() == "LucaGroup/LucaOne-default-step17.6M"
    assert "LucaOne-default-step17.6M is taken" in bench.capsys.readouterr().err
    assert "DownstreamTasksTrainedModels" in bench.refused(PREDICT, "--model_path", str(empty))


@row("`--embedding_type`")
def _embedding_type(bench: Bench) -> None:
    whole = states(encoder(bench.root), PROTEINS["p1"], "prot")
    for given, expected in (([], whole[0]), (["--vector_type", "mean"], whole[1:-1].mean(axis=0))):
        bench.out = bench.out.with_name(f"vector{len(given)}")
        assert bench.run(EMBED, "--embedding_type", "vector", *given, without="--use_bp16 --matrix_add_special_token") == 0
        assert bench.matrix("p1", "vector") == pytest.approx(expected, abs=1e-5)
    assert "matrix_add_special_token is for embedding_type=matrix" in bench.refused(EMBED, "--embedding_type", "vector")
    assert "vector_type is for embedding_type=vector" in bench.refused(EMBED, "--vector_type", "mean")


@row("`--trunc_type`, `--truncation_seq_length`")
def _truncation(bench: Bench) -> None:
    for side, letters in (("right", PROTEINS["p2"][:5]), ("left", PROTEINS["p2"][-5:])):
        bench.out = bench.out.with_name(side)
        given = ["--trunc_type", side, "--truncation_seq_length", "5"]
        assert bench.run(EMBED, *given, without="--use_bp16 --embedding_complete --embedding_complete_seg_overlap") == 0
        assert bench.matrix("p2") == pytest.approx(states(encoder(bench.root), letters, "prot"), abs=1e-5)


@row("`--matrix_add_special_token`")
def _special(bench: Bench) -> None:
    assert bench.run(EMBED, without="--matrix_add_special_token --use_bp16") == 0
    assert bench.matrix("p1") == pytest.approx(states(encoder(bench.root), PROTEINS["p1"], "prot")[1:-1], abs=1e-5)


@row("`--seq_type`")
def _seq_type(bench: Bench) -> None:
    assert "letter outside gene" in bench.refused(EMBED, "--seq_type", "gene")
    assert "'seq_type' is missing" in bench.refused(EMBED, without="--seq_type")
    assert not bench.out.exists()  # a first try that failed binds nothing
    assert bench.run(EMBED) == 0


@row("`--embedding_complete`, `--embedding_complete_seg_overlap`, `--embedding_fixed_len_a_time`")
def _complete(bench: Bench) -> None:
    assert bench.run(EMBED, "--truncation_seq_length", "5", "--embedding_fixed_len_a_time", "10") == 0
    assert bench.matrix("p2").shape == (42, 32)  # all 40 letters
    assert "passes" in (bench.out / "index.jsonl").read_text()


@row("`--use_bp16`")
def _bp16(bench: Bench) -> None:
    exact = states(encoder(bench.root), PROTEINS["p1"], "prot")
    assert bench.run(EMBED) == 0
    found = bench.matrix("p1")
    assert found.dtype == np.float32
    assert found == pytest.approx(exact, abs=0.05)
    assert not np.allclose(found, exact, atol=1e-6)


@row("`--gpu_id`")
def _gpu(bench: Bench) -> None:
    assert bench.run(EMBED, "--gpu_id", "-1") == 0
    assert "no such GPU" in bench.refused(EMBED, "--gpu_id", "63", "--save_path", f"{bench.out}63")


@row("`--id_idx`, `--seq_idx`")
def _columns(bench: Bench) -> None:
    assert "a FASTA file has no columns" in bench.refused(EMBED, "--id_idx", "2", "--seq_idx", "3")
    assert "no column '9'" in bench.refused(EMBED, "--id_idx", "9", "--input_file", str(bench.root / "prot.csv"))


@row("`predict_v1.py`, `prediction.sh`", "`--input_file`, `--save_path` of predictions")
def _prediction(bench: Bench) -> None:
    assert bench.run(PREDICT) == 0
    assert [(row["seq_id_a"], row["seq_id_b"]) for row in bench.rows()] == [("g1", "p1"), ("g2", "p3")]
    assert bench.run(PREDICT) == 0  # goes on where it was: nothing to do
    assert "0 predicted" in bench.capsys.readouterr().out


@row("`--model_path`", "`--dataset_name`, `--dataset_type`, `--time_str`, `--step`")
def _model_path(bench: Bench) -> None:
    for flag in ("--dataset_name", "--dataset_type", "--time_str", "--step"):
        assert "no such head" in bench.refused(PREDICT, flag, "7")
        assert f"only together with {flag[2:]}" in bench.refused(PREDICT, without=flag)
    alone = bench.root / "models/CentralDogma/gene_protein/binary_class/lucappi2/matrix/20240406173806/checkpoint-64000"
    given = ["--model_path", str(alone), "--task", str(ROOT / "configs/baselines/centraldogma.yaml")]
    given += [
        "--encoders",
        str(encoder(bench.root)),
        "--labels",
        str(bench.root / alone.parent.as_posix().replace("/models/", "/logs/") / "label.txt"),
    ]
    assert bench.run(PREDICT, *given, without="--dataset_name --dataset_type --time_str --step") == 0


@row("`--task_type`, `--model_type`, `--input_mode`")
def _agreeing(bench: Bench) -> None:
    place = [*AS_LOCATION, "--input_file", str(bench.root / "prot.fasta"), "--seq_type", "prot"]
    for flag, other in (("--task_type", "regression"), ("--model_type", "lucappi")):
        assert "no such head" in bench.refused(PREDICT, *place, flag, other)
    assert "is single" in bench.refused(PREDICT, *place, "--input_mode", "pair")


@row("`--task_level_type`")
def _level(bench: Bench) -> None:
    assert "fine-tune LucaOneForTokenClassification" in bench.refused(PREDICT, "--task_level_type", "token_level")
    place = "Tokens/protein/multi_class/luca_base/matrix/20240412140824"
    write_head(bench.root, place, 1, Head(LOCATION, [32], 6), PLACES, {"task_level_type": "token_level", "device": None})
    given = ["--dataset_name", "Tokens", "--step", "1", "--task", str(ROOT / "configs/baselines/protloc.yaml")]
    given += ["--input_file", str(bench.root / "prot.fasta"), "--seq_type", "prot"]
    said = bench.refused(PREDICT, *AS_LOCATION, *given)
    assert "training_args.bin: says task_level_type=token_level, and the head is read as seq_level" in said


@row("`--input_type`")
def _input_type(bench: Bench) -> None:
    assert "heads read matrices only" in bench.refused(PREDICT, "--input_type", "vector")


@row("`--llm_truncation_seq_length`")
def _longest(bench: Bench) -> None:
    """No fewer rows than the head was trained with, and more where more are asked for."""
    letters = "ACDEFGHIKLMNPQRSTVWY" * 300
    fasta = bench.out.parent / "long.fasta"
    fasta.write_text(f">long\n{letters}\n")
    place = [*AS_LOCATION, "--input_file", str(fasta), "--seq_type", "prot"]
    found = []
    for limit in ("7000", "5629", "100"):
        bench.out = bench.out.with_name(f"{limit}.csv")
        assert bench.run(PREDICT, *place, "--llm_truncation_seq_length", limit) == 0
        found.append(float(bench.rows()[0]["prob"]))
    assert found[1] == found[2] != found[0]


@row("`--print_per_num`")
def _print(bench: Bench) -> None:
    assert bench.run(PREDICT, "--print_per_num", "1") == 0
    assert "predicted 2 of 2" in bench.capsys.readouterr().out


@row("`--threshold`")
def _threshold(bench: Bench) -> None:
    assert bench.run(PREDICT, "--threshold", "0") == 0
    assert {row["label"] for row in bench.rows()} == {"yes"}


@row("`--seq_id`, `--seq_type`, `--seq`, and of pairs `--seq_id_a`, `--seq_type_a`, `--seq_a`, `--seq_id_b`, `--seq_type_b`, `--seq_b`")
def _one_sample(bench: Bench) -> None:
    assert bench.run(PREDICT) == 0
    first = bench.rows()[0]
    bench.capsys.readouterr()
    pair = ["--seq_id_a", "g1", "--seq_type_a", "gene", "--seq_a", first["seq_a"], "--seq_id_b", "p1", "--seq_type_b", "prot"]
    assert bench.run(PREDICT, *pair, "--seq_b", first["seq_b"], without="--input_file --save_path") == 0
    *said, prob, label = bench.capsys.readouterr().out.splitlines()
    assert said == ["Predicted Result:", "seq_id_a=g1, seq_id_b=p1", f"seq_a={first['seq_a']}", f"seq_b={first['seq_b']}"]
    assert float(prob.removeprefix("prob=")) == pytest.approx(float(first["prob"]), abs=1e-5)
    assert label == f"label={first['label']}"
    one = ["--seq_id", "p1", "--seq_type", "prot", "--seq", PROTEINS["p1"]]
    assert bench.run(PREDICT, *AS_LOCATION, *one, without="--input_file --save_path") == 0
    assert "Predicted Result:\nseq_id=p1\nseq=MKVLAAGWTYACDE\nprob=0." in bench.capsys.readouterr().out
    assert "'out' is missing; pass --out FILE" in bench.refused(PREDICT, without="--save_path")
    assert "say what the sequence is" in bench.refused(PREDICT, *AS_LOCATION, "--seq", "MK", without="--input_file --save_path")
    assert "letter outside" in bench.refused(PREDICT, *AS_LOCATION, *one[:4], "--seq", "M1K", without="--input_file --save_path")
    assert "this head reads pairs" in bench.refused(PREDICT, *one, without="--input_file --save_path")


@row("`--emb_dir`, `--matrix_embedding_exists`")
def _embeddings(bench: Bench) -> None:
    """A folder of the original's files, whose rows are believed: other ones than the encoder makes show what was read."""
    place = [*AS_LOCATION, "--input_file", str(bench.root / "prot.fasta"), "--seq_type", "prot"]
    assert bench.run(PREDICT, *place) == 0
    made = {row["seq_id"]: float(row["prob"]) for row in bench.rows()}
    folder = bench.out.parent / "emb"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("p1", "p3"):
        torch.save(rng.normal(size=(len(PROTEINS[name]), 32)).astype(np.float32), folder / f"matrix_{name}.pt")
    bench.out = bench.out.with_name("mixed.csv")
    assert bench.run(PREDICT, *place, "--emb_dir", str(folder)) == 0
    mixed = {row["seq_id"]: float(row["prob"]) for row in bench.rows()}
    assert "1 embeddings are missing, which are made now" in bench.capsys.readouterr().err
    assert mixed["p2"] == pytest.approx(made["p2"], abs=1e-6)
    assert abs(mixed["p1"] - made["p1"]) > 1e-4
    bench.out = bench.out.with_name("exists.csv")
    assert "1 embeddings are missing, the first is that of 'p2'" in bench.refused(
        PREDICT, *place, "--emb_dir", str(folder), "--matrix_embedding_exists"
    )
    assert "name it, or leave both out" in bench.refused(PREDICT, *place, "--matrix_embedding_exists")
    assert "give one of them" in bench.refused(PREDICT, *place, "--emb_dir", str(folder), "--embeddings", str(folder))
    torch.save(rng.normal(size=(len(PROTEINS["p2"]), 32)).astype(np.float32), folder / "matrix_p2.pt")
    assert bench.run(PREDICT, *place, "--emb_dir", f"{folder}", "--matrix_embedding_exists") == 0
    assert {row["seq_id"]: float(row["prob"]) for row in bench.rows()}["p1"] == pytest.approx(mixed["p1"], abs=1e-6)
    # what was embedded by the original's command, by the head's encoder, and by another one, for a pair in two folders
    folders = []
    for kind in ("gene", "prot"):
        for step in (5600000, 36000000):
            bench.out = bench.out.with_name(f"{kind}{step}")
            given = ["--seq_type", kind, "--input_file", str(bench.root / f"{kind}.fasta"), "--llm_step", str(step)]
            assert bench.run(EMBED, *given, without="--use_bp16 --matrix_add_special_token") == 0
        folders.append(bench.out.with_name(f"{kind}5600000"))
    bench.out = bench.out.with_name("pairs.csv")
    assert bench.run(PREDICT, "--emb_dir", "#".join(map(str, folders)), "--matrix_embedding_exists") == 0
    found = bench.rows()
    bench.out = bench.out.with_name("pairs-made.csv")
    assert bench.run(PREDICT) == 0
    assert [float(row["prob"]) for row in found] == pytest.approx([float(row["prob"]) for row in bench.rows()], abs=1e-5)
    bench.out = bench.out.with_name("other.csv")
    other = "#".join(str(path.with_name(path.name.replace("5600000", "36000000"))) for path in folders)
    assert "was made by another encoder" in bench.refused(PREDICT, "--emb_dir", other, "--matrix_embedding_exists")


@row("`--topk`, `--ground_truth_idx`")
def _columns_of_answers(bench: Bench) -> None:
    table = bench.out.parent / "known.csv"
    table.write_text("seq_id,seq_type,seq,label\n" + "".join(f"{name},prot,{letters},3\n" for name, letters in PROTEINS.items()))
    place = [*AS_LOCATION, "--input_file", str(table), "--topk", "2", "--ground_truth_idx", "3"]
    assert bench.run(PREDICT, *place) == 0
    assert list(bench.rows()[0]) == ["seq_id", "seq", "top1_prob", "top1_label", "top2_probs", "top2_labels", "ground_truth"]
    assert {row["ground_truth"] for row in bench.rows()} == {"3"}


@row("`src/training/lucaone`", "`src/training/downstream_tasks`", "`src/training/lucaone_separated`")
def _training(bench: Bench) -> None:
    """A recipe for each task; the user's encoders stand over a comparison's."""
    central = ROOT / "configs/baselines/centraldogma.yaml"
    given = ["data=.", "out=o"]
    assert load(TrainRecipe, central, given).system == "lucaone"
    assert load(TrainRecipe, central, [*given, "comparison=separated"]).encoders[0] == "LucaGroup/LucaOne-gene-step36.8M"
    for overrides in (
        ["comparison=dnabert2_esm2", "encoders=[/my/dna, /my/esm2]"],
        ["encoders=[/my/dna, /my/esm2]", "comparison=dnabert2_esm2"],
    ):
        found = load(TrainRecipe, central, [*given, *overrides])
        assert found.encoders == ["/my/dna", "/my/esm2"]
        assert (found.system, found.schedule.accumulation) == ("dnabert2_esm2", 8)
        assert found.resolved() == found
    with pytest.raises(UserError, match="comparison 'x' is not in the recipe; known: separated"):
        load(TrainRecipe, central, [*given, "comparison=x"])


@row("LucaBase, LucaPPI, LucaPPI2")
def _networks(bench: Bench) -> None:
    assert {Network(net=name).pair for name in ("lucappi", "lucappi2")} == {True}  # type: ignore[arg-type]
    assert not Network(net="luca_base").pair


@row(
    "`AutoModel`, `AutoModelForMaskedLM`, `AutoModelForSequenceClassification`, `AutoModelForTokenClassification`, "
    "`AutoConfig`, `AutoTokenizer`"
)
def _auto(bench: Bench) -> None:
    from transformers import AutoModelForTokenClassification

    folder = bench.out
    published.LucaGPLMForMaskedLM(published.LucaGPLMConfig(**SIZE)).save_pretrained(folder)
    found = AutoModelForTokenClassification.from_pretrained(
        folder, classifier_num_labels=4, task_level="token_level", trust_remote_code=True
    )
    assert found.classifier.out_features == 4  # more in test_luca_surface.py


@row("`LucaGPLMModel`, `LucaGPLMForMaskedLM`, `LucaGPLMForSequenceClassification`, `LucaGPLMForTokenClassification`")
def _classes(bench: Bench) -> None:
    for name in ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "Config", "Tokenizer", "TokenizerFast"):
        assert f"LucaGPLM{name}" in published.__all__


def documented() -> list[str]:
    """First cells of the table."""
    text = (ROOT / "docs" / "lucaone.md").read_text().split("| in LucaOneTasks' documentation |")[1].split("\n\n")[0]
    return [line.split("|")[1].strip() for line in text.splitlines()[2:]]


@pytest.mark.parametrize("name", documented())
def test_rows_of_the_table(name: str, bench: Bench) -> None:
    CHECKS[name](bench)


def test_the_table_holds_every_option_of_the_documentation() -> None:
    assert set(documented()) == set(CHECKS)
    if not SEED.is_file():
        pytest.skip("the original's documentation is not at hand")
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_]+", SEED.read_text()))
    assert options <= set(re.findall(r"--[a-z0-9_]+", " ".join(documented())))


def test_every_command_of_the_documentation_runs(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands there, with paths below another root."""
    if not SEED.is_file():
        pytest.skip("the original's documentation is not at hand")
    for kind, ids in (("gene", GENES), ("prot", PROTEINS)):
        folder = bench.root / "data" / "test_data" / kind
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(bench.root / f"{kind}.fasta", folder / f"test_{kind}.fasta")
        before = "" if kind == "gene" else "clan,family,"
        (folder / f"test_{kind}.csv").write_text("".join(f"{before}{name},{letters}\n" for name, letters in [("id", "seq"), *ids.items()]))
    (bench.root / "test" / "CentralDogma").mkdir(parents=True, exist_ok=True)
    shutil.copy(bench.root / "pairs.csv", bench.root / "test" / "CentralDogma" / "CentralDogma_prediction.csv")
    commands = re.findall(r"^python (\w+\.py(?: .*\\\n)+ .*)$", SEED.read_text(), flags=re.MULTILINE)
    assert len(commands) == 9
    for number, command in enumerate(commands):
        bench.out = bench.root / f"out{number}"
        words = re.sub(r"(?<= )(\.\./?)+(?=\S| )", f"{bench.root}/", command.replace("\\\n", " "))
        assert bench.run(words, "--save_path", str(bench.out)) == 0, capsys.readouterr().err
        ids = GENES if "seq_type gene" in words else PROTEINS
        if "get_embedding" in words:
            assert {path.name for path in bench.out.glob("*.pt")} == {f"matrix_{name}.pt" for name in ids}
        else:
            assert [row["seq_id_b"] for row in bench.rows()] == ["p1", "p3"]


def test_a_first_try_that_failed_does_not_pin_the_folder(bench: Bench) -> None:
    """Neither one that could not begin, nor settings that stand alone in a folder."""
    given = {"input_file": bench.root / "prot.fasta", "seq_type": "prot", "out": bench.out}
    with pytest.raises(UserError, match="does not read"):
        embed(EmbedRecipe.model_validate(given | {"encoder": str(dna_only(bench.out.parent / "dna"))}))
    assert embed(EmbedRecipe.model_validate(given | {"encoder": "one-hot"})) == 3
    for path in [*bench.out.glob("shard-*"), bench.out / "index.jsonl"]:
        path.unlink()
    assert embed(EmbedRecipe.model_validate(given | {"encoder": "one-hot", "truncation_seq_length": 3})) == 3
    assert StoreReader(bench.out).read("p1").shape == (3, 39)


def dna_only(folder: Path) -> Path:
    """A model whose tokenizer reads nucleotides alone, so that it is opened and then fails."""
    from transformers import EsmConfig, EsmModel, EsmTokenizer

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *"ACGT", "<mask>"]))
    EsmTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "pad_token_id": 1}
    config = EsmConfig(vocab_size=9, mask_token_id=8, position_embedding_type="rotary", **size)
    EsmModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
