"""Readers of task files: whatever a row holds, it comes out or is counted with file, line and reason, and the rows below it too."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_cards import toy_card as card

from artefacts.errors import UserError
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.examples import Example, Reader, TaskLedger
from data_convert.tasks.rows import read_rows, read_sequences_by_id

PAIR = [
    {"column": "gene", "modality": "dna", "name": "gene", "type_column": "type_a"},
    {"column": "prot", "modality": "protein", "name": "protein", "type_column": "type_b"},
]
PAIR_PROMPTS = {"train": ["{gene} {protein} {choices}"], "eval": "{gene} {protein}? {choices}"}


def pairs(**changes: object) -> TaskCard:
    return card(inputs=PAIR, prompts=PAIR_PROMPTS, row_id=["a", "b"], **changes)


def read(given_card: TaskCard, folder: Path, content: str | bytes, name: str = "x") -> tuple[list[Example], TaskLedger]:
    path, ledger = folder / name, TaskLedger()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = list(Reader(given_card, folder).read(name, ledger))
    counts = ledger.as_dict()
    assert counts["read"] == counts["written"] + counts["rejected"]
    assert counts["written"] == len(found)
    return found, ledger


def judge(ledger: TaskLedger, folder: Path, max_broken: float) -> None:
    ledger.max_broken = max_broken
    ledger.close(folder / "x", TaskLedger(), "row", " of x/toy")


HEAD = "a,b,type_a,type_b,gene,prot,label\n"
GOOD = "g{0},p{0},gene,prot,ACGT,MKV,1\n"


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        (b"g,p,gene,prot,ACGT,MKV\n", "more or fewer fields than the header has", ""),
        (b"g,p,gene,prot,ACGT,MKV,7\n", "unknown label", " ('7'; the card knows 0, 1)"),
        (b"g,p,gene,prot,ACGT,MKV,\n", "no label", ""),
        (b"g,p,gene,prot,,MKV,1\n", "empty sequence", " (gene)"),
        (b"g,p,gene,prot,ACGT, ,1\n", "empty sequence", " (protein)"),
        (b"g,p,gene,prot,MKVL,MKV,1\n", "letter outside dna", " (gene: 'L' at position 4)"),
        (b"g,p,gene,prot,AC-GT,MKV,1\n", "letter outside dna", " (gene: '-' at position 3)"),
        (b"g,p,gene,prot,ACGT," + b"ACGT" * 20 + b",1\n", "nucleotides where a protein should be", " (protein)"),
        (b"g,p,prot,gene,ACGT,MKV,1\n", "type column disagrees with the card", " ('prot' for gene, which is dna)"),
        (b"g1,p1,gene,prot,ACGT,MKV,1\n", "duplicated id", " ('g1+p1')"),
        (b"g\xff,p,gene,prot,ACGT,MKV,1\n", "not UTF-8", ""),
        ("é,p,gene,prot,ACGT,MKV,1\n".encode("latin-1"), "not UTF-8", ""),
        (b'g,"p,gene,prot,ACGT,MKV,1\n', "a quotation mark that is not closed, or stands inside a field", ""),
        (b'g,p,gene,prot,"AC"GT,MKV,1\n', "a quotation mark that is not closed, or stands inside a field", ""),
        (b"g,p,gene,prot,ACGT,MKV,1,9\n", "more or fewer fields than the header has", ""),
    ],
)
def test_one_broken_row_costs_one_row(tmp_path, row, reason, detail):
    content = (HEAD + GOOD.format(1)).encode() + row + "".join(GOOD.format(i) for i in range(2, 200)).encode()
    found, ledger = read(pairs(), tmp_path, content)
    assert ledger.reasons[reason] >= 1
    assert ledger.examples[reason][0] == f"{tmp_path / 'x'}:3{detail}"
    assert {example.row for example in found} == {f"g{i}+p{i}" for i in range(1, 200)}
    judge(ledger, tmp_path, 0.1)


def test_two_stray_quotation_marks_cost_two_rows(tmp_path):
    rows = [GOOD.format(i) for i in range(1, 40)]
    rows[5], rows[20] = 'g6,"p6,gene,prot,ACGT,MKV,1\n', 'g21,p21",gene,prot,ACGT,MKV,1\n'
    found, ledger = read(pairs(), tmp_path, HEAD + "".join(rows))
    assert len(found) == 37
    assert list(ledger.examples.values()) == [[f"{tmp_path / 'x'}:7", f"{tmp_path / 'x'}:22"]]


def test_a_number_that_is_none(tmp_path):
    grid = {"low": 0, "high": 1, "step": 0.1}
    prompts = {"train": ["{sequence}!"], "eval": "{sequence}?"}
    given_card = card(kind="regression", labels=None, grid=grid, prompts=prompts, metrics=["mae"], primary_metric="mae")
    found, ledger = read(given_card, tmp_path, "seq,label\nAC,0.5\nAC,high\nAC,nan\nAC,inf\nAC,1e-1\nAC,0x1\n")
    assert [example.answer for example in found] == ["0.5", "0.1"]
    assert ledger.reasons == {"label is no finite number": 4}


def test_more_than_the_stated_share_of_broken_rows_stops(tmp_path):
    content = "seq,label\n" + "AC,1\n" * 8 + "XX,1\n" * 2
    _, ledger = read(card(), tmp_path, content)
    judge(ledger, tmp_path, 0.2)
    with pytest.raises(UserError) as error:
        judge(ledger, tmp_path, 0.19)
    assert "2 of 10 rows of x/toy cannot be used, more than max_broken=0.19: letter outside dna: 2 (first at " in str(error.value)


def test_rows_left_out_on_purpose_are_not_broken(tmp_path):
    content = "seq,label,what\n" + "AC,1,this one\n" + "XX,1,another\n" * 9
    found, ledger = read(card(where={"what": "this*"}), tmp_path, content)
    assert (len(found), ledger.reasons, ledger.broken) == (1, {"of another task": 9}, 0)
    judge(ledger, tmp_path, 0.0)


def test_columns_are_found_by_name_and_checked_by_position(tmp_path):
    strict = card(columns=["id", "seq", "label|label_index"], row_id=["id"])
    for header in ("id,seq,label", "id,seq,label_index", "id,seq,label,more"):
        found, _ = read(strict, tmp_path, f"{header}\na,AC,1{',z' if 'more' in header else ''}\n")
        assert [(example.row, example.label) for example in found] == [("a", "on")]
    for header, words in (
        ("seq,id,label", "column 1 is 'seq', not 'id'"),
        ("id,seq", "column 3 is 'None', not 'label' or 'label_index'"),
        ("id,seq,target", "column 3 is 'target'"),
    ):
        with pytest.raises(UserError, match=words) as error:
            read(strict, tmp_path, f"{header}\na,AC,1\n")
        assert f"{tmp_path / 'x'}:1: " in str(error.value)
    with pytest.raises(UserError, match="two columns are called 'seq'"):
        read(card(), tmp_path, "seq,seq,label\nA,A,1\n")


def test_files_without_a_header_and_with_tabs(tmp_path):
    given_card = card(format="tsv", header=False, columns=["seq", "label"])
    found, ledger = read(given_card, tmp_path, b'AC\t1\r\nAG\t0\n\n"A\t1\nAT\t1')
    assert [(example.line, example.label) for example in found] == [(1, "on"), (2, "off"), (5, "on")]
    assert ledger.reasons == {"letter outside dna": 1}, "a quotation mark is a letter in a tab-separated file"


@given(st.lists(st.tuples(st.text("ab,\" 'é", max_size=6), st.text('x"\n,', max_size=4)), min_size=1, max_size=8))
def test_a_table_is_read_as_the_csv_module_reads_it(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("seq", "label"), *cells])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    words = {"kind": "text", "labels": None, "metrics": ["rouge_l"], "primary_metric": "rouge_l"}
    rows = list(read_rows(card(**words, prompts={"train": ["{sequence}"], "eval": "{sequence}?"}), path))
    assert [(row.values["seq"], row.values["label"]) for row in rows] == [(seq.strip(), label.strip()) for seq, label in cells]
    assert not any(row.problem for row in rows)


def test_fasta_headers_with_fields(tmp_path):
    given_card = card(format="fasta", columns=["id", "label", "group"], label="label", row_id=["id"])
    found, ledger = read(given_card, tmp_path, ">a|1|x\nAC\nGT\n>b|0\nAC\n>c|0|y\nAG\n>c|0|y\nAT\n")
    assert [(example.row, example.label, example.inputs) for example in found] == [
        ("a", "on", {"sequence": "ACGT"}),
        ("c", "off", {"sequence": "AG"}),
    ]
    assert ledger.reasons == {"not 3 fields in the header": 1, "duplicated id": 1}


ALPACA = [
    {"instruction": "Determine promoter  detection", "input": "ACGT", "output": " on "},
    {"instruction": "Determine splice", "input": "ACGT", "output": "on"},
    {"instruction": "Determine promoter", "input": "GG", "output": "off"},
]


@pytest.mark.parametrize("array", [False, True])
def test_json_lines_and_arrays(tmp_path, array):
    labels = {name: {"name": name, "meaning": ""} for name in ("on", "off")}
    given_card = card(
        format="json",
        where={"instruction": "Determine promoter*"},
        inputs=[{"column": "input", "modality": "dna", "name": "sequence"}],
        label="output",
        labels=labels,
    )
    text = json.dumps(ALPACA, indent=1) if array else "\n".join(map(json.dumps, ALPACA))
    found, ledger = read(given_card, tmp_path, text)
    assert [(example.label, example.inputs["sequence"]) for example in found] == [("on", "ACGT"), ("off", "GG")]
    assert [example.line for example in found] == ([2, 12] if array else [1, 3])
    assert [example.row for example in read(given_card, tmp_path, json.dumps(ALPACA))[0]] == ["1", "1.3"]  # one line, and no ids
    assert (ledger.reasons, ledger.left_out) == ({"of another task": 1}, 1)


def test_broken_json(tmp_path):
    given_card = card(format="json")
    content = b'{"seq": "AC", "label": 1}\n{"seq": "AC"\n[1]\n{"seq": "A\xff", "label": 1}\n{"seq": "AG"}\n{"seq": "AT", "label": null}\n'
    found, ledger = read(given_card, tmp_path, content)
    assert [example.label for example in found] == ["on"]
    assert ledger.reasons == {"not a JSON line": 1, "not a JSON object": 1, "not UTF-8": 1, "no label": 2}
    with pytest.raises(UserError, match=r"x:2: the JSON array is broken here"):
        read(given_card, tmp_path, '[{"seq": "AC", "label": 1},\n{"seq": ')


def test_pairs_look_their_sequences_up(tmp_path):
    (tmp_path / "d.fa").write_text(">d1 a gene\nACG\nT\n>d2\nGG\n")
    (tmp_path / "p.tsv").write_text("p1\tMKV\np2\tMLL\n")
    inputs = [
        {"column": "d", "modality": "dna", "name": "gene", "sequences": "d.fa"},
        {"column": "p", "modality": "protein", "name": "protein", "sequences": "p.tsv"},
    ]
    given_card = card(format="tsv", header=False, columns=["d", "p", "label"], inputs=inputs, prompts=PAIR_PROMPTS)
    found, ledger = read(given_card, tmp_path, "d1\tp2\t1\nd2\tp3\t1\nd9\tp1\t0\n")
    assert [example.inputs for example in found] == [{"gene": "ACGT", "protein": "MLL"}]
    assert ledger.examples["no sequence of this id"] == [
        f"{tmp_path / 'x'}:2 (protein: 'p3')",
        f"{tmp_path / 'x'}:3 (gene: 'd9')",
    ]
    (tmp_path / "d.fa").write_text(">d1\nACGT\n>d1\nACGA\n")
    with pytest.raises(UserError, match=r"d\.fa:3: 'd1' stands for two different sequences"):
        read_sequences_by_id(tmp_path / "d.fa")


def test_a_label_inside_a_json_cell(tmp_path):
    given_card = card(format="tsv", label_key="level")
    content = 'seq\tlabel\nAC\t{"level": "1"}\nAC\t{"other": "1"}\nAC\tlevel\nAG\t{"level": "0"}\nAG\t[1]\n'
    found, ledger = read(given_card, tmp_path, content)
    assert [example.label for example in found] == ["on", "off"]
    assert (ledger.reasons, ledger.broken) == ({"of another task": 1, "label is no JSON object": 2}, 2)


@pytest.mark.parametrize(
    ("crop", "column", "kept"),
    [
        ("start", None, "AACC"),
        ("centre", None, "CCGG"),
        ("end", None, "GGTT"),
        ("column", "0", "AACC"),
        ("column", "5", "CGGT"),
        ("column", "7", "GGTT"),
    ],
)
def test_the_part_that_is_kept(tmp_path, crop, column, kept):
    given_card = card(max_letters=4, crop=crop, crop_column="at" if column else None)
    found, ledger = read(given_card, tmp_path, f"seq,label,at\nAACCGGTT,1,{column or ''}\nAC,1,\n")
    assert [example.inputs["sequence"] for example in found] == [kept, "AC"]
    assert ledger.changes["cropped"] == 1


def test_positions_outside_the_sequence_and_long_rows_that_are_refused(tmp_path):
    content = "seq,label,at\nAACCGGTT,1,8\nAACCGGTT,1,-1\nAACCGGTT,1,\nAC,1,\n"
    _, ledger = read(card(max_letters=4, crop="column", crop_column="at"), tmp_path, content)
    assert (ledger.written, ledger.reasons) == (1, {"no position inside the sequence to crop around": 3})
    _, ledger = read(card(max_letters=4, crop="refuse"), tmp_path, content)
    assert (ledger.written, ledger.reasons, ledger.broken) == (1, {"longer than 4 letters": 3}, 0)
    inputs = [{"column": "seq", "modality": "dna", "name": "sequence", "max_letters": 2}]
    found, _ = read(card(inputs=inputs, crop="start"), tmp_path, content)
    assert {example.inputs["sequence"] for example in found} == {"AA", "AC"}
