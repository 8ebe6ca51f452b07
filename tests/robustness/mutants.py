"""Readers of the project with a good file for each, ways to spoil it, and the law: read and counted, or refused by name.

Used by test_mutants.py, and by guided.py, which looks for new paths through the readers. `make torture` sets
LLAMA_GENE_MUTANTS, the number of files that each reader gets.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # guided.py is no test
import reader_fuzz as fuzz
from toy_cards import CARD, toy_card

import llama_gene
import pipeline
from artefacts.errors import UserError
from artefacts.folder import check_weights_intact, read_manifest
from artefacts.owner import pieces_of
from artefacts.recipe import apply_override, load
from artefacts.resume import work_on
from configs import CONFIGS
from data_convert.corpus.exclude import read_excluded
from data_convert.fetch.sources import load_source
from data_convert.splits.pool import read_pool
from data_convert.tasks.cards import load_card, read_cards
from data_convert.tasks.chats import chat_card
from data_convert.tasks.examples import Example, Reader, TaskLedger
from data_convert.tasks.records import RecordWriter, each_record
from data_convert.tasks.rows import read_sequences_by_id
from eval.baselines.embedding.inputs import read_inputs
from eval.judge.score import _made_from
from eval.predictions import aligned, by_task, find_runs, head_of, prediction_lines
from eval.sequences.recipe import VariantsRecipe
from eval.sequences.variants import _lines as variant_lines
from instruct.talk.batch_rows import Rows
from instruct.talk.chat import _lines as chat_lines
from instruct.talk.chat import _messages
from instruct.talk.endpoint import Gate
from instruct.talk.limits import Hosts
from instruct.talk.sequences import read_box, read_fasta, wrap_sequences
from sequences.features import gff_features
from sequences.genes import genes_of_file

MUTANTS = int(os.environ.get("LLAMA_GENE_MUTANTS", "60"))
CORPUS = Path(__file__).parent / "minimal_failures.json"
"""Reader -> the smallest files that once broke its law, in latin-1."""
CONTEXT = 512
"""Tokens of the endpoint's model."""
SECONDS = 5
"""A file of a few kilobytes that takes longer is taken for a hang."""


@dataclass(frozen=True)
class Target:
    """A reader, and what it is given."""

    name: str
    """Of the file."""
    seed: bytes
    read: Callable[[Path], Any]
    """Reads the file; AssertionError where a row is lost, UserError where it is refused."""
    grammar: str = "bytes"
    """json, lines (of JSON), yaml, table or fasta: how it is spoilt other than byte by byte."""
    markers: tuple[bytes, ...] = ()
    named: bool = True
    """A refusal names the file; of a line of a chat or a request to a server there is none."""
    share: float = 1.0
    """Of the mutants that others get: some readers do more with each."""


# What the readers say


def records(path: Path) -> None:
    rows = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    assert len(list(each_record(path))) == rows


def predictions(path: Path) -> None:
    truth = list(each_record(path.parent.parent / "test.jsonl"))
    for own in find_runs([path.parent], path.parent.parent).values():
        for run in own:
            lines = by_task(prediction_lines(run.path))
            if set(lines) == {truth[0]["task"]}:
                assert len(aligned(truth, lines[truth[0]["task"]], run.path)) == len(truth)


def manifest(path: Path) -> None:
    noted = read_manifest(path.parent)
    assert {"stage", "recipe", "inputs", "counts"} <= noted.keys()
    find_runs([path.parent], path.parent.parent)
    _made_from([path.parent])
    check_weights_intact(path.with_name("toy.jsonl"))


def task(path: Path, **changes: Any) -> None:
    ledger = TaskLedger()
    examples = list(Reader(toy_card(**changes), path.parent).read(path.name, ledger))
    assert ledger.as_dict()["written"] == len(examples)
    writer = RecordWriter(toy_card(**changes), "own", 0) if examples else None
    for example in examples:
        assert writer is not None
        writer.line(next(writer.records(example, "train"))).encode()


def chats(path: Path) -> None:
    ledger = TaskLedger()
    assert len(list(Reader(chat_card(path), path.parent).read(path.name, ledger))) == ledger.as_dict()["written"]


