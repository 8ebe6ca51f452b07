"""Chat: a conversation that remembers and forgets, FASTA by /load, probabilities of labels, and JSON lines for scripts."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from data_convert.tasks.cards import load_card
from data_convert.tasks.prompts import render
from eval.ask.likelihood import answered
from instruct.talk.session import Session
from llama_gene import main
from tokenizer.conversations import answer_ids

SEQUENCE = "ACGTACGTACGTACGTACGT"
CARD = load_card("sim/promoter")
PROMPT = render(CARD, {"sequence": SEQUENCE}, CARD.prompts.eval)


@pytest.fixture
def chat(talker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process: exit code, output, errors."""

    def run(*arguments: str, typed: str | bytes = "", model: Path = talker) -> tuple[int, str, str]:
        typed = typed.encode() if isinstance(typed, str) else typed
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
        code = main(["chat", "--model", str(model), "max_new_tokens=6", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_one_prompt_in_a_process_of_its_own(extended_folder):
    command = [sys.executable, "-m", "llama_gene", "chat", "--model", str(extended_folder), "max_new_tokens=6"]
    command += ["--prompt", f"Is this a promoter? {SEQUENCE}"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
    assert "[read ACGTACGTACGT… (20 letters) as dna]" in done.stderr
    assert "Traceback" not in done.stderr


def test_mistakes_are_refused_before_the_model_is_loaded(chat, tmp_path, extended_folder):
    """What is no merged model, no card, no sequence: one clear line, and 2."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    for arguments, model, message in [
        (["--prompt", "Is <dna>ACEGT</dna> a promoter?"], extended_folder, "<dna> in the prompt: 'E' at position 3"),
        ([], adapter, "adapter: an adapter, not a model; merge it with `llama-gene merge"),
        ([], tmp_path / "absent", "absent/config.json: no such model"),
        (["--task", "sim/promotor"], extended_folder, "no such card; did you mean 'sim/promoter'?"),
        (["--task", "sim/stability"], extended_folder, "no labels to give probabilities of, as it is a regression task"),
        (["--task", "lucaone/genus_tax"], extended_folder, "its labels stand in a label.txt"),
    ]:
        code, out, errors = chat(*arguments, model=model)
        assert (code, out) == (2, "")
        assert errors.startswith("error: ")
        assert message in errors
        assert errors.count("\n") == 1


def test_a_base_without_a_chat_template_is_refused(chat, talker, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    for file in talker.iterdir():
        if file.name != "chat_template.jinja":
            (base / file.name).symlink_to(file)
    code, _, errors = chat("--prompt", "Name it", model=base)
    assert code == 2
    assert "has no chat template" in errors
    assert "extend the base with `llama-gene tokenizer extend`" in errors


def test_a_conversation(chat, tmp_path):
    """The same question after /new has the same greedy answer as at the start; a mistake does not end the conversation."""
    fasta = tmp_path / "some file.fa"
    fasta.write_text(f">one\n{SEQUENCE}\n>two\nMKVLW\n")
    typed = ["Name it", "Name it", "Is <dna>ACEGT</dna> one?", "word " * 2000, "/new", "Name it", f"/load {fasta}", "Compare", "Name it"]
    typed += ["/task sim/promoter", "What now", "/load nowhere.fa", "/lod x", "", "/quit", "never read"]
    code, out, _ = chat(typed="\n".join(typed) + "\n")
    assert code == 0
    banner, *turns = out.split("you> ")
    assert "/new starts over" in banner
    assert len(turns) == len(typed) - 1
    assert turns[0] == turns[5]
    assert turns[0].strip()
    assert turns[1] != turns[0], "the second turn must see the first"
    assert turns[2].startswith("error: <dna> in the prompt: 'E' at position 3")
    assert turns[3].startswith("error: the conversation has")
    assert "start over" in turns[3]
    assert turns[6].splitlines() == [
        "[read one (20 letters) as dna; it goes behind the next prompt]",
        "[read two (5 letters) as protein; it goes behind the next prompt]",
    ]
    assert re.fullmatch(r"\[sim/promoter\] \w+ [01]\.\d{3}, \w+ 0\.\d{3}", turns[10].splitlines()[-1])
    assert turns[11] == "error: nowhere.fa: no such file; check the path in the recipe\n"
    assert turns[12].startswith("error: /lod: no such command")
    assert turns[4] == turns[13] == turns[14] == ""
    assert chat(typed="")[0] == 0, "the end of input ends it too"
    assert chat(typed=b"/caf\xe9\n/lod\n")[1].count("no such command") == 2, "a foreign byte does not end it"


def test_loaded_sequences_go_behind_the_next_prompt_and_no_other(talker, tmp_path):
    from instruct.talk.chat import Talk
    from instruct.talk.session import Sampling

    fasta = tmp_path / "x.fa"
    fasta.write_text(f">one\n{SEQUENCE}\n>two\nMKVLW\n")
    talk = Talk(Session(talker), Sampling(max_new_tokens=2), None)
    for line in (f"/load {fasta}", "", "Compare", "Again"):
        talk._line(line)
    asked = [message["content"] for message in talk.messages if message["role"] == "user"]
    assert asked == [f"Compare\n<dna>{SEQUENCE}</dna>\n<protein>MKVLW</protein>", "Again"]


def test_classification_prompts_come_with_the_probabilities_of_evaluation(chat, talker):
    """Recognised by the card's own words, or named; equal to the softmax of the log-likelihoods that evaluation uses."""
    session = Session(talker)
    messages = [{"role": "user", "content": PROMPT}]
    labels = ["background", "promoter"]
    answers = [answer_ids(session.tokenizer, messages, label) for label in labels]
    logprobs, _ = answered(session.model, session.tokenizer, [session.prompt(messages)], answers, 0, greedy_text=False)
    expected = dict(zip(labels, torch.tensor(logprobs[0]).double().softmax(0).tolist(), strict=True))
    requests = [{"prompt": PROMPT}, {"prompt": "Anything", "task": "sim/promoter"}, {"prompt": "Anything"}]
    code, out, _ = chat("--json", typed="\n".join(map(json.dumps, requests)))
    assert code == 0
    first, named, neither = map(json.loads, out.splitlines())
    assert first["probabilities"] == pytest.approx(expected, rel=1e-3, abs=0)
    assert first["label"] == max(expected, key=lambda label: expected[label])
    assert first["tasks"] == named["tasks"] == ["sim/promoter"]
    assert sum(named["probabilities"].values()) == pytest.approx(1)
    assert named["probabilities"] != pytest.approx(expected, rel=1e-2, abs=0), "the prompt must count"
    assert neither["tasks"] is neither["probabilities"] is neither["label"] is None
    _, out, _ = chat("--prompt", PROMPT)
    assert out.splitlines()[-1].startswith(f"[sim/promoter] {first['label']} {expected[first['label']]:.3f}")


def test_json_lines_in_and_out(chat):
    """One object for each line, in order, with whatever else the request held; what is wrong with one is in its own line."""
    requests = [
        json.dumps({"prompt": f"Is {SEQUENCE} one?", "id": 7}),
        "nonsense",
        '{"prompt": 3}',
        '{"prompt": " "}',
        json.dumps({"prompt": "Is <dna>ACEGT</dna> one?"}),
        json.dumps({"messages": [{"role": "user", "content": "Name it"}, {"role": "assistant", "content": "a"}]}),
        json.dumps({"messages": [{"role": "robot", "content": "Name it"}, {"role": "user", "content": "a"}]}),
        json.dumps({"prompt": "word " * 2000}),
        json.dumps({"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Name it"}]}),
        json.dumps({"prompt": "Name it", "task": "sim/promotor"}),
    ]
    code, out, _ = chat("--json", typed="\n".join(requests) + "\n\n")
    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) == len(requests)
    assert found[0]["id"] == 7
    assert found[0]["wrapped"] == [{"modality": "dna", "letters": SEQUENCE}]
    assert [line["status"] == "error" for line in found] == [False, True, True, True, True, True, True, True, False, True]
    assert all((line["answer"] is None) == (line["status"] == "error") for line in found)
    assert found[1]["line"] == 2
    assert "no such card" in found[9]["error"]
    code, out, _ = chat("--json", "--prompt", "Name it")
    assert (code, len(out.splitlines()), json.loads(out)["prompt"]) == (0, 1, "Name it")


