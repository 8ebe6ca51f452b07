"""Baselines: what they learn on a planted signal, what they refuse, and that LucaBase is LucaOne's head."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_run import CARDS, make_record, write_lines
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from artefacts.recipe import load
from eval.baselines import kmer as kmers
from eval.baselines.embedding.extract import extract
from eval.baselines.embedding.open import OneHot, open_encoder
from eval.baselines.embedding.recipe import Extent
from eval.baselines.heads.nets import Head
from eval.baselines.heads.options import Network
from eval.baselines.kmer import kmer
from eval.baselines.luca import head_recipe, luca_base, why_not
from eval.baselines.lucaone.model import ValueAttention
from eval.baselines.nearest import majority
from eval.baselines.run import BaselinesRecipe, LucaOptions, run
from eval.baselines.split import Task, scored_tasks
from eval.baselines.training.command import train
from eval.judge.answers import Answers, value
from eval.judge.score import score
from eval.predictions import read_lines
from sequences.alphabets import DNA

TINY = {"epochs": 8, "max_train": 200, "max_dev": 50, "learning_rate": 3e-3}


def make_task(kind: str, train: int = 120, dev: int = 40, test: int = 60) -> Task:
    """A task of this kind, invented; its sequences give the answer away."""
    card = next(card for card in CARDS if card["kind"] == kind)
    rng = random.Random(1)
    splits = {split: [make_record(card, split, i, rng) for i in range(n)] for split, n in (("train", train), ("dev", dev), ("test", test))}
    return Task(card["id"], kind, splits["test"][0]["choices"], **splits)


def measured(task: Task, lines: list[dict[str, Any]], metric: str) -> float:
    logprobs = np.array([line["logprobs"] for line in lines]) if task.answers.one_label else None
    return value(
        metric, Answers(task.kind, task.choices, [line["gold"] for line in lines], [line["predicted"] for line in lines], logprobs)
    )


@pytest.fixture(scope="session")
def letter_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLaMA whose tokenizer has one token per letter and no tags: any encoder but ours."""
    folder = tmp_path_factory.mktemp("letters")
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *"ACDEFGHIKLMNPQRSTVWYX"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="X"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 48}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(vocabulary), max_position_embeddings=256, **size)).save_pretrained(folder)
    return folder


# --- majority ---


def test_majority_of_classes_is_the_smoothed_class_frequency() -> None:
    task = make_task("multiclass")
    lines = list(majority(task))
    counts = np.bincount(task.codes(task.train), minlength=8)
    assert {line["predicted"] for line in lines} == {task.choices[int(counts.argmax())]}
    assert np.exp(lines[0]["logprobs"]) == pytest.approx((counts + 1) / (counts + 1).sum(), abs=1e-5)
    assert measured(task, lines, "mcc") == 0


def test_majority_of_numbers_and_texts() -> None:
    task = make_task("regression")
    mean = np.mean([record["label"] for record in task.train])
    assert [line["predicted"] for line in majority(task)] == pytest.approx([mean] * 60, abs=1e-5)
    task = make_task("text")
    labels = [record["label"] for record in task.train]
    assert {line["predicted"] for line in majority(task)} == {max(labels, key=labels.count)}


# --- k-mers ---


def counted(sequence: str, k: int, letters: str) -> dict[str, float]:
    words = [sequence[i : i + k] for i in range(len(sequence) - k + 1)]
    return {word: words.count(word) / len(words) for word in set(words) if set(word) <= set(letters)}


