"""What goes in comes out, is set aside, or is refused: cases that were once lost without a word, each at its command or reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_cards import toy_card
from uniprot_writers import Invented, flat, tsv, xml

from artefacts.errors import Ledger, UserError
from data_convert.corpus.exclude import HOLDS, read_excluded
from data_convert.corpus.pack import PackRecipe, Source, pack
from data_convert.tasks.examples import Reader, TaskLedger
from data_convert.tasks.rows import read_rows, read_sequences_by_id
from eval.baselines.embedding.inputs import read_inputs
from instruct.talk.batch_rows import Rows
from sequences.alphabets import DNA, PROTEIN, RNA, Alphabet
from sequences.readers import COMMENTS, Sequence, read_sequences
from sequences.texts import read_texts
from sequences.uniprot import checked_entries
from sequences.uniprot_entry import Entry
from tokenizer.bpe.train import TrainBpe, train_bpe


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sequences(path: Path, alphabet: Alphabet = DNA) -> tuple[list[Sequence], Ledger]:
    ledger = Ledger()
    return list(read_sequences(path, alphabet, ledger)), ledger


def tasks(folder: Path, content: str | bytes, **card: Any) -> tuple[list[Any], TaskLedger]:
    write(folder / "x", content)
    ledger = TaskLedger()
    return list(Reader(toy_card(**card), folder).read("x", ledger)), ledger


# F1: content that is no line-wise sequence


RECORDS = {
    "FASTA": ">chr1\nACGTTGCAAC\nGGGTTTCCCA\n",
    "FASTQ": "@chr1\nACGTTGCAAC\nGGGTTTCCCA\n+\n" + "I" * 20 + "\n",
    "plain": "ACGTTGCAACGGGTTTCCCA\n",
    "GenBank": "LOCUS       chr1 20 bp DNA\nORIGIN\n        1 acgttgcaac gggtttccca\n//\n",
}


@pytest.mark.parametrize("above", ["# made by tool\n", "; made by tool\n", "\n\n", " \n#a\n\n#b, c\n"])
@pytest.mark.parametrize("form", RECORDS)
def test_comments_and_blanks_above_the_first_record_are_passed_over_and_counted(tmp_path, above, form):
    found, ledger = sequences(write(tmp_path / "x.fa", above + RECORDS[form]))
    assert [(one.letters, one.line) for one in found] == [("ACGTTGCAACGGGTTTCCCA", above.count("\n") + 1)]
    assert (ledger.read, ledger.notes[COMMENTS]) == (1, above.count("\n"))


def test_a_comment_above_a_table_is_refused_or_its_header(tmp_path):
    with pytest.raises(UserError, match=r"x:1: a table of sequences has a column sequence or seq; found # made by tool"):
        sequences(write(tmp_path / "x", "# made by tool\nid,sequence\na,ACGT\n"))
    assert [one.id for one in sequences(write(tmp_path / "x", "#id\tsequence\na\tACGT\n"))[0]] == ["a"]


def test_lines_are_sequences_only_if_nine_in_ten_are(tmp_path):
    good = write(tmp_path / "good", "ACGT\n" * 18 + "ACGX\n" * 2)
    found, ledger = sequences(good)
    assert (len(found), ledger.rejected) == (18, 2)
    with pytest.raises(UserError, match=r"bad:18: 3 of 20 lines, this one the first, are no dna sequences"):
        sequences(write(tmp_path / "bad", "ACGT\n" * 17 + "ACGX\n" * 3))
    with pytest.raises(UserError, match=r"late:3: '>chr1' is no dna sequence"):
        sequences(write(tmp_path / "late", "ACGT\nACGT\n>chr1\nACGT\n" + "ACGT\n" * 99))


def test_a_vocabulary_is_trained_on_all_of_uniprot(tmp_path, capsys):
    entries = [Invented(f"P{i:05d}", sequence="MKVLAAGWTYLLDEE" * 4 + "ACDEFGHIKL"[i % 10]) for i in range(40)]
    letters = sum(len(entry.sequence) for entry in entries)
    contents = {"flat.dat": "".join(map(flat, entries)), "x.xml": xml(entries), "x.tsv": tsv(entries)}
    for name, content in contents.items():
        out = tmp_path / f"{name}.json"
        train_bpe(TrainBpe(alphabet="protein", vocab_size=40, files=[write(tmp_path / name, content)], out=out))
        counts = json.loads((tmp_path / f"{name}.json.manifest.json").read_text())["counts"]
        assert (counts["read"], counts["written"], counts["letters"]) == (40, 40, letters)
        assert f"{tmp_path / name}: read 40, written 40, set aside 0" in capsys.readouterr().err


def test_files_of_another_molecule_or_kind_stop_before_work(tmp_path):
    dna = write(tmp_path / "dna.fa", ">a\n" + "ACGT" * 20 + "\n")
    out = tmp_path / "p.json"
    with pytest.raises(UserError, match=r"dna\.fa: not one usable protein record: nucleotides where a protein should be: 1"):
        train_bpe(TrainBpe(alphabet="protein", vocab_size=40, files=[dna], out=out))
    with pytest.raises(UserError, match=r"a protein where nucleotides should be: 1"):
        sequences(write(tmp_path / "p.fa", ">a\nMKVSRHWMKVDSR\n"))
    good, zstd = write(tmp_path / "p.faa", ">a\nMKVLLE\n"), write(tmp_path / "q.fa.zst", b"\x28\xb5\x2f\xfd" + b"ACGTACGTACGTAC")
    with pytest.raises(UserError, match=r"q\.fa\.zst:1: this is zstd data, which is not read here; unpack it with `zstd -d`"):
        train_bpe(TrainBpe(alphabet="protein", vocab_size=40, files=[good, zstd], out=out))
    assert not out.exists()


def test_pack_refuses_a_foreign_file_beside_a_good_one(tmp_path, extended_folder):
    good, zstd = write(tmp_path / "a.fa", ">a\n" + "ACGT" * 40 + "\n"), write(tmp_path / "b.fa.zst", b"\x28\xb5\x2f\xfd" + b"ACGTACGTAC")
    source = Source(modality="dna", files=[good, zstd], heldout_share=0)
    with pytest.raises(UserError, match=r"b\.fa\.zst:1: this is zstd data"):
        pack(PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", block_tokens=64, sources=[source]))


# F2: a list of benchmark sequences


def test_excluded_cells_are_stripped_and_counted_in_the_manifest(tmp_path, extended_folder):
    a, b = "ACGTTGCAACGGTTAACCGATTGACCAT", "TTTTTCCCCCAAAAAGGGGGTGTGACAC"
    listed = write(tmp_path / "test.csv", f"id,sequence\na,{a} \nb,{b}\nc,ACGTR{a[5:]}\nd,x\n")
    source = Source(
        modality="dna", files=[write(tmp_path / "g.fa", f">x\nGG{a}GG\n>y\n{b}\n>z\nACGTR{a[5:]}\n>k\n{a[::-1]}\n")], heldout_share=0
    )
    made = pack(
        PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", block_tokens=64, sources=[source], exclude=[listed], max_broken=0.3)
    )
    assert made["sources"][0]["documents"]["reasons"] == {HOLDS: 3}
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]["excluded"][str(listed)]
    assert (counts["read"], counts["written"], counts["reasons"]) == (4, 3, {"too short": 1})
    assert (tmp_path / "out" / "set_aside.tsv").read_text().splitlines()[:2] == ["place\treason", f"{listed}:5\ttoo short"]
    with pytest.raises(UserError, match=r"k\.csv: 1 of 2 .*cannot be used, more than max_broken=0.1: blanks inside the sequence"):
        read_excluded((write(tmp_path / "k.csv", f"seq\n{a}\n{' '.join(a[i : i + 3] for i in range(20))}\n"),), 0.1)


# F3 to F5, F8: tables


def test_a_lone_quotation_mark_of_a_tsv_costs_nothing(tmp_path):
    path = write(tmp_path / "t.tsv", 'id\tseq\tdesc\na\tACGT\t"5 prime\nb\tGGGG\tx\nc\tTTTT\ty\n')
    items, ledger = read_inputs(path, "gene", 0, 1, "refuse")
    assert ([(item.id, item.letters) for item in items], ledger.read) == ([("a", "ACGT"), ("b", "GGGG"), ("c", "TTTT")], 3)
    assert [(one.id, one.letters) for one in sequences(path)[0]] == [("a", "ACGT"), ("b", "GGGG"), ("c", "TTTT")]


def test_a_carriage_return_ends_a_line(tmp_path):
    path = write(tmp_path / "x.fa", ">a\rACGT\r>b\rGGGG\r>c\nTTTT\n")
    assert [(one.id, one.letters, one.line) for one in sequences(path)[0]] == [("a", "ACGT", 1), ("b", "GGGG", 3), ("c", "TTTT", 5)]
    found, ledger = tasks(tmp_path, 'sequence,label\n"ACGT",0\r"GGGG",1\r"TTTT",1\n', inputs=[{"modality": "dna", "name": "sequence"}])
    assert ([(one.line, one.label) for one in found], ledger.read) == ([(2, "off"), (3, "on"), (4, "on")], 3)


def test_kmers_are_refused_by_every_reader(tmp_path):
    content = "sequence\tlabel\nATG TGC GCA CAT\t1\n"
    path = write(tmp_path / "x.tsv", content)
    inputs = [{"modality": "dna", "name": "sequence"}]
    _, ledger = tasks(tmp_path, content, format="tsv", inputs=inputs)
    assert (ledger.written, ledger.reasons) == (0, {"blanks inside the sequence (k-mers?)": 1})
    for read in (
        lambda: sequences(path),
        lambda: read_inputs(path, "gene", 1, 0, "set_aside"),
        lambda: list(Rows(toy_card(inputs=inputs), [path], None).read(0.1)),
    ):
        with pytest.raises(UserError, match=r"not one usable .*blanks inside the sequence \(k-mers\?\): 1"):
            read()


def test_the_name_of_a_table_proves_nothing(tmp_path):
    for name in ("x.csv", "x.tsv", "x.txt", "x.FA", "x"):
        path = write(tmp_path / name, "id\tseq\na\tACGT\n")
        assert [(item.id, item.letters) for item in read_inputs(path, "gene", None, None, "refuse")[0]] == [("a", "ACGT")]
        assert [sample.inputs for sample in Rows(toy_card(), [path], None).read(0.1)] == [{"sequence": "ACGT"}]
        assert [one.letters for one in sequences(path)[0]] == ["ACGT"]
    for name in ("x.FA", "x.ffn", "x.pep", "x.fa.GZ", "x.csv"):
        path = write(tmp_path / name, ">a\nAC\nGT\n")
        assert [(item.id, item.letters) for item in read_inputs(path, "gene", None, None, "refuse")[0]] == [("a", "ACGT")]
        assert [sample.inputs for sample in Rows(toy_card(), [path], None).read(0.1)] == [{"sequence": "ACGT"}]


def test_a_column_that_stands_twice_is_refused_by_every_reader(tmp_path):
    path = write(tmp_path / "x.csv", "id,sequence,sequence\na,ACGT,GGGG\n")
    inputs = [{"modality": "dna", "name": "sequence"}]
    for read in (
        lambda: sequences(path),
        lambda: read_inputs(path, "gene", "id", "sequence", "refuse"),
        lambda: list(Rows(toy_card(inputs=inputs), [path], None).read(0.1)),
        lambda: list(read_rows(toy_card(inputs=inputs, label="id"), path)),
    ):
        with pytest.raises(UserError, match=r"x\.csv:1: two columns are called 'sequence'; mend the header"):
            read()


# F6: UniProt


def test_quoted_fields_of_a_uniprot_tsv(tmp_path):
    row = 'P1\tMKV\t"FUNCTION: Binds ""x"", y. {ECO:0000269|PubMed:1}."'
    path = write(tmp_path / "x.tsv", f"Entry\tSequence\tFunction [CC]\n{row}\n")
    (entry,) = checked_entries(path)
    assert isinstance(entry, Entry)
    assert entry.function == 'Binds "x", y.'


def test_columns_of_a_uniprot_tsv_then_and_now(tmp_path):
    old = "Entry\tEntry name\tStatus\tOrganism ID\tCross-reference (Pfam)\tGene names\tSequence\nP1\tA_B\treviewed\t9606\tPF1;\tx y\tMKV\n"
    (entry,) = checked_entries(write(tmp_path / "old.tsv", old), needed="domains")
    assert isinstance(entry, Entry)
    assert (entry.entry_name, entry.reviewed, entry.taxonomy, entry.domains, entry.genes) == ("A_B", True, 9606, ("PF1",), ("x", "y"))
    with pytest.raises(UserError, match=r"old\.tsv:1: no column 'Function \[CC\]'; columns found: Entry, Entry name"):
        list(checked_entries(tmp_path / "old.tsv", needed="function"))
    with pytest.raises(UserError, match=r"no column 'Pfam', called 'cross-reference \(pfam\)' before 2022"):
        list(checked_entries(write(tmp_path / "new.tsv", "Entry\tSequence\nP1\tMKV\n"), needed="domains"))


# F7: a file cut in parts


@pytest.mark.parametrize("name", ["g.txt", "g.fa", "g.jsonl"])
def test_parts_of_a_fasta_file_are_the_whole_whatever_it_is_called(tmp_path, extended_folder, name):
    file = write(tmp_path / name, "# comment\n" + "".join(f">s{i}\n{'ACGT' * 5}\n\n{'GATC' * 5}\n\n" for i in range(40)))
    source = Source(modality="dna", files=[file], heldout_share=0)
    made = {}
    for size in (1 << 20, 200):
        recipe = PackRecipe(
            tokenizer=extended_folder, out=tmp_path / f"out{size}", block_tokens=64, sources=[source], part_bytes=size, workers=1
        )
        (report,) = pack(recipe)["sources"]
        made[size] = (report["records"][str(file)]["read"], report["documents"]["read"], report["letters"])
    assert made[200] == made[1 << 20]
    assert made[200][:2] == (40, 40)


# F9, F10: sequences by id, and JSON


def test_letters_by_id_end_at_the_second_tab(tmp_path):
    assert read_sequences_by_id(write(tmp_path / "x", 'P1\tMKVL\tHUMAN\nP2\t "MKV" \n')) == {"P1": "MKVL", "P2": "MKV"}
    for content in ("P1\n", "\tMKV\n", "P1\tMKV\nP1\tMKL\n"):
        with pytest.raises(UserError, match=r"x:\d: "):
            read_sequences_by_id(write(tmp_path / "x", content))


def test_what_follows_a_json_array_is_refused(tmp_path):
    row = '[{"sequence":"ACGT","label":0}]\n'
    with pytest.raises(UserError, match=r"x\.json:2: the JSON array has ended, and '\[\{"):
        list(read_rows(toy_card(format="json"), write(tmp_path / "x.json", row + row.replace("0", "1"))))
    with pytest.raises(UserError, match=r"x\.json:1: the JSON array has ended, and 'null' follows"):
        list(read_rows(toy_card(format="json"), write(tmp_path / "x.json", "[] null")))
    rows = list(read_rows(toy_card(format="json"), write(tmp_path / "x.json", '{"seq": "A", "seq": "C"}\n{"seq": "G"}\n')))
    assert [(row.line, row.problem) for row in rows] == [(1, "a key that stands twice in an object"), (2, "")]


# the minor ones


def test_labels_say_what_the_card_knows_and_numbers_are_ascii(tmp_path):
    found, ledger = tasks(tmp_path, "seq,label\nAC,2\nAC,1\n")
    assert len(found) == 1
    assert ledger.examples["unknown label"] == [f"{tmp_path / 'x'}:2 ('2'; the card knows 0, 1)"]
    grid, prompts = {"low": 0, "high": 20, "step": 0.5}, {"train": ["{sequence}!"], "eval": "{sequence}?"}
    regression = {"kind": "regression", "labels": None, "grid": grid, "metrics": ["mae"], "primary_metric": "mae", "prompts": prompts}
    found, ledger = tasks(tmp_path, "seq,label\nAC,1_5\nAC,١\nAC,1e400\nAC,+1.5\nAC,2.\nAC,.5\n", **regression)
    assert [one.label for one in found] == [1.5, 2.0, 0.5]
    assert ledger.reasons == {"label is no finite number": 3}


def test_sets_are_parted_with_and_without_a_blank(tmp_path):
    words = {"kind": "set", "labels": None, "metrics": ["micro_f1"], "primary_metric": "micro_f1"}
    found, _ = tasks(tmp_path, "seq,label\nAC,A;B\nAC,A; B ;\n", **words, prompts={"train": ["{sequence}!"], "eval": "{sequence}?"})
    assert [one.label for one in found] == [["A", "B"], ["A", "B"]]


def test_a_version_without_an_accession_is_none(tmp_path):
    entry = "LOCUS       X1 4 bp DNA linear\nACCESSION   X1\nVERSION     .0\nORIGIN\n        1 acgt\n//\n"
    assert [one.id for one in sequences(write(tmp_path / "x", entry))[0]] == ["X1"]


def test_foreign_letters_are_whole_characters(tmp_path):
    path = write(tmp_path / "x.fa", ">a\nACGT\n>b\nACβGT\n")
    assert sequences(path)[1].examples == {"letter outside dna": [f"{path}:4 ('β')"]}
    _, ledger = tasks(tmp_path, "seq,label\nACβT,1\n")
    assert ledger.examples == {"letter outside dna": [f"{tmp_path / 'x'}:2 (sequence: 'β' at position 3)"]}


def test_locations_without_how_sure_they_are():
    from sequences.uniprot_entry import locations

    assert locations("Cytoplasm (Potential). Cell membrane; Multi-pass membrane protein (By similarity).") == [
        "Cytoplasm", "Cell membrane; Multi-pass membrane protein",
    ]  # fmt: skip


def test_the_forms_of_s2orc(tmp_path):
    body = [{"section": "One", "text": "Long."}]
    lines = [
        {"corpusid": 7, "content": {"source": {"oainfo": {"license": "CC BY"}}, "text": "Genes."}},
        {"paper_id": "a", "title": "T", "pdf_parse": {"abstract": [{"text": "Short."}], "body_text": body}},
        {"paper_id": "b", "pdf_parse": None},
    ]
    ledger = Ledger()
    found = list(read_texts(write(tmp_path / "x.jsonl", "".join(json.dumps(line) + "\n" for line in lines)), ledger))
    assert [(text.id, text.text) for text in found] == [("7", "Genes."), ("a", "# T\n\nShort.\n\n## One\n\nLong.")]
    assert (ledger.notes["licence CC BY"], ledger.rejected) == (1, 1)


@pytest.mark.parametrize("alphabet", [DNA, RNA, PROTEIN])
def test_too_many_broken_records_stop_every_command_that_reads(tmp_path, alphabet):
    path = write(tmp_path / "x.fa", ">a\nACK\n" * 8 + ">b\nAC!\n" * 2)
    ledger = Ledger(max_broken=0.1)
    with pytest.raises(UserError, match=r"x\.fa: 2 of 10 .*max_broken=0.1: letter outside .*: 2 \(first at .*:18"):
        list(read_sequences(path, alphabet, ledger))
    assert len(list(read_sequences(path, alphabet, Ledger(max_broken=0.2)))) == 8