def test_a_span_that_is_never_closed_is_said_and_english_between_tags_is_english(chat):
    """In the terminal and in JSON; the page has the same words (test_serve.py)."""
    open_span, english = "Go on: <protein>MKV", "Put DNA between <dna> and </dna>."
    never = "position 8: <protein> is never closed; the letters behind it are read as a sequence to be continued"
    assert f"[{never}]\n" in chat("--prompt", open_span)[2]
    _, out, _ = chat("--json", typed="\n".join(json.dumps({"prompt": prompt}) for prompt in (open_span, english, "Name it")))
    first, second, third = (json.loads(line)["remarks"] for line in out.splitlines())
    assert (first, third) == ([never], [])
    assert len(second) == 1
    assert second[0].startswith("position 22: blanks stand between capital letters alone in a sequence, so this span is read as text")


def test_a_bad_line_is_answered_and_the_next_one_served(chat, talker, tmp_path):
    """The template refuses a system turn, as those of many bases do."""
    model = tmp_path / "model"
    model.mkdir()
    for file in talker.iterdir():
        if file.name != "chat_template.jinja":
            (model / file.name).symlink_to(file)
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    (model / "chat_template.jinja").write_text(refusing + (talker / "chat_template.jinja").read_text())
    lines = {
        b'{"prompt": "Name it", "task": 3}': "`task` is the id or YAML file of a card",
        b'{"prompt": "Name it", "task": "%s"}' % (b"x" * 300): "File name too long",
        b'{"prompt": "a \\ud800 b"}': "a text is no UTF-8",
        b'{"prompt": "a \xff b"}': "a request is a JSON object in UTF-8",
        b'{"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "a"}]}': "template refuses this",
    }
    code, out, _ = chat("--json", typed=b"\n".join([*lines, b'{"prompt": "Name it"}']), model=model)
    assert code == 0
    *bad, good = map(json.loads, out.splitlines())
    assert [line["status"] for line in bad] == ["error"] * len(lines)
    for line, message in zip(bad, lines.values(), strict=True):
        assert message in line["error"]
    assert bad[2]["prompt"] == "a \ud800 b"
    assert good["answer"]


def test_an_answer_stays_where_a_label_does_not_fit(chat, talker, capsys):
    """Two tokens are left."""
    from instruct.talk.chat import Talk, _of_task
    from instruct.talk.session import Sampling

    session = Session(talker)
    free = session.context - len(session.prompt([{"role": "user", "content": ""}]))
    text = f"<dna>{'N' * (free - 4)}</dna>"
    answer = session.answer([{"role": "user", "content": text}], Sampling(6))
    _, out, _ = chat("--json", "--prompt", text, "--task", "sim/promoter")
    found = json.loads(out)
    assert (found["answer"], found["probabilities"], found["label"]) == (answer, None, None)
    assert found["status"] in ("valid", "invalid", "refused")
    assert found["no_probabilities"].startswith("no probabilities: prompt and label have")
    talk = Talk(session, Sampling(6), _of_task("sim/promoter"))
    talk.say(text, [])
    assert "[sim/promoter] no probabilities: prompt and label have" in capsys.readouterr().out
    assert [message["content"] for message in talk.messages] == [text, answer]