@settings(max_examples=40)
@given(st.lists(st.text("ACGTN", max_size=14), min_size=1, max_size=5))
def test_kmer_shares_equal_plain_counting(sequences: list[str]) -> None:
    shares = kmers.kmer_shares(sequences, "dna").toarray()
    column = 0
    for k in range(1, 6):
        for code in range(4**k):
            word = "".join("ACGT"[code // 4**place % 4] for place in reversed(range(k)))
            expected = [counted(sequence, k, "ACGT").get(word, 0) for sequence in sequences] if any(word in s for s in sequences) else 0
            assert shares[:, column] == pytest.approx(np.broadcast_to(expected, len(sequences)))
            column += 1
    assert column == shares.shape[1]


def test_kmer_shares_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = [record["inputs"][0]["letters"] for record in make_task("regression", train=9).train]
    whole = kmers.kmer_shares(sequences, "protein")
    monkeypatch.setattr(kmers, "CELLS_AT_ONCE", 2 * whole.shape[1])
    assert abs(whole - kmers.kmer_shares(sequences, "protein")).max() == 0


@pytest.mark.parametrize(("kind", "metric", "least"), [("binary", "mcc", 0.8), ("multiclass", "mcc", 0.8), ("regression", "spearman", 0.7)])
def test_kmer_finds_the_planted_signal(kind: str, metric: str, least: float) -> None:
    task = make_task(kind, train=300)
    lines = list(kmer(task, max_train=1000, seed=0))
    assert measured(task, lines, metric) > least
    if kind != "regression":
        assert np.exp([line["logprobs"] for line in lines]).sum(axis=1) == pytest.approx(np.ones(60), abs=1e-4)


def test_kmer_takes_the_nearest_neighbours_text() -> None:
    task = make_task("text")
    twin = task.train[7]["inputs"]
    lines = list(kmer(Task(task.id, task.kind, [], task.train, task.dev, [{**task.test[0], "inputs": twin}]), max_train=1000, seed=0))
    assert lines[0]["predicted"] == task.train[7]["label"]


def test_each_length_of_each_input_has_the_same_say() -> None:
    task = make_task("regression")
    shares = kmers.features(task.train)
    widths = kmers.block_widths(task.train[0])
    assert widths == [20, 400, 8000]
    scaled = (shares @ kmers.block_factors(shares, widths)).toarray()
    for block in np.split(scaled, np.cumsum(widths)[:-1], axis=1):
        assert block.var(axis=0).sum() == pytest.approx(1, rel=1e-3)


def test_kmer_sees_both_sequences_of_a_pair() -> None:
    """The answer names the motifs of both sequences: one alone tells half."""
    rng = random.Random(2)

    def record(i: int, split: str) -> dict[str, Any]:
        one, two = rng.choice(["AAAAAA", "CCCCCC"]), rng.choice(["GGGGGG", "GGGTTT"])
        letters = ["".join(rng.choices("ACGT", k=30)) + motif for motif in (one, two)]
        inputs = [{"name": f"s{n}", "modality": "dna", "letters": text} for n, text in enumerate(letters)]
        label = f"{one[0]}{two[-1]}"
        return {
            "id": f"{split}{i}",
            "task": "t",
            "split": split,
            "kind": "multiclass",
            "label": label,
            "choices": choices,
            "inputs": inputs,
        }

    choices = ["AG", "AT", "CG", "CT"]
    task = Task("t", "multiclass", choices, [record(i, "train") for i in range(300)], [], [record(i, "test") for i in range(80)])
    assert kmers.features(task.test).shape == (80, 2 * 1364)
    assert measured(task, list(kmer(task, max_train=300, seed=0)), "accuracy") > 0.8


def test_kmer_of_a_class_that_train_never_shows() -> None:
    task = make_task("multiclass")
    train = [record for record in task.train if record["label"] != "genus Alba"]
    lines = list(kmer(Task(task.id, task.kind, task.choices, train, [], task.test), max_train=1000, seed=0))
    assert all(line["logprobs"][0] == pytest.approx(kmers.FLOOR, abs=1e-5) and line["predicted"] != "genus Alba" for line in lines)
    one_class = Task(task.id, task.kind, task.choices, [r for r in train if r["label"] == "genus Borea"], [], task.test)
    with pytest.raises(UserError, match="single class"):
        kmer(one_class, max_train=1000, seed=0)


# --- embeddings ---


def test_embeddings_are_the_rows_between_the_tags(extended_folder: Path) -> None:
    letters = "ACGTTGCAACGTACGNNACGT"
    tokenizer, model = (
        AutoTokenizer.from_pretrained(extended_folder),
        AutoModel.from_pretrained(extended_folder, dtype=torch.float32).eval(),
    )
    ids = tokenizer(DNA.wrap(letters), return_tensors="pt")["input_ids"]
    first, last = (ids[0].tolist().index(tokenizer.convert_tokens_to_ids(tag)) for tag in (DNA.open_tag, DNA.close_tag))
    with torch.no_grad():
        expected = model(input_ids=ids).last_hidden_state[0, first + 1 : last].numpy()
    ((_, rows),) = extract(open_encoder(extended_folder), [("dna", letters)], Extent())
    assert rows.own.dtype == np.float32
    assert 0 < len(rows.own) < len(letters)  # pieces of several bases
    assert rows.own == pytest.approx(expected, abs=1e-5)
    assert rows.vector("mean") == pytest.approx(expected.mean(0), abs=1e-5)


def test_padding_and_order_do_not_change_embeddings(letter_model: Path) -> None:
    sequences = [("protein", "MKV" * n) for n in (3, 1, 20, 7, 2)]
    encoder = open_encoder(letter_model)
    alone = [next(extract(encoder, [sequence], Extent()))[1].own for sequence in sequences]
    for encoder.batch_tokens in (1, 40, 10_000):
        for i, rows in extract(encoder, sequences, Extent()):
            assert rows.own.shape == (len(sequences[i][1]), 32)  # neither <s> nor </s>
            assert rows.own == pytest.approx(alone[i], abs=1e-5)


def test_a_sequence_beyond_the_models_positions_comes_in_windows(letter_model: Path, tmp_path: Path) -> None:
    ((_, rows),) = extract(open_encoder(letter_model), [("dna", "ACGT" * 100)], Extent())
    assert (len(rows.own), rows.passes) == (400, 2)
    with pytest.raises(UserError, match="no model folder"):
        open_encoder(tmp_path)


# --- LucaBase ---


def test_parameter_count_of_lucaones_protloc_head() -> None:
    with torch.device("meta"):
        head = Head(Network(), [2560], 6)
    assert sum(p.numel() for p in head.parameters()) == 19_989_382
    names = {"matrix_pooler.U", "matrix_pooler.V", "matrix_pooler.W", "hidden_layer.weight", "hidden_layer.bias"}
    assert set(head.state_dict()) == names | {"classifier.weight", "classifier.bias"}


def test_value_attention_by_the_formula() -> None:
    torch.manual_seed(0)
    pool, x = ValueAttention(5), torch.randn(1, 7, 5)
    for matrix in (pool.U, pool.V, pool.W):
        torch.nn.init.normal_(matrix)
    energy = torch.tanh(x[0, :4] @ pool.U + x[0, :4] @ pool.V) @ pool.W
    weights = energy.exp() / energy.exp().sum(0)  # per channel
    mask = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0]])
    assert torch.allclose(pool(x, mask)[0], (weights * x[0, :4]).sum(0), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "metric", "least"), [("binary", "mcc", 0.5), ("multiclass", "mcc", 0.15), ("regression", "spearman", 0.5)]
)
def test_luca_base_learns_and_repeats_itself(kind: str, metric: str, least: float, letter_model: Path) -> None:
    task, encoder = make_task(kind, train=200), open_encoder(letter_model)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    lines = luca_base(task, encoder, LucaOptions(**TINY), seed=3)
    assert measured(task, lines, metric) > least
    assert luca_base(task, encoder, LucaOptions(**TINY), seed=3) == lines
    # nothing outside is changed
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def pairs(task: Task, modality: str) -> Task:
    """The same task with another sequence, of this modality, in front of each."""
    rng = random.Random(2)

    def paired(record: dict[str, Any]) -> dict[str, Any]:
        other = {"name": "other", "modality": modality, "letters": "".join(rng.choices("ACGT", k=20))}
        return {**record, "inputs": [other, *record["inputs"]]}

    return Task(task.id, task.kind, task.choices, *([paired(r) for r in part] for part in (task.train, task.dev, task.test)))