def predict_rows(path: Path) -> None:
    rows = Rows(toy_card(), [path], None)
    assert len(list(rows.read())) == rows.ledger.as_dict()["written"]
    assert len(rows.rejected) == rows.ledger.rejected


def embed_rows(path: Path) -> None:
    items, ledger = read_inputs(path, "gene", None, None, "set_aside", 1.0)
    assert ledger.as_dict()["written"] == len(items)


def excluded(path: Path) -> None:
    for ledger in read_excluded((path,))[1].values():
        ledger.as_dict()


def variants(path: Path) -> None:
    lines = list(variant_lines(VariantsRecipe(variants=path, genome=[path], model=path, out=path.with_name("out"))))
    assert all(len(cells) == 6 and place.startswith(str(path)) for place, cells, _ in lines)


def genes(path: Path) -> None:
    features = list(gff_features(path))
    found, broken, _ = genes_of_file(features)
    kinds = sum(feature.kind.endswith("gene") for feature in features)
    assert kinds <= len(found) + len(broken)


def recipe(kind: Any) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        load(kind, path).model_dump_json()

    return read


def whole_pipeline(path: Path) -> None:
    pipeline.planned(pipeline.read(path, [], llama_gene.verb)[0])


def override(path: Path) -> None:
    values: dict[str, Any] = {}
    keys = apply_override(values, path.read_bytes().decode("utf-8", "surrogateescape"))
    assert keys
    assert values


def chat_requests(path: Path) -> None:
    kept = sys.stdin
    with path.open() as sys.stdin:
        try:
            requests = list(chat_lines())
        finally:
            sys.stdin = kept
    assert len(requests) == sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    for request in requests:
        try:
            said, _ = _messages(request)
        except UserError:
            continue
        assert all(message["content"].strip() for message in said)


