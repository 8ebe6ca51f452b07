"""Where a reason follows the answer, the answer alone is read, scored and given probabilities, in evaluation, batches and chat."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import asked_records
import pytest
import torch
import yaml
from asked_records import read, write
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_convert.tasks.cards import load_card
from data_convert.tasks.prompts import render
from eval.ask.answer import candidate, prediction_of
from eval.ask.harness import _why_not
from eval.ask.predict import predict
from eval.recipe import PredictRecipe
from eval.show.chats import draw
from instruct.talk.batch import BatchRecipe
from instruct.talk.batch import predict as predict_table
from instruct.talk.chat import _status
from instruct.talk.labels import asked_of, shipped
from instruct.talk.session import Session
from tokenizer.conversations import answer_ids, prompt_ids

PROMOTER = load_card("explained/promoter")
REASONS = ("That is a window.", "3 boxes", "<dna>ACGT</dna> is in it", "(by similarity)", "é", "-", "Zn binds")


@pytest.mark.parametrize("choice", ["promoter", "neither of them", "0.45", "class 1", "A", "H3K4me3.", "a-b)"])
@pytest.mark.parametrize("reason", REASONS)
def test_a_candidate_is_how_every_answer_with_a_reason_begins(chatty: Any, choice: str, reason: str) -> None:
    prompt = [{"role": "user", "content": "What is <dna>ACGT</dna>?"}]
    ids, whole = candidate(chatty, prompt, choice, True), answer_ids(chatty, prompt, f"{choice}\n{reason}")
    assert whole[: len(ids)] == ids
    assert chatty.decode(ids) == f"{chatty.decode(ids).partition(choice)[0]}{choice}\n"


def reasoned(kind: str, number: int, draw: random.Random) -> dict[str, Any]:
    record = asked_records.record(kind, number, draw)
    answer = record["completion"][0]["content"]
    if kind == "regression":
        record["label"] = float(answer)
    return {**record, "completion": [{"role": "assistant", "content": f"{answer}\nBecause of it."}], "reason": "Because of it."}


def test_likelihoods_are_those_of_the_label_s_line(extended_folder: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    lines = [reasoned(kind, number, draw) for kind in ("binary", "multiclass", "regression", "multilabel") for number in range(2)]
    folder = write(tmp_path / "records", [{**line, "label": ["nucleus"]} if line["kind"] == "multilabel" else line for line in lines])
    predict(PredictRecipe(model=extended_folder, records=folder, out=tmp_path / "out", max_new_tokens=5))
    tokenizer, model = AutoTokenizer.from_pretrained(extended_folder), AutoModelForCausalLM.from_pretrained(extended_folder).eval()
    for line, source in zip(read(tmp_path / "out" / "llama-gene.jsonl"), lines, strict=True):
        prompt = prompt_ids(tokenizer, source["prompt"])
        for choice, value in zip(line["choices"], line["logprobs"] or [], strict=bool(line["logprobs"])):
            answer = answer_ids(tokenizer, source["prompt"], f"{choice}\nZ")
            answer = answer[: len(answer) - 2]  # the letter and the end of turn
            with torch.no_grad():
                logprobs_TV = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            expected = sum(logprobs_TV[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer))
            assert value == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "text", "parsed"),
    [
        ("binary", "promoter\nThat is background.", "promoter"),
        ("binary", " promoter. \nbackground", "promoter"),
        ("binary", "promoter: it starts here", None),
        ("regression", "0.45\n3 of 4", 0.45),
        ("multilabel", "nucleus; cytosol\nnowhere; else", ["nucleus", "cytosol"]),
    ],
)
def test_the_first_line_is_read_and_the_text_is_kept(kind: str, text: str, parsed: Any) -> None:
    record = reasoned(kind, 0, random.Random(0))
    found = prediction_of(record, None, text)
    assert (found["parsed"], found["text"]) == (parsed, text)
    plain = {name: value for name, value in record.items() if name != "reason"}
    assert prediction_of(plain, None, text)["parsed"] is None


def test_others_are_not_given_answers_that_go_on() -> None:
    record = reasoned("binary", 0, random.Random(0))
    assert "a reason follows" in str(_why_not([record]))
    assert _why_not([{name: value for name, value in record.items() if name != "reason"}]) is None


def test_a_sample_chat_marks_the_label_and_shows_the_reason() -> None:
    record = reasoned("binary", 0, random.Random(0))
    line = prediction_of(record, [-0.1, -3.0], f"{record['label']}\nBecause of it.")
    (chat,) = draw([line], {record["id"]: record}, 1, 0)
    assert [bar.choice for bar in chat.bars if bar.gold] == [record["label"]]
    assert chat.written == line["text"]


def test_chat_and_batches_ask_as_evaluation_does(model_folder: Path, tmp_path: Path) -> None:
    known = shipped().asked(render(PROMOTER, {"sequence": "ACGT"}, PROMOTER.prompts.eval))
    assert known == asked_of(PROMOTER)
    assert known is not None
    assert known.reasoned
    assert _status("promoter\nThat is one.", known) == "valid"
    # labels of one length, so that both have a share worth comparing
    labels = {"0": {"name": "g", "meaning": "no"}, "1": {"name": "p", "meaning": "yes"}}
    path = tmp_path / "explained" / "promoter.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({**PROMOTER.model_dump(mode="json", exclude={"n"}), "labels": labels}), encoding="utf-8")
    (tmp_path / "in.csv").write_text("id,sequence\n" + "".join(f"{n},{'ACGTTGCA' * n}\n" for n in range(1, 9)), encoding="utf-8")
    predict_table(BatchRecipe(model=model_folder, files=[tmp_path / "in.csv"], task=str(path), out=tmp_path / "out.csv"))
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    session, card = Session(model_folder), load_card(path)
    unlike = 0
    for row in rows:
        messages = [{"role": "user", "content": render(card, {"sequence": row["seq"]}, card.prompts.eval)}]
        assert float(row["prob"]) == pytest.approx(session.probabilities(messages, ["g", "p"], reasoned=True)["p"], abs=1e-4)
        unlike += abs(float(row["prob"]) - session.probabilities(messages, ["g", "p"])["p"]) > 1e-3
    assert unlike