@pytest.mark.parametrize("modality", ["rna", "protein"])
def test_luca_base_takes_pairs_and_a_task_without_dev_records(modality: str) -> None:
    """Two nucleic acids share a tower; RNA and DNA are one kind to the original."""
    task = pairs(make_task("binary", train=200, dev=0), modality)
    options, encoder = LucaOptions(**{**TINY, "learning_rate": 1e-2}), OneHot(8192, torch.device("cpu"))
    network = head_recipe(task, options, 0).network
    assert (network.net, network.fc) == ("lucappi" if modality == "rna" else "lucappi2", [128])
    assert measured(task, luca_base(task, encoder, options, seed=0), "mcc") > 0.3


def test_luca_base_trains_as_baseline_train_does(invented: Path) -> None:
    """One loop: the same records and settings give the same predictions by both commands."""
    records, task = invented / "records", next(t for t in scored_tasks(invented / "records") if t.kind == "binary")
    options = LucaOptions(**{**TINY, "epochs": 2})
    lines = luca_base(task, OneHot(8192, torch.device("cpu")), options, seed=4)
    changes = {"data": records, "out": invented / "head", "task": task.id, "encoders": ["one-hot"], "system": "luca"}
    train(head_recipe(task, options, 4).model_copy(update=changes))
    assert list(read_lines(invented / "head" / "predictions" / "luca.jsonl")) == lines