def typed(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace")
    wrapped, _ = wrap_sequences(text)
    assert "".join(wrapped.split()).count(">") >= text.count(">")
    again, found = wrap_sequences(wrapped)
    assert (again, found) == (wrapped, []), "what is between tags is left as it is"


def pasted(path: Path) -> None:
    read_box(path.read_bytes().decode("utf-8", "replace"))


def pieces(path: Path) -> None:
    """A run that goes on from damaged pieces ends with the rows of an undisturbed one."""
    damaged, out = path.read_bytes(), path.with_name("out")
    half_a_run(out)
    pieces_of(out).write_bytes(damaged)
    with work_on(out, {"plan": 1}) as work:
        assert list(work.each(range(4), lambda number: {"row": number})) == [{"row": number} for number in range(4)]


def request(path: Path, tokenizer: Any, loop: asyncio.AbstractEventLoop) -> None:
    """A request with its head: the first line is path, Host and Origin, what follows is the body."""
    head, _, body = path.read_bytes().partition(b"\n")
    where, host, origin = [*head.split(b" "), b"", b"", b""][:3]
    sent, behind = list[Any](), list[Any]()
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        behind.append(json.loads((await receive())["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    scope = {"type": "http", "method": "POST", "path": where.decode("latin-1"), "headers": [(b"host", host), (b"origin", origin)]}
    loop.run_until_complete(Hosts(Gate(app, "m", tokenizer, CONTEXT, {}))(scope, receive, send))
    status = sent[0]["status"]
    assert (status == 200) == bool(behind), status
    assert status in (200, 400, 403, 404, 413), status
    if behind:
        assert 1 <= behind[0]["max_tokens"] < CONTEXT


# The good files

ROWS = [{"seq": "ACGTACGTACGTACGTACGT"[number:] + "ACGT", "label": number % 2, "note": f"n {number}"} for number in range(6)]
TABLE = ",".join(ROWS[0]) + "\n" + "".join(",".join(map(str, row.values())) + "\n" for row in ROWS)
GENES = (
    "##gff-version 3\nc1\tx\tgene\t10\t90\t.\t+\t.\tID=g1;Name=a%20b\nc1\tx\tmRNA\t10\t90\t.\t+\t.\tID=t1;Parent=g1\n"
    "c1\tx\texon\t10\t40\t.\t+\t.\tParent=t1\nc1\tx\tCDS\t12\t40\t.\t+\t0\tID=c1;Parent=t1\nc1\tx\tgene\t100\t120\t.\t-\t.\tID=g2\n"
    'c2\tx\texon\t1\t9\t.\t-\t.\tgene_id "g3"; transcript_id "t3";\n'
)
CALLS = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\nc1\t5\trs1\tA\tC\nc1\t9\t.\tAC\tA\nc2\t7\t.\tG\tT\n"
CONVERSATION = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
    {"conversations": [{"from": "human", "value": "What is <dna>ACGT</dna>?"}, {"from": "gpt", "value": "DNA"}]},
    {"instruction": "Name", "input": "it", "output": "BRCA1", "history": [["a", "b"]]},
]
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Name it"}], "max_tokens": 5, "temperature": 0.5, "stop": ["x"]}
MANIFEST = {"stage": "tasks", "created": "2026-01-01", "recipe": {"out": "x"}, "inputs": {"other": "0"}, "counts": {"n": 1}}
YAML_MARKERS = (
    b"&a ", b"*a", b"<<: *a\n", b"!!python/object:os.system ", b"!!binary ", b"? [a]\n", b"- ", b": ", b"\t", b"---\n", b"...\n",
    b"2020-99-99", b"0x", b"1e400", b".nan", b"'", b'"', b"|\n", b"[" * 200, b"{a: " * 60, b"9" * 5000, b"%YAML 9\n", b"#", b"!!set ",
)  # fmt: skip
JSON_MARKERS = (
    b"{", b"[" * 3000, b'{"a":' * 3000, b"\\ud800", b"null", b"NaN", b"-Infinity", b"9" * 5000, b"1e999", b'"', b",", b"\\", b"\\u0000",
    b'"id": "x", "id": "y"', b"<dna>", b"</dna>", b"\xed\xa0\x80",
)  # fmt: skip


def as_lines(documents: list[Any]) -> bytes:
    return "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents).encode()


@cache
def good_records() -> list[dict[str, Any]]:
    card = toy_card()
    writer = RecordWriter(card, "own", 0)
    examples = [
        Example(f"r{n}", n, {"sequence": row["seq"]}, label, label, {}) for n, row in enumerate(ROWS) for label in [("off", "on")[n % 2]]
    ]
    for example in examples:
        example.file = "test.csv"
    return [{**record, "choices": card.choices} for example in examples for record in writer.records(example, "test")]


def good_predictions() -> list[dict[str, Any]]:
    answer = {"logprobs": [-0.5, -1.0], "predicted": "off", "text": "off", "parsed": "off", "status": "valid"}
    return [{**head_of(record), **answer} for record in good_records()]


def half_a_run(out: Path) -> bytes:
    """What a run keeps that is stopped behind three of its four pieces."""
    with contextlib.suppress(KeyboardInterrupt), work_on(out, {"plan": 1}, overwrite=True) as work:
        for piece in work.each(range(4), lambda number: {"row": number}):
            if piece["row"] == 2:
                raise KeyboardInterrupt
    return pieces_of(out).read_bytes()


def targets(folder: Path, tokenizer: Any = None) -> dict[str, Target]:
    """Name -> what is tried; what their files need beside them is written below the folder."""
    beside = {"records": folder / "records", "predictions": folder / "scored", "manifest": folder / "scored"}
    for place in beside.values():
        place.mkdir(exist_ok=True)
        (place / "cards.json").write_text(f"[{toy_card().model_dump_json()}]")
        (place / "test.jsonl").write_bytes(as_lines(good_records()))
    for place in ("system", "other"):
        (folder / "scored" / place).mkdir()
        (folder / "scored" / place / "toy.jsonl").write_bytes(as_lines(good_predictions()))
    (folder / "pool").mkdir()
    (folder / "pool" / "cards.json").write_text(f"[{toy_card().model_dump_json()}]")
    whole = {**MANIFEST, "weights": {"other.safetensors": "00"}}
    gene_text: dict[str, Any] = {"kind": "text", "labels": None, "metrics": ["rouge_l"], "primary_metric": "rouge_l", "label": "note"}
    gene_text["prompts"] = {"train": ["{sequence}"], "eval": "{sequence}?"}
    table = {"grammar": "table", "markers": (b",", b"\t", b";", b'"', b'""', b"\n\n", b"\x00")}
    lines = {"grammar": "lines", "markers": JSON_MARKERS}
    tree = {"grammar": "yaml", "markers": YAML_MARKERS}
    found = {
        "records": Target("records/test.jsonl", as_lines(good_records()[:3]), records, **lines),
        "pool": Target("pool/test.jsonl", as_lines(good_records()[:3]), lambda path: read_pool(path.parent), **lines),
        "excluded records": Target("excluded.jsonl", as_lines(good_records()[:3]), excluded, **lines),
        "cards.json": Target("cards/cards.json", f"[{toy_card().model_dump_json()}]".encode(), lambda path: read_cards(path.parent),
                             "json", JSON_MARKERS),
        "card": Target("x/toy.yaml", yaml.safe_dump(CARD, sort_keys=False).encode(), load_card, share=0.3, **tree),
        "source": Target("source.yaml", (CONFIGS / "sources" / "gue.yaml").read_bytes(), lambda path: load_source(str(path)), share=0.3,
                         **tree),
        "pipeline": Target("pipeline.yaml", (CONFIGS / "recipes" / "quickstart.yaml").read_bytes(), whole_pipeline, share=0.06, **tree),
        "override": Target("override", b"schedule.stages=[{steps: 3, learning_rate: 3e-4}, null]", override, "bytes", YAML_MARKERS, False),
        "predictions": Target("scored/system/toy.jsonl", as_lines(good_predictions()), predictions, **lines),
        "manifest": Target("scored/other/manifest.json", json.dumps(whole).encode(), manifest, "json", JSON_MARKERS),
        "task of CSV": Target("task.csv", TABLE.encode(), task, **table),
        "task of TSV": Target("task.tsv", TABLE.replace(",", "\t").encode(), lambda path: task(path, format="tsv"), **table),
        "task of texts": Target("words.csv", TABLE.encode(), lambda path: task(path, **gene_text), **table),
        "task of JSON": Target("task.json", as_lines(ROWS), lambda path: task(path, format="json"), **lines),
        "task of one array": Target("array.json", json.dumps(ROWS, indent=1).encode(), lambda path: task(path, format="json"), "json",
                                    JSON_MARKERS),
        "task of FASTA": Target("task.fa", b"".join(f">{row['label']}\n{row['seq']}\n".encode() for row in ROWS),
                                lambda path: task(path, format="fasta", label=None), "fasta", (b"\n>", b">", b";")),
        "chats": Target("chats.jsonl", as_lines(CONVERSATION), chats, **lines),
        "rows to predict": Target("predict.csv", TABLE.encode(), predict_rows, **table),
        "FASTA to predict": Target("predict.fa", fuzz.EXAMPLES["FASTA of DNA"].content, predict_rows, "fasta", (b"\n>", b">")),
        "rows to embed": Target("embed.csv", b"id,kind,seq\n" + "".join(f"r{n},gene,{row['seq']}\n" for n, row in enumerate(ROWS)).encode(),
                                embed_rows, **table),
        "excluded table": Target("excluded.csv", TABLE.encode(), excluded, **table),
        "sequences by id": Target("by-id.fa", fuzz.EXAMPLES["FASTA of DNA"].content, read_sequences_by_id, "fasta", (b"\n>", b"\t")),
        "genes": Target("genes.gff", GENES.encode(), genes, "table", (b"\t", b";", b"=", b"%zz", b"##FASTA\n", b"9" * 5000, b'"')),
        "variants": Target("calls.vcf", CALLS.encode(), variants, "table", (b"\t", b",", b"#", b"##", b"9" * 5000)),
        "chat lines": Target("chat.jsonl", as_lines([{"prompt": "Hi"}, *CONVERSATION[:1], {"prompt": "<dna>ACGT</dna>", "task": "x"}]),
                             chat_requests, "lines", JSON_MARKERS, False),
        "typed": Target("typed", f"Is <dna>{'ACGT' * 6}</dna> like\n{'ACGU' * 6}\nor {'MKVLA' * 8}*?".encode(), typed, "bytes",
                        (b"<dna>", b"</dna>", b"<rna>", b"</protein>", b"<", b"\n", b"*", b"ACGT" * 5, b"U"), False),
        "pasted": Target("pasted", fuzz.EXAMPLES["FASTA of DNA"].content, pasted, "fasta", (b"\n>", b">"), False),
        "uploaded": Target("uploaded.fa", fuzz.EXAMPLES["FASTA of proteins"].content, lambda path: read_fasta(path, 8), "fasta", (b"\n>",)),
        "request": Target("request", b"/v1/chat/completions localhost http://localhost\n" + json.dumps(ASKED).encode(),
                          partial(request, tokenizer=tokenizer, loop=asyncio.new_event_loop()), "request",
                          (*JSON_MARKERS, b"/v1/completions", b"[::1]:8000", b"evil.example", b"..", b"%2e", b"@", b"user:x@127.0.0.1")),
        "pieces": Target("pieces", half_a_run(folder / "out"), pieces, named=False, share=0.1),
    }  # fmt: skip
    for place, kind in RECIPES.items():
        verb = llama_gene.verb(kind)
        found[f"recipe of {kind}"] = Target(
            f"{place.replace('/', '-')}", (CONFIGS / place).read_bytes() + MORE.get(kind, b""), recipe(verb.kind), share=0.5, **tree
        )
    if tokenizer is None:
        del found["request"]
    return found


RECIPES = {
    "corpora/example.yaml": "convert pack", "pretrain/tiny.yaml": "pretrain", "instruct/tiny.yaml": "instruct",
    "baselines/protstab.yaml": "baseline train",
}  # fmt: skip
MORE = {"baseline train": b"data: x\nout: y\n"}
"""What the recipe leaves to the command line."""

TARGETS = [
    "records", "pool", "excluded records", "cards.json", "card", "source", "pipeline", "override", "predictions", "manifest", "task of CSV",
    "task of TSV", "task of texts", "task of JSON", "task of one array", "task of FASTA", "chats", "rows to predict", "FASTA to predict",
    "rows to embed", "excluded table", "sequences by id", "genes", "variants", "chat lines", "typed", "pasted", "uploaded", "request",
    "pieces", *(f"recipe of {kind}" for kind in RECIPES.values()),
]  # fmt: skip
"""Names of `targets`."""
GUIDED = ["records", "predictions", "cards.json", "chats", "task of texts", "rows to embed", "genes", "variants", "typed", "override"]
"""Those that are also looked through by guided.py."""

# How they are spoilt

ODD: list[Any] = [
    None, True, 0, -1, 1.5, float("inf"), float("nan"), 10**30, "", "x", "\ud800", "\0", " ", "é\u2028", [], {}, [[]], {"a": {"b": 1}},
    "A" * 3000, "<dna>", "../../x", "ACGTACGTACGT", [None], ["a", "a"], {"": 1},
]  # fmt: skip


def spoilt_tree(draw: random.Random, document: Any) -> Any:
    """A document with one place changed: taken out, given twice, wrapped, or of another kind."""
    if not isinstance(document, dict | list) or not document or draw.random() < 0.15:
        return draw.choice([draw.choice(ODD), [document], {"a": document}, str(document)])
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key, copy = draw.choice(keys), document.copy()
    kind = draw.random()
    if kind < 0.15:
        del copy[key]
    elif kind < 0.3:
        copy[key] = copy[draw.choice(keys)]
    elif kind < 0.4 and isinstance(copy, dict):
        copy[draw.choice(("x", "id", "", 3))] = draw.choice(ODD)
    else:
        copy[key] = spoilt_tree(draw, copy[key])
    return copy


def spoilt_table(draw: random.Random, content: bytes) -> bytes:
    text = content.decode()
    delimiter = max(",\t", key=text.count)
    rows = [line.split(delimiter) for line in text.splitlines()]
    for _ in range(draw.choice((1, 1, 2, 4))):
        row = draw.choice(rows)
        place, kind = draw.randrange(len(row) + 1), draw.randrange(7)
        odd = str(draw.choice(ODD)).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        if kind == 0:
            row.insert(place, odd)
        elif kind == 1:
            del row[place:][:1]
        elif kind == 2:
            rows.insert(draw.randrange(len(rows) + 1), row.copy())
        elif kind == 3 and len(rows) > 1:
            rows.remove(row)
        elif place < len(row):
            row[place] = draw.choice((odd, f'"{row[place]}"', f'"{row[place]}', f"{row[place]}\n", f"{row[place]}{delimiter}", row[0]))
    if draw.random() < 0.2:
        out = io.StringIO()
        csv.writer(out, delimiter=draw.choice((",", "\t", ";")), lineterminator=draw.choice(("\n", "\r\n", "\r"))).writerows(rows)
        return out.getvalue().encode()
    return draw.choice(("\n", "\n", "\r\n", "\r")).join(map(delimiter.join, rows)).encode()


def spoilt_fasta(draw: random.Random, content: bytes) -> bytes:
    found = [b">" + part for part in content.split(b">")[1:]]
    for _ in range(draw.choice((1, 1, 2, 4))):
        place, kind = draw.randrange(len(found) or 1), draw.randrange(6)
        head, _, body = found[place].partition(b"\n")
        odd = str(draw.choice(ODD)).encode("utf-8", "replace")
        found[place : place + 1] = [
            [head + b"\n"], [body], [head + odd + b"\n" + body], [head + b"\n" + odd + body], [found[place]] * 2,
            [found[place].replace(b"\n", draw.choice((b"", b"\r\n", b"\r", b"\n\n", b" \n"))) + b"\n"],
        ][kind]  # fmt: skip
    draw.shuffle(found)
    return b"".join(found)


def spoilt(draw: random.Random, target: Target, seed: bytes) -> bytes:
    """One mutant: by the grammar of the file, byte by byte, or first the one and then the other."""
    how = draw.random()
    content = seed
    if target.grammar != "bytes" and how < 0.55:
        if target.grammar == "json":
            content = json.dumps(spoilt_tree(draw, json.loads(seed))).encode()
        elif target.grammar == "request":
            head, _, body = seed.partition(b"\n")
            content = head + b"\n" + json.dumps(spoilt_tree(draw, json.loads(body))).encode()
        elif target.grammar == "lines":
            lines = [json.loads(line) for line in seed.splitlines()]
            place = draw.randrange(len(lines))
            lines[place] = spoilt_tree(draw, lines[place])
            content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        elif target.grammar == "yaml":
            document = spoilt_tree(draw, parsed(seed))
            text = yaml.safe_dump(document, sort_keys=False) if draw.random() < 0.3 else json.dumps(document)
            content = text.encode("utf-8", "surrogatepass")
        else:
            content = (spoilt_table if target.grammar == "table" else spoilt_fasta)(draw, seed)
    if how > 0.45:
        example = fuzz.Example("", "", (), markers=target.markers)
        content = fuzz.edited(content, fuzz.random_edits(example, draw))
    return content


@cache
def parsed(seed: bytes) -> Any:
    return yaml.safe_load(seed)


# The law


def broken_law(target: Target, path: Path, content: bytes) -> str | None:
    """What is wrong with how a file was read; None where it was read, or refused as it should be."""
    path.write_bytes(content)
    signal.signal(signal.SIGALRM, fuzz._hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target.read(path)
    except UserError as error:
        named = not target.named or str(path.parent) in str(error)
        return None if named and str(error).strip() else f"refused, and the file is not named: {str(error)[:300]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def failures(target: Target, folder: Path, count: int, seed: int = 0) -> Iterator[tuple[bytes, str]]:
    """The mutants that broke the law, each with what went wrong."""
    path, draw = folder / target.name, random.Random(f"{target.name} {seed}")
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(max(1, int(count * target.share))):
        content = spoilt(draw, target, target.seed)
        if (wrong := broken_law(target, path, content)) is not None:
            yield content, wrong


def smaller(target: Target, path: Path, content: bytes, wrong: str) -> bytes:
    """The same failure with as little as can be left out, by halves and then by bytes."""
    kind, size = wrong.partition(":")[0], len(content) // 2
    while size:
        place = 0
        while place < len(content):
            less = content[:place] + content[place + size :]
            if (broken_law(target, path, less) or "").partition(":")[0] == kind:
                content = less
            else:
                place += size
        size //= 2
    return content
