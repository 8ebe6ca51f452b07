"""`eval predict` interrupted, with controls, on an unmerged adapter, on an endpoint; and what it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from asked_records import read, records, write
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from artefacts.recipe import load
from eval.ask.answer import batches_of, predictions
from eval.ask.controls import controlled
from eval.ask.likelihood import greedy
from eval.ask.predict import predict
from eval.ask.subjects import open_tokenizer
from eval.recipe import Asking, PredictRecipe, Subject
from tokenizer.conversations import answer_ids, prompt_ids


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("asked") / "records", records(8))


@pytest.fixture(scope="module")
def whole(model_folder: Path, asked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run, with all controls."""
    out = tmp_path_factory.mktemp("whole") / "out"
    predict(recipe(model_folder, asked, out))
    return out


def recipe(model: Path, asked: Path, out: Path, **more: Any) -> PredictRecipe:
    settings = {"batch_tokens": 300, "max_new_tokens": 5, "controls": ["shuffled", "removed", "permuted"], **more}
    return PredictRecipe(model=model, records=asked, out=out, **settings)


def same_files(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.glob("*.jsonl"))
    assert names == sorted(path.name for path in other.glob("*.jsonl"))
    assert len(names) == 4
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_killed_and_continued_gives_the_same_bytes(model_folder, asked, whole, tmp_path):
    out = tmp_path / "out"
    pieces = tmp_path / "out.partial" / "pieces"
    command = ["--model", model_folder, "--records", asked, "--out", out, "--batch-tokens", "300", "--max-new-tokens", "5"]
    command += ["controls=[shuffled, removed, permuted]"]
    child = subprocess.Popen([sys.executable, "-m", "llama_gene", "eval", "predict", *map(str, command)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while child.poll() is None and time.monotonic() < deadline and not (pieces.is_file() and pieces.read_bytes().count(b"\n") >= 3):
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was done before it could be killed"
    found = pieces.read_bytes()
    assert not out.exists()
    pieces.write_bytes(found[: found.rindex(b"\n", 0, len(found) - 1) + 20])  # and the last line was not written to its end
    kept = pieces.read_bytes().count(b"\n")
    assert kept >= 2
    predict(recipe(model_folder, asked, out))
    same_files(out, whole)
    assert not pieces.parent.exists()


def test_what_is_finished_is_not_asked_again(model_folder, asked, whole, tmp_path, monkeypatch):
    import eval.ask.answer

    calls: Counter[str] = Counter()
    original = eval.ask.answer.answer_batch

    def failing(*arguments: Any) -> Any:
        calls["made"] += 1
        if calls["made"] == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(eval.ask.answer, "answer_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        predict(recipe(model_folder, asked, tmp_path / "out"))
    calls["made"] = 100
    predict(recipe(model_folder, asked, tmp_path / "out"))
    own = AutoTokenizer.from_pretrained(model_folder)
    given = records(8)
    systems = [given, *(controlled(name, given, 0) for name in ("shuffled", "removed", "permuted"))]
    assert calls["made"] - 100 == sum(len(list(batches_of(own, its, 300))) for its in systems) - 4
    same_files(tmp_path / "out", whole)


def test_pieces_of_another_run_are_refused(model_folder, asked, whole, tmp_path):
    out, partial = tmp_path / "out", tmp_path / "out.partial"

    def begun() -> None:
        partial.mkdir(exist_ok=True)
        plan = {"records": "another file's"}
        (partial / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        (partial / "pieces").write_text("[]\n", encoding="utf-8")

    begun()
    with pytest.raises(UserError, match=r"out\.partial: was made with .* remove that folder to start over, or pass --overwrite"):
        predict(recipe(model_folder, asked, out))
    predict(recipe(model_folder, asked, out), overwrite=True)
    same_files(out, whole)
    with pytest.raises(UserError, match="already exists"):
        predict(recipe(model_folder, asked, out))


def test_controls_take_away_what_they_say(asked):
    given = records(8)
    for name in ("shuffled", "removed"):
        for before, after in zip(given, controlled(name, given, 0), strict=True):
            letters = before["inputs"][0]["letters"]
            text = after["prompt"][0]["content"]
            inside = text[text.index("<dna>") + 5 : text.index("</dna>")]
            assert sorted(inside) == ([] if name == "removed" else sorted(letters))
            assert text.replace(inside or "<dna></dna>", "") == before["prompt"][0]["content"].replace(
                letters if inside else f"<dna>{letters}</dna>", ""
            )
            assert {**after, "prompt": 0} == {**before, "prompt": 0}
    mixed = controlled("shuffled", given, 0)
    assert mixed == controlled("shuffled", given, 0)
    assert sum(a != b for a, b in zip(mixed, controlled("shuffled", given, 1), strict=True)) > len(given) / 2
    renamed = controlled("permuted", given, 0)
    assert {line["kind"] for line in renamed} == {"binary", "multiclass", "multilabel"}
    for line in renamed:
        before = next(record for record in given if record["id"] == line["id"])
        assert sorted(line["choices"]) == sorted(before["choices"])
        assert all(now != then for now, then in zip(line["choices"], before["choices"], strict=True)), "every name changes"
        assert f"One of: {', '.join(line['choices'])}." in line["prompt"][0]["content"]


def test_predictions_of_controls_are_in_the_records_names(whole, model_folder, tokenizer):
    given = {record["id"]: record for record in records(8)}
    renamed = {record["id"]: record for record in controlled("permuted", list(given.values()), 0)}
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    plain = {line["id"]: line for line in predictions(model, tokenizer, list(renamed.values()), Asking(batch_tokens=300, max_new_tokens=5))}
    lines = read(whole / "llama-gene@permuted.jsonl")
    assert [line["id"] for line in lines] == list(renamed)
    for line in lines:
        assert (line["choices"], line["gold"]) == (given[line["id"]]["choices"], given[line["id"]]["label"])
        if line["logprobs"]:
            assert line["logprobs"] == pytest.approx(plain[line["id"]]["logprobs"], abs=1e-4)
            best = max(range(len(line["choices"])), key=line["logprobs"].__getitem__)
            assert line["predicted"] == line["choices"][best]
            assert renamed[line["id"]]["choices"][best] == plain[line["id"]]["predicted"]
    shuffled = read(whole / "llama-gene@shuffled.jsonl")
    assert [line["id"] for line in shuffled] == list(given)
    differ = [a["logprobs"] != b["logprobs"] for a, b in zip(shuffled, read(whole / "llama-gene.jsonl"), strict=True) if a["logprobs"]]
    assert sum(differ) > len(differ) / 2


def test_an_adapter_stays_unmerged_and_answers_as_merged(model_folder, asked, tmp_path):
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    tuned.merge_and_unload().save_pretrained(tmp_path / "merged")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(model_folder / name, tmp_path / "merged" / name)
    predict(recipe(model_folder, asked, tmp_path / "a", adapter=tmp_path / "adapter", controls=[]))
    predict(recipe(tmp_path / "merged", asked, tmp_path / "m", controls=[]))
    predict(recipe(model_folder, asked, tmp_path / "b", controls=[], greedy=False))
    adapted, merged, base_only = (read(tmp_path / name / "llama-gene.jsonl") for name in "amb")
    for one, other in zip(adapted, merged, strict=True):
        assert one["logprobs"] == (other["logprobs"] and pytest.approx(other["logprobs"], abs=1e-4))
        assert one["text"] == other["text"]
    assert any(
        one["logprobs"] != pytest.approx(other["logprobs"], abs=1e-2)
        for one, other in zip(adapted, base_only, strict=True)
        if one["logprobs"]
    )
    assert set(read_manifest(tmp_path / "a")["inputs"]) == {"model", "adapter", "records"}
    for line in base_only:  # greedy=False
        closed = line["logprobs"] is not None
        assert (line["status"] is None) == (line["text"] is None) == closed
        assert line["predicted"] is not None or line["kind"] == "multilabel"
    (tmp_path / "adapter" / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="its tokenizer is not that of"):
        predict(recipe(model_folder, asked, tmp_path / "c", adapter=tmp_path / "adapter"))
    (tmp_path / "adapter" / "tokenizer.json").unlink()
    small = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(model_folder).config)
    small.config.hidden_size = 16
    type(small)(small.config).save_pretrained(tmp_path / "small")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(model_folder / name, tmp_path / "small" / name)
    with pytest.raises(UserError, match="does not fit"):
        predict(recipe(tmp_path / "small", asked, tmp_path / "c", adapter=tmp_path / "adapter"))


@pytest.fixture
def server(model_folder: Path, tokenizer: Any) -> Iterator[Any]:
    """An OpenAI-compatible server on this machine that answers with the model itself."""
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    seen: list[dict[str, Any]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                seen.append({**body, "path": self.path})
                broken = server.broken_after is not None and len(seen) > server.broken_after
                text = "" if broken else greedy(model, tokenizer, [prompt_ids(tokenizer, body["messages"])], body["max_tokens"])[0]
            message = {"role": "assistant", "content": text}
            answer = {
                "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            }  # fmt: skip
            payload = json.dumps({"error": {"message": "no such model"}} if broken else answer).encode()
            self.send_response(404 if broken else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *arguments: Any) -> None:
            pass

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.broken_after = seen, None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_gives_the_same_greedy_answers(server, model_folder, asked, tokenizer, tmp_path, monkeypatch):
    pytest.importorskip("openai", reason="the openai package is not installed (pip install 'llama-gene[dev]')")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    here = recipe(Path("gene"), asked, tmp_path / "out", endpoint=url, concurrency=2, controls=["removed"], system="served")
    server.broken_after = 20
    with pytest.raises(UserError, match=r"NotFoundError: .*no such model.*run the same command again"):
        predict(here)
    server.broken_after = None
    first = len(server.seen)
    predict(here)
    assert len(server.seen) - first <= 80 - 16, "what was answered is not asked again"
    assert {(body["path"], body["model"], body["temperature"]) for body in server.seen} == {("/v1/chat/completions", "gene", 0)}
    given = records(8)
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    for name, its in {"served": given, "served@removed": controlled("removed", given, 0)}.items():
        lines = read(tmp_path / "out" / f"{name}.jsonl")
        assert [line["id"] for line in lines] == [record["id"] for record in its]
        for line, record in zip(lines, its, strict=True):
            closed = record["choices"] if record["kind"] != "multilabel" else []
            room = max(map(len, closed)) + 4 if closed else 5
            assert line["text"] == greedy(model, tokenizer, [prompt_ids(tokenizer, record["prompt"])], room)[0]
            assert line["logprobs"] is None
            assert line["predicted"] == (line["text"] if line["kind"] == "text" else line["parsed"])


def test_records_whose_template_writes_answers_differently_are_told_apart(model_folder, tokenizer):
    """A template may look at the prompt; every record's candidates are then those of its own kind."""
    own = AutoTokenizer.from_pretrained(model_folder)
    own.chat_template = (
        "{%- for message in messages %}{%- if message['role'] == 'assistant' %}"
        "{{- ('promoter: ' if 'ACG' in messages[0]['content'] else '') + message['content'] + eos_token }}"
        "{%- else %}{{- message['content'] + '\\n' }}{% endif %}{%- endfor %}"
    )
    given = records(12, ["binary"])
    assert 0 < sum("ACG" in line["prompt"][0]["content"] for line in given) < len(given)
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    found = {line["id"]: line["logprobs"] for line in predictions(model, own, given, Asking(batch_tokens=4096, greedy=False))}
    for record in given:
        prompt = prompt_ids(own, record["prompt"])
        for choice, value in zip(record["choices"], found[record["id"]], strict=True):
            answer = answer_ids(own, record["prompt"], choice)
            with torch.no_grad():
                logprobs_TV = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            assert value == pytest.approx(sum(logprobs_TV[len(prompt) - 1 + n, token].item() for n, token in enumerate(answer)), abs=1e-3)


def test_todays_date_in_a_template_does_not_reach_a_prompt(model_folder, tmp_path):
    """Of a model that was not extended, straight from a hub: evaluation on another day asks in the same words."""
    shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    path = tmp_path / "model" / "chat_template.jinja"
    path.write_text("{{ strftime_now('%d %b %Y') }}" + path.read_text(encoding="utf-8"), encoding="utf-8")
    opened = open_tokenizer(Subject(model=tmp_path / "model"))
    assert opened.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False).startswith("26 Jul 2024")


def test_refusals(model_folder, asked, tmp_path):
    from data_convert.tasks.cards import load_card

    def refused(folder: Path, **more: Any) -> str:
        with pytest.raises(UserError) as error:
            predict(recipe(more.pop("model", model_folder), folder, tmp_path / "out", **more))
        assert not (tmp_path / "out").exists()
        return str(error.value)

    lines = records(2, ["binary"])
    assert "stands in the file twice" in refused(write(tmp_path / "twice", [*lines, lines[0]]))
    card = load_card("sim/promoter").model_dump(mode="json")
    folder = write(tmp_path / "other", [{**line, "task": card["id"]} for line in lines])
    card["labels"]["0"]["name"] = "no promoter"
    (folder / "cards.json").write_text(json.dumps([card]), encoding="utf-8")
    assert "has the choices promoter, background, its card no promoter, promoter" in refused(folder)
    card["id"] = "sim/splice"
    (folder / "cards.json").write_text(json.dumps([card]), encoding="utf-8")
    assert "records of sim/promoter, which has no card" in refused(folder)

    other = tmp_path / "model"
    shutil.copytree(model_folder, other)
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40}), encoding="utf-8")
    assert "the model's context is 40" in refused(asked, model=other)
    (other / "config.json").write_text(json.dumps(config | {"vocab_size": 400}), encoding="utf-8")
    assert "400 embedding rows for" in refused(asked, model=other)
    (other / "chat_template.jinja").unlink()
    assert "no chat template" in refused(asked, model=other)
    assert "no such adapter" in refused(asked, adapter=tmp_path / "absent")
    with pytest.raises(UserError, match="an endpoint serves what it serves"):
        load(PredictRecipe, None, ["model=x", "records=x", "out=x", "adapter=x", "endpoint=http://x"])
    with pytest.raises(UserError, match="system"):
        load(PredictRecipe, None, ["model=x", "records=x", "out=x", "system=a/b"])