def test_luca_base_does_not_apply_to_texts_and_triples() -> None:
    assert why_not(make_task("text")) is not None
    task = make_task("binary")
    triple = {**task.test[0], "inputs": task.test[0]["inputs"] * 3}
    assert why_not(Task("t", "binary", task.choices, task.train, [], [triple])) is not None
    assert why_not(task) is None


# --- the run ---


def test_baselines_of_sequences_leave_questions_in_words_out(invented: Path, tmp_path: Path) -> None:
    """They have nothing to read there; the majority has."""
    lines = {split: read_lines(invented / "records" / f"{split}.jsonl") for split in ("train", "test")}
    task = next(iter(lines["test"]))["task"]
    folder = tmp_path / "in words"
    folder.mkdir()
    for split, found in lines.items():
        write_lines(folder / f"{split}.jsonl", [line | {"inputs": []} for line in found if line["task"] == task])
    (folder / "cards.json").write_bytes((invented / "records" / "cards.json").read_bytes())
    written = run(BaselinesRecipe(records=folder, out=tmp_path / "out", systems=["majority", "kmer", "nearest"]))
    assert {system: bool(count) for system, count in written.items()} == {"majority": True, "kmer": False, "nearest": False}
    why = read_manifest(tmp_path / "out")["counts"]["does_not_apply"]
    assert why == {system: {task: "it reads sequences, and the task shows none"} for system in ("kmer", "nearest")}


def test_a_run_can_be_scored(invented: Path, letter_model: Path) -> None:
    systems = ["majority", "kmer", "luca_base"]
    recipe = BaselinesRecipe.model_validate(
        {
            "records": invented / "records",
            "out": invented / "baselines",
            "systems": systems,
            "encoder": str(letter_model),
            "luca": {**TINY, "epochs": 1},
        }
    )
    written = run(recipe)
    assert written["kmer"] == {card["id"]: 60 for card in CARDS}
    manifest = read_manifest(invented / "baselines", "predictions")
    assert manifest["counts"]["does_not_apply"] == {"luca_base": {"sim/function": "it gives no text"}}
    document = score(invented / "records", [invented / "predictions", invented / "baselines"], invented / "metrics.json", seed=0)
    for found in document["tasks"]:
        expected = {"llama-gene", *systems} - ({"luca_base"} if found["kind"] == "text" else set())
        assert set(found["systems"]) == expected
        assert set(found["differences"]) == expected - {"llama-gene"}
    with pytest.raises(UserError, match="already exists"):
        run(recipe)
    letters = {"systems": ["luca_base"], "encoder": "one-hot", "out": invented / "letters"}
    assert run(BaselinesRecipe.model_validate({**recipe.model_dump(), **letters}))["luca_base"] == written["luca_base"]
    assert read_manifest(invented / "letters", "predictions")["inputs"]["encoder"] == "one-hot"
    with pytest.raises(UserError, match="give each system once"):
        score(invented / "records", [invented / "baselines", invented / "baselines"], invented / "again.json", seed=0)


def test_mistakes_are_told_before_the_work(invented: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="luca_base reads embeddings"):
        load(BaselinesRecipe, None, ["records=r", "out=o", "systems=[luca_base]"])
    lines = [line for line in read_lines(invented / "records" / "train.jsonl") if line["task"] != "sim/promoter"]
    write_lines(invented / "records" / "train.jsonl", lines)
    with pytest.raises(UserError, match="sim/promoter has no train records"):
        run(BaselinesRecipe(records=invented / "records", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
