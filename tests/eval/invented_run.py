"""A small invented run: records, predictions of three systems, histories. Nothing in it was ever measured."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

EVIL = '<script>alert("1")</script>'

CARDS: list[dict[str, Any]] = [
    {"id": "sim/promoter", "title": "Promoter or background", "kind": "binary", "simulated": True, "primary_metric": "mcc"},
    {"id": "bench/species", "title": "Which of eight genera", "kind": "multiclass", "simulated": False, "primary_metric": "mcc"},
    {"id": "sim/stability", "title": "Protein stability", "kind": "regression", "simulated": True, "primary_metric": "spearman"},
    {"id": "sim/function", "title": "Protein function in words", "kind": "text", "simulated": True, "primary_metric": "rouge_l"},
]
METRICS = {
    "binary": ["accuracy", "mcc", "macro_f1", "auroc"],
    "multiclass": ["accuracy", "balanced_accuracy", "mcc"],
    "regression": ["spearman", "pearson", "mae"],
    "text": ["exact_match", "rouge_l", "token_f1"],
}
CHOICES = {
    "binary": ["promoter", "background"],
    "multiclass": [f"genus {name}" for name in ("Alba", "Borea", "Calix", "Dryas", "Erica", "Ficus", "Gala", "Hedera")],
    "regression": [f"{step / 10:.1f}" for step in range(11)],
    "text": [],
}
TEXTS = ["Hydrolyses ATP during transport of sugars.", "Binds DNA and represses transcription.", "Part of the ribosome."]
LAYOUT = {
    "format": "csv",
    "files": {"train": "train.csv", "test": "test.csv"},
    "inputs": [{"modality": "dna", "name": "sequence"}],
    "label": "label",
    "label_evidence": "invented",
    "prompts": {"train": ["Say of {sequence}"], "eval": "What is {sequence}"},
    "max_letters": 500,
    "crop": "centre",
}
SIZES = {"train": 40, "dev": 20, "test": 60}


def make_record(card: dict[str, Any], split: str, number: int, rng: random.Random) -> dict[str, Any]:
    """A record whose sequence gives the answer away a little."""
    kind, modality = card["kind"], "dna" if card["kind"] in ("binary", "multiclass") else "protein"
    letters = "".join(rng.choices("ACGT" if modality == "dna" else "ACDEFGHIKLMNPQRSTVWY", k=rng.randint(40, 160)))
    label: str | float
    if kind == "regression":
        label = round(rng.random(), 3)
        letters = "W" * round(30 * label) + letters
        answer = f"{label:.1f}"
    elif kind == "text":
        label = answer = rng.choice(TEXTS)
        letters = "KRH"[TEXTS.index(answer)] * 12 + letters
    else:
        label = answer = rng.choice(CHOICES[kind])
        letters += ("TATAAT", "GGCCGG", "CACACA", "GTGTGT", "AAGGAA", "TTCCTT", "ATCGAT", "CGCGCG")[CHOICES[kind].index(answer)] * 3
    return {
        "id": f"{card['id']}/{split}/{number}",
        "task": card["id"],
        "split": split,
        "kind": kind,
        "prompt": [{"role": "user", "content": f"What is this? <{modality}>{letters}</{modality}> Answer in a word."}],
        "completion": [{"role": "assistant", "content": answer}],
        "label": label,
        "choices": CHOICES[kind],
        "inputs": [{"name": "sequence", "modality": modality, "letters": letters}],
        "source": "invented",
    }


def make_line(record: dict[str, Any], skill: float, rng: random.Random) -> dict[str, Any]:
    """What a model of some skill says; now and then it rambles or refuses."""
    kind, choices, gold = record["kind"], record["choices"], record["label"]
    answer = record["completion"][0]["content"]
    logprobs = [-4 * rng.random() - (0 if choice == answer else 4 * skill) for choice in choices] or None
    predicted: Any = choices[logprobs.index(max(logprobs))] if logprobs else gold if rng.random() < skill else rng.choice(TEXTS)
    text = str(predicted)
    if kind == "regression":
        predicted = min(1.0, max(0.0, gold + rng.gauss(0, 0.3 * (1 - skill))))
        text = f"{predicted:.1f}"
    status, parsed = "valid", float(text) if kind == "regression" else text
    if rng.random() < 0.1:
        text, status, parsed = rng.choice([("It may be a " + text, "invalid", None), ("I cannot tell.", "refused", None)])
    base = {key: record[key] for key in ("id", "task", "split", "kind", "choices")}
    return {**base, "gold": gold, "logprobs": logprobs, "predicted": predicted, "text": text, "parsed": parsed, "status": status}


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def invent(folder: Path, sizes: dict[str, int] = SIZES) -> Path:
    rng = random.Random(0)
    for name in ("records", "predictions", "extended", "pretrained", "instructed"):
        (folder / name).mkdir()
    cards = [
        {
            **card,
            "version": 1,
            "source": {"name": "invented for a test", "url": None, "licence": "CC0"},
            "split_note": "random split",
            "metrics": METRICS[card["kind"]],
            "published": [
                {
                    "model": "Somebody",
                    "metric": card["primary_metric"],
                    "value": 0.71,
                    "source": "a paper",
                    "note": "random split of their own",
                }
            ]
            if not card["simulated"]
            else [],
            "traps": ["Names of classes follow the alphabet."],
            "n": sizes,
            **LAYOUT,
            "labels": {str(code): {"name": name, "meaning": name} for code, name in enumerate(CHOICES[card["kind"]])}
            if card["kind"] in ("binary", "multiclass")
            else {},
            "grid": {"low": 0, "high": 1, "step": 0.1} if card["kind"] == "regression" else None,
        }
        for card in CARDS
    ]
    (folder / "records" / "cards.json").write_text(json.dumps(cards), encoding="utf-8")
    test: list[dict[str, Any]] = []
    for split, size in sizes.items():
        records = [make_record(card, split, number, rng) for card in CARDS for number in range(size)]
        write_lines(folder / "records" / f"{split}.jsonl", records)
        test = records
    write_lines(folder / "predictions" / "llama-gene.jsonl", [make_line(record, 0.6, rng) for record in test])

    modality = {
        "heldout_letters": 12000,
        "tokens_before": 5300,
        "tokens_after": 2900,
        "letters_per_token_before": 2.26,
        "letters_per_token_after": 4.14,
    }
    modality |= {"new_ids": 1024, "new_ids_used": 0.93}
    example = {"text": "<dna>ACGTACGGTATAAT</dna>", "before": ["AC", "GT", "AC", "GG", "TATA", "AT"], "after": ["ACGTAC", "GG", "TATAAT"]}
    report = {
        "base_vocab": 1029,
        "extended_vocab": 3108,
        "family": "byte-level",
        "modalities": {"dna": {"unit": "base", **modality, "example": example}},
    }
    report["modalities"] |= {"protein": {"unit": "residue", **modality, "example": {**example, "before": list("MKV AL")}}}  # type: ignore[operator]
    report["modalities"] |= {"text": {"lines": 900, "lines_changed": 0}}  # type: ignore[operator]
    (folder / "extended" / "extension_report.json").write_text(json.dumps(report), encoding="utf-8")

    steps = range(0, 601, 5)
    history: list[dict[str, Any]] = [
        {"step": s, "loss": 4 + 3 * 0.99**s + rng.gauss(0, 0.05), "learning_rate": 1e-3, "tokens_per_second": 9000} for s in steps
    ]
    history += [
        {"step": s, "heldout": {"dna": 1.93 + 0.5 * 0.99**s, "protein": 4.15 + 2 * 0.99**s, "text": 2.4 + 2 * 0.99**s}}
        for s in range(0, 601, 100)
    ]
    write_lines(folder / "pretrained" / "history.jsonl", history)
    figures = {"dna": (2.43, 1.93, "base", 2.0), "protein": (6.15, 4.15, "residue", 4.32), "text": (4.4, 2.4, "byte", None)}
    losses: dict[str, Any] = {"tokens": 1_200_000, "seconds": 312.0, "parameters": 1_480_000}
    for column, when in enumerate(("before", "after")):
        losses[when] = {
            n: {"bits_per_letter": f[column], "letters": 52_000, "documents": 60, "unit": f[2], "bound": f[3]} for n, f in figures.items()
        }
    (folder / "pretrained" / "losses.json").write_text(json.dumps(losses), encoding="utf-8")
    tuning: list[dict[str, Any]] = [{"step": s, "loss": 0.4 + 1.6 * 0.985**s + rng.gauss(0, 0.04)} for s in steps]
    write_lines(
        folder / "instructed" / "history.jsonl", tuning + [{"step": s, "eval_loss": 0.5 + 1.5 * 0.985**s} for s in range(0, 601, 100)]
    )
    return folder
