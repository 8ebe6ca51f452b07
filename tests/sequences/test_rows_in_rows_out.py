"""Rows in = rows out + rows set aside, for every reader, counted by somebody else: the generator that wrote the file.

Files hold good and bad records, quotes, blanks, comments and three kinds of line ends.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_cards import toy_card
from uniprot_writers import Invented, flat, tsv, xml

from artefacts.errors import Ledger, UserError
from data_convert.corpus.exclude import read_excluded
from data_convert.tasks.examples import Reader, TaskLedger
from eval.baselines.embedding.inputs import read_inputs
from instruct.talk.batch_rows import Rows
from sequences.alphabets import DNA, PROTEIN
from sequences.readers import read_sequences
from sequences.texts import read_texts

LETTERS = st.text("ACGTacgtN", min_size=20, max_size=40)
BROKEN = st.sampled_from(["", "ACXGT!", "ACG TGC GCA", "AC-GT", "β", "ACGT\u00a0ACGT", "12"])
END = st.sampled_from(["\n", "\r\n", "\r"])
COMMENTS = st.lists(st.sampled_from(["", " ", "# made by a tool", ";x", "\t"]), max_size=3)
RECORDS = st.lists(st.one_of(LETTERS.map(lambda text: (text, True)), BROKEN.map(lambda text: (text, False))), min_size=1, max_size=12)
Records = list[tuple[str, bool]]


def fasta(records: Records) -> list[str]:
    return [line for number, (letters, _) in enumerate(records) for line in (f">s{number} x", letters[:9], letters[9:], "")]


def fastq(records: Records) -> list[str]:
    return [line for number, (letters, _) in enumerate(records) for line in (f"@s{number}", letters, "+", "I" * len(letters.encode()))]


def genbank(records: Records) -> list[str]:
    return [
        line
        for number, (letters, _) in enumerate(records)
        for line in (f"LOCUS       s{number} 9 bp DNA", f"VERSION     s{number}.1", "ORIGIN", f"        1 {letters}", "//")
    ]


def plain(records: Records) -> list[str]:
    return [letters for letters, _ in records if letters]


def table(delimiter: str) -> Callable[[Records], list[str]]:
    def write(records: Records) -> list[str]:
        rows = [f'"s{number}"{delimiter} {letters} {delimiter}"a ""quoted"" cell"' for number, (letters, _) in enumerate(records)]
        return [delimiter.join(["id", "sequence", "note"]), *rows]

    return write


WRITERS: dict[str, Callable[[Records], list[str]]] = {
    "FASTA": fasta, "FASTQ": fastq, "GenBank": genbank, "lines": plain, "CSV": table(","), "TSV": table("\t"), "semicolons": table(";"),
}  # fmt: skip


def counts(read: Callable[[], Any], ledger: Ledger) -> tuple[int, int, int]:
    """Read, written, set aside; a file of which nothing or too little can be used is refused, and counted to the end all the same."""
    with contextlib.suppress(UserError):
        read()
    found = ledger.as_dict()
    return found["read"], found["written"], found["rejected"]


@pytest.mark.parametrize("form", WRITERS)
@given(records=RECORDS, end=END, above=COMMENTS, zipped=st.booleans())
@settings(max_examples=60, deadline=None)
def test_sequences(tmp_path_factory, form, records, end, above, zipped):
    if form == "lines":  # known by its first line, and by nine lines in ten
        records = [("ACGT", True), *records]
    above = above if form not in ("CSV", "TSV", "semicolons") else [line for line in above if not line.strip()]
    path, ledger = tmp_path_factory.mktemp("sequences") / "x", Ledger()
    content = end.join([*above, *WRITERS[form](records), ""]).encode()
    path.write_bytes(gzip.compress(content) if zipped else content)
    good = sum(is_good for _, is_good in records)
    bad = sum(not is_good and (bool(letters) or form != "lines") for letters, is_good in records)
    found = counts(lambda: list(read_sequences(path, DNA, ledger)), ledger)
    assert found[0] == found[1] + found[2] == good + bad
    # blanks in FASTA and GenBank part letters, and digits in GenBank are positions
    lenient = {"FASTA": {"ACG TGC GCA"}, "GenBank": {"ACG TGC GCA"}, "FASTQ": {"ACG TGC GCA"}}.get(form, set())
    assert found[1] == good + sum(letters in lenient for letters, _ in records)


@pytest.mark.parametrize("form", ["CSV", "TSV", "semicolons"])
@given(records=RECORDS, end=END)
@settings(max_examples=40, deadline=None)
def test_tables_of_every_command(tmp_path_factory, form, records, end):
    folder = tmp_path_factory.mktemp("tables")
    path = folder / "x"
    path.write_bytes(end.join([*WRITERS[form](records), ""]).encode())
    good, all_ = sum(is_good for _, is_good in records), len(records)
    rows = Rows(toy_card(inputs=[{"modality": "dna", "name": "sequence"}]), [path], None)
    assert counts(lambda: list(rows.read()), rows.ledger) == (all_, good, all_ - good)
    assert len(rows.rejected) == all_ - good
    if good:
        items, ledger = read_inputs(path, "gene", "id", "sequence", "set_aside", 1.0)
        assert (ledger.read, ledger.written, len(items)) == (all_, good, good)
        assert ledger.as_dict()["rejected"] == all_ - good
        (ledger,) = read_excluded((path,))[1].values()
        assert ledger.as_dict()["read"] == all_
        assert ledger.written == good
    if form != "semicolons":
        words = {"kind": "text", "labels": None, "metrics": ["rouge_l"], "primary_metric": "rouge_l", "label": "note"}
        prompts = {"train": ["{sequence}"], "eval": "{sequence}?"}
        inputs = [{"modality": "dna", "name": "sequence"}]
        ledger, reader = TaskLedger(), Reader(toy_card(format=form.lower(), prompts=prompts, inputs=inputs, **words), folder)
        found = list(reader.read("x", ledger))
        assert (ledger.read, ledger.written, ledger.rejected) == (all_, good, all_ - good)
        assert {example.label for example in found} <= {'a "quoted" cell'}


@given(
    lines=st.lists(
        st.one_of(
            st.builds(lambda text: (json.dumps({"seq": text, "label": 1}), True), LETTERS),
            st.sampled_from(['{"seq": "AC!", "label": 1}', "{oops", "[1]", '"x"', '{"seq": "A", "seq": "C"}', "null"]).map(
                lambda t: (t, False)
            ),
        ),
        min_size=1,
        max_size=12,
    ).filter(lambda lines: not lines[0][0].startswith("[")),
    end=END,
    blank=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_json_lines(tmp_path_factory, lines, end, blank):
    folder, ledger = tmp_path_factory.mktemp("json"), TaskLedger()
    (folder / "x").write_bytes((end + (" " + end if blank else "")).join(text for text, _ in lines).encode())
    found = list(Reader(toy_card(format="json"), folder).read("x", ledger))
    assert (ledger.read, len(found), ledger.rejected) == (len(lines), sum(good for _, good in lines), sum(not good for _, good in lines))
    documents = Ledger()
    (folder / "x.jsonl").write_bytes((folder / "x").read_bytes().replace(b'"seq"', b'"text"'))
    read, written, aside = counts(lambda: list(read_texts(folder / "x.jsonl", documents)), documents)
    assert read == written + aside == len(lines)


@given(
    entries=st.lists(st.tuples(st.text("ACDEFGHIKL", min_size=5, max_size=30), st.booleans()), min_size=1, max_size=6),
    end=END,
    form=st.sampled_from(["flat", "XML", "TSV"]),
)
@settings(max_examples=60, deadline=None)
def test_uniprot(tmp_path_factory, entries, end, form):
    path, ledger = tmp_path_factory.mktemp("uniprot") / "x", Ledger()
    made = [Invented(f"P{number:05d}", sequence=letters if good else f"{letters}1") for number, (letters, good) in enumerate(entries)]
    content = {"flat": lambda: "".join(map(flat, made)), "XML": lambda: xml(made), "TSV": lambda: tsv(made)}[form]()
    path.write_bytes(content.replace("\n", end).encode())
    good = sum(good for _, good in entries)
    assert counts(lambda: list(read_sequences(path, PROTEIN, ledger)), ledger) == (len(entries), good, len(entries) - good)


@given(paragraphs=st.lists(st.text("ab é", min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=8), end=END)
@settings(max_examples=40, deadline=None)
def test_paragraphs(tmp_path_factory, paragraphs, end):
    path, ledger = Path(tmp_path_factory.mktemp("text")) / "x.txt", Ledger()
    path.write_bytes((end * 2).join(paragraphs).encode())
    assert [text.text for text in read_texts(path, ledger)] == paragraphs
    assert (ledger.read, ledger.rejected) == (len(paragraphs), 0)
