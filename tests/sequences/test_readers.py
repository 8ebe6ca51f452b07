"""Readers of sequences and text: odd but legal files are read whole, damaged ones are named with file and line."""

from __future__ import annotations

import gzip
import json
import random
import re
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts.errors import Ledger, UserError
from sequences import files
from sequences.alphabets import ALPHABETS, DNA, PROTEIN, RNA, Alphabet
from sequences.files import open_bytes
from sequences.readers import Sequence, fasta_records, read_sequences
from sequences.texts import read_texts

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read(
    folder: Path, content: bytes | str, alphabet: Alphabet = DNA, name: str = "x.dat", keep_case: bool = False
) -> tuple[list[Sequence], Ledger]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    ledger = Ledger()
    found = list(read_sequences(path, alphabet, ledger, keep_case=keep_case))
    assert ledger.as_dict()["written"] == len(found)  # as_dict checks that no record was lost
    return found, ledger


# Writers: lines of one record, as the formats are described, independent of the readers.


def wrapped(text: str, width: int) -> list[str]:
    return [text[i : i + width] for i in range(0, len(text), width)]


def fasta_lines(name: str, description: str, letters: str, width: int) -> list[str]:
    return [f">{name} {description}", *wrapped(letters, width)]


def fastq_lines(name: str, description: str, letters: str, width: int) -> list[str]:
    qualities = "".join(random.Random(letters).choices("@+I#>", k=len(letters)))
    return [f"@{name} {description}", *wrapped(letters, width), "+", *wrapped(qualities, width)]


def plain_lines(name: str, description: str, letters: str, width: int) -> list[str]:
    return [letters]


def genbank_lines(name: str, description: str, letters: str, width: int) -> list[str]:
    """Entry of nucleotides; words of the definition are wrapped, letters stand in groups of ten."""
    lines = [f"LOCUS       NZ_TEST {len(letters)} bp    DNA     linear   CON 09-MAR-2022"]
    lines += [f"{'DEFINITION' if i == 0 else '':<12}{word}" for i, word in enumerate(f"{description}.".split(" "))]
    lines += ["ACCESSION   NZ_TEST", f"VERSION     {name}  GI:1", "KEYWORDS    .", "FEATURES             Location/Qualifiers"]
    lines += [f"     CDS             1..{len(letters)}", '                     /translation="MK"', "ORIGIN      "]
    lines += [f"{60 * i + 1:>9} {' '.join(wrapped(row, 10))}" for i, row in enumerate(wrapped(letters, 60))]
    return [*lines, "//"]


def translation_lines(name: str, description: str, letters: str, width: int) -> list[str]:
    """Entry with one CDS; quotes inside values are doubled, and a note says what looks like a qualifier."""
    quoted = description.replace('"', '""')
    values = ['/note="see', '/translation=""MMM"" there"', "/pseudo_count=1"]
    values += [f"{'/product=' + chr(34) if i == 0 else ''}{word}" for i, word in enumerate(quoted.split(" "))]
    values[-1] += '"'
    values += [f'/protein_id="{name}"', *wrapped(f'/translation="{letters}"', width + 15)]
    lines = ["LOCUS       NZ_TEST 3 bp    DNA", "DEFINITION  x", "FEATURES             Location/Qualifiers"]
    lines += [
        "     gene            1..3",
        '                     /gene="a"',
        "     CDS             complement(join(1..2,",
        " " * 21 + "3..3))",
    ]
    lines += [" " * 21 + value for value in values]
    return [*lines, "     gene            2..3", "ORIGIN      ", "        1 acg", "//"]


WRITERS: dict[str, Callable[[str, str, str, int], list[str]]] = {
    "fasta": fasta_lines,
    "fastq": fastq_lines,
    "plain": plain_lines,
    "genbank": genbank_lines,
    "translations": translation_lines,
}
NAMES = (
    st.from_regex(r"[!-~]{1,12}", fullmatch=True).filter(lambda name: '"' not in name).filter(lambda name: not re.fullmatch(r"\.\d+", name))
)
DESCRIPTIONS = st.lists(st.from_regex(r"[!-~α]{1,8}", fullmatch=True), max_size=4).map(" ".join)


@st.composite
def record_lists(draw: st.DrawFn, alphabet: Alphabet) -> list[tuple[str, str, str]]:
    either_case = alphabet.letters + alphabet.letters.lower() + "".join(alphabet.synonyms) + "".join(alphabet.synonyms).lower()
    letters = st.text(either_case, min_size=1, max_size=150).filter(lambda text: not alphabet.doubt(text))
    return draw(st.lists(st.tuples(NAMES, DESCRIPTIONS, letters), min_size=1, max_size=6))


def meant(letters: str, alphabet: Alphabet, keep_case: bool) -> str:
    if not keep_case:
        return alphabet.clean(letters)
    return letters.replace("U", "T").replace("u", "t") if alphabet is RNA else letters


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_round_trip_of_every_format(tmp_path_factory, data):
    alphabet = data.draw(st.sampled_from(list(ALPHABETS.values())))
    form = data.draw(st.sampled_from([form for form in WRITERS if form != ("genbank" if alphabet is PROTEIN else "translations")]))
    records = data.draw(record_lists(alphabet))
    width = data.draw(st.integers(1, 80))
    keep_case = data.draw(st.booleans())
    end = data.draw(st.sampled_from(["\n", "\r\n", *(["\n\n", "\r\n \r\n"] if form in ("fasta", "fastq", "plain") else [])]))
    lines, starts = data.draw(st.lists(st.sampled_from(["", " ", "\t"]), max_size=3)), []
    for record in records:
        starts.append(len(lines))
        lines += WRITERS[form](*record, width)
    if form == "translations":
        starts = [number for number, line in enumerate(lines) if line.startswith("     CDS")]
    content = (end.join(lines) + end * data.draw(st.integers(0, 2))).encode()
    content = data.draw(st.sampled_from([b"", BYTE_ORDER_MARK])) + content
    if cuts := data.draw(st.lists(st.integers(0, len(content)), max_size=3)):
        edges = [0, *sorted(cuts), len(content)]
        content = b"".join(gzip.compress(content[a:b], 1) for a, b in pairwise(edges))
    with patch.object(files, "BLOCK", data.draw(st.sampled_from([1, 7, 64, 1 << 18]))):
        found, ledger = read(tmp_path_factory.mktemp("formats"), content, alphabet, keep_case=keep_case)
    assert ledger.rejected == 0
    lines_between = end.count("\n")
    expected = []
    for start, (name, description, letters) in zip(starts, records, strict=True):
        line = start * lines_between + 1
        named = (f"line{line}", "") if form == "plain" else (name, description)
        expected.append(Sequence(*named, meant(letters, alphabet, keep_case), line))
    assert found == expected


@pytest.mark.parametrize("form", WRITERS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_foreign_letter_is_named_with_its_line(tmp_path_factory, form, data):
    alphabet, name = (PROTEIN if form == "translations" else DNA), "x"
    # a protein must not be spelled in nucleotides, and lines of sequence are known by nine in ten that are
    text = st.text("ACGTN" if alphabet is DNA else "ACGTQ", min_size=40, max_size=90).map(lambda t: t if alphabet is DNA else f"Q{t}")
    letters = data.draw(st.lists(text, min_size=1, max_size=4))
    if form == "plain":
        letters = [*["ACGT"] * 10, *letters]
    bad = data.draw(st.integers(10 if form == "plain" else 0, len(letters) - 1))
    position = data.draw(st.integers(0, len(letters[bad]) - 1))
    letters[bad] = letters[bad][:position] + "~" + letters[bad][position + 1 :]
    width = data.draw(st.integers(5, 50))
    lines = [line for text in letters for line in WRITERS[form](name, "", text, width)]
    with patch.object(files, "BLOCK", data.draw(st.sampled_from([1, 100, 1 << 18]))):
        path, ledger = tmp_path_factory.mktemp("foreign") / "x", Ledger()
        path.write_text("\n".join(["", *lines, *WRITERS[form](name, "", "ACGT", width)]))
        found = list(read_sequences(path, alphabet, ledger))
    assert [sequence.letters for sequence in found] == [*letters[:bad], *letters[bad + 1 :], "ACGT"]
    expected = next(number for number, line in enumerate(lines, 2) if "~" in line)
    assert ledger.examples == {f"letter outside {alphabet.name}": [f"{path}:{expected} ('~')"]}


def test_wrapped_crlf_lower_case_blank_lines(tmp_path):
    found, ledger = read(tmp_path, b"\n>chr1 a  test\r\nACgt\r\n\r\nnnRY\r\n>\nTT\n>two_line\tx > y\nGGCC")
    assert found == [
        Sequence("chr1", "a  test", "ACGTNNRY", 2),
        Sequence("line6", "", "TT", 6),
        Sequence("two_line", "x > y", "GGCC", 8),
    ]
    assert ledger.as_dict()["read"] == ledger.written == 3
    assert list(read_sequences(tmp_path / "x.dat", DNA, Ledger())) == found


def test_synonyms_and_case(tmp_path):
    assert read(tmp_path, ">r\nAcgUu\n", RNA)[0][0].letters == "ACGTT"
    assert read(tmp_path, ">r\nAcgUu\n", RNA, keep_case=True)[0][0].letters == "AcgTt"
    assert read(tmp_path, ">p\nmkUO*\n", PROTEIN)[0][0].letters == "MKUO*"
    assert read(tmp_path, ">p\nmkUO*\n", PROTEIN, keep_case=True)[0][0].letters == "mkUO*"
    with pytest.raises(UserError, match="letter outside dna: 1"):
        read(tmp_path, ">d\nacgu\n", DNA, keep_case=True)


def test_bad_records_are_set_aside_with_their_line(tmp_path):
    found, ledger = read(tmp_path, b">ok\nACGT\n>bad\nACGT\nAC-T\n>empty\n\n>u\nACGU\n>ok2\nA\n")
    assert [s.id for s in found] == ["ok", "ok2"]
    assert ledger.as_dict() == {
        "read": 5,
        "written": 2,
        "rejected": 3,
        "reasons": {"empty sequence": 1, "letter outside dna": 2},
        "examples": {
            "letter outside dna": [f"{tmp_path / 'x.dat'}:5 ('-')", f"{tmp_path / 'x.dat'}:9 ('U')"],
            "empty sequence": [f"{tmp_path / 'x.dat'}:6"],
        },
    }


PROSE = b"The gene binds to the membrane.\n\nA cat sat.\nEvery cell reads\n"


@pytest.mark.parametrize(
    ("content", "alphabet", "words"),
    [
        (b"", DNA, ":1: no sequence record"),
        (b"\n \n", DNA, ":1: no sequence record"),
        (BYTE_ORDER_MARK, DNA, ":1: no sequence record"),
        (b">p\nMKLV\n>q\n\n", DNA, "not one usable dna record: letter outside dna: 1; empty sequence: 1"),
        (b"sequence,label\nACGX,1\n", DNA, "not one usable dna record: letter outside dna: 1 (first at"),
        (b"letters,label\nACGT,1\n", DNA, "x.fa:1: 'letters,label' is no dna sequence, and the file begins as no format"),
        (b"sequence\nid\n", DNA, "not one usable dna record: letter outside dna: 1"),
        (PROSE, DNA, "x.fa:1: 'The gene binds to the membrane' is no dna sequence, and the file begins as no format that is known"),
        (PROSE, PROTEIN, "x.fa:1: 'The gene binds to the membrane' is no protein sequence"),
        (b" >indented\nMKLV\n", DNA, "x.fa:1: '>indented' is no dna sequence"),
        (b"@r\nACGT\n+\nIII\n", DNA, "qualities and sequence differ in length: 1 (first at"),
        (b"LOCUS       a 3 bp\nFEATURES\n//\n", PROTEIN, "not one usable protein record: none was found"),
        (b"\x00\x01\xff\xfe" * 99, PROTEIN, "x.fa:1: binary data"),
    ],
)
def test_unusable_files_are_refused(tmp_path, content, alphabet, words):
    with pytest.raises(UserError, match=r"x\.fa") as error:
        read(tmp_path, content, alphabet, "x.fa")
    assert words in str(error.value)


@pytest.mark.parametrize(("content", "line"), [(b"\nACGT\n", 2), (b"sequence,label\nACGT,1\n", 1), (b"@r\nA\n+\nI\n", 1)])
def test_what_must_be_fasta_is_refused_otherwise(tmp_path, content, line):
    (tmp_path / "x.fa").write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.fa:{line}: not FASTA: expected a header"):
        list(fasta_records(tmp_path / "x.fa"))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        list(read_sequences(tmp_path / "none.fa", DNA, Ledger()))
    with pytest.raises(UserError, match="cannot be read"):
        open_bytes(tmp_path)


@pytest.mark.parametrize("form", WRITERS)
def test_the_name_says_nothing(tmp_path, form):
    content = "\n".join(WRITERS[form]("a", "b", "ACGT", 60)).encode()
    for name in ("x", "x.fa", "x.fq.gz", "x.gbk", "x.txt"):
        assert read(tmp_path, content, PROTEIN if form == "translations" else DNA, name)[0][0].letters == "ACGT"


def test_truncated_gz_names_the_line(tmp_path):
    whole = gzip.compress("\n".join([">a", *("".join(random.Random(i).choices("ACGT", k=60)) for i in range(20_000))]).encode())
    with pytest.raises(UserError, match=r"x\.fa\.gz:(\d+): the gz data is cut short") as error:
        read(tmp_path, whole[: len(whole) // 2], name="x.fa.gz")
    assert 8_000 < int(str(error.value).split(":")[1]) < 10_100
    with pytest.raises(UserError, match="cut short"):
        read(tmp_path, whole[:-4], name="x.fa.gz")
    with pytest.raises(UserError, match="damaged"):
        read(tmp_path, whole[:20] + b"\0\0\0\0" + whole[24:], name="x.fa.gz")
    with pytest.raises(UserError, match="damaged"):
        read(tmp_path, whole + b"not gz", name="x.fa.gz")


def fastq_record(name: str, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"@{name}", "".join(draw.choices("ACGT", k=30)), "+", "".join(draw.choices("@+I#", k=30))]


@given(breaks=st.lists(st.sampled_from(["", "short", "long", "no sequence", "no plus", "no qualities"]), min_size=1), seed=st.integers())
@settings(max_examples=150, deadline=None)
def test_a_broken_fastq_record_does_not_take_others_with_it(tmp_path_factory, breaks, seed):
    lines, whole, starts = [], [], []
    for number, broken in enumerate([*breaks, ""]):
        record = fastq_record(f"read{number}", seed + number)
        if not broken:
            whole.append((f"read{number}", record[1]))
        else:
            starts.append(len(lines) + 1)
        if broken in ("short", "long"):
            record[3] = record[3][:-1] if broken == "short" else record[3] + "I"
        elif broken:
            del record[["no sequence", "no plus", "no qualities"].index(broken) + 1]
        lines += record
    path, ledger = tmp_path_factory.mktemp("fastq") / "x.fq", Ledger()
    path.write_text("\n".join(lines))
    assert [(sequence.id, sequence.letters) for sequence in read_sequences(path, DNA, ledger)] == whole
    assert ledger.as_dict()["rejected"] >= len(starts)  # qualities that begin with '@' may look like a record, and are counted too
    assert {f"{path}:{start}" for start in starts} <= {place for places in ledger.examples.values() for place in places}


def test_fastq_qualities_of_another_width_and_reasons(tmp_path):
    content = "@a one\nACGT\nACGT\n+a one\n@+@\n@IIII\n\n@b\nAC\n+\nI\n@c\n\n+\n\n@d\nAC\n@e\nGG\n+\n@@\n@f\nTT"
    found, ledger = read(tmp_path, content)
    assert [(s.id, s.description, s.letters, s.line) for s in found] == [("a", "one", "ACGTACGT", 1), ("e", "", "GG", 18)]
    path = tmp_path / "x.dat"
    assert ledger.examples == {
        "qualities and sequence differ in length": [f"{path}:8"],
        "empty sequence": [f"{path}:12"],
        "no '+' line below the sequence": [f"{path}:16", f"{path}:22"],
    }


def test_fastq_header_as_long_as_the_missing_qualities(tmp_path):
    found, ledger = read(tmp_path, "@a\nACGTACGT\n+\nIIII\n@abc\nGGGG\n+\nIIII\n")
    assert [(s.id, s.letters, s.line) for s in found] == [("abc", "GGGG", 5)]
    assert ledger.examples == {"qualities and sequence differ in length": [f"{tmp_path / 'x.dat'}:1"]}


def test_plain_lines_with_a_header(tmp_path):
    found, ledger = read(tmp_path, "sequence\nACGT\n\n  nnac \r\nAC GT\n")
    assert found == [Sequence("line2", "", "ACGT", 2), Sequence("line4", "", "NNAC", 4)]
    path = tmp_path / "x.dat"
    assert ledger.examples == {"blanks inside the sequence (k-mers?)": [f"{path}:5 (' ')"]}
    assert read(tmp_path, "LOCUS\nLOCUSTS\n", PROTEIN)[0][0].letters == "LOCUS"


GENBANK = """LOCUS       SCU49845  21 bp  DNA  linear  PLN 21-JUN-1999
DEFINITION  Saccharomyces cerevisiae TCP1-beta gene,
            partial cds.
ACCESSION   U49845 REGION: 1..21
VERSION     U49845.1  GI:1293613
COMMENT     LOCUS is no keyword here
            //
FEATURES             Location/Qualifiers
     source          1..21
     CDS             <1..3
                     /gene="TCP1"
                     /pseudo
     CDS             join(2..4,
                     6..9)
                     /note="a /translation=""KK"" that is
                     /translation=none"
                     /locus_tag="t_002"
                     /product="beta ""T"" complex
                     protein"
                     /translation="MKU
                     VL*"
     CDS             4..6
                     /translation="m"
     CDS             7..9
                     /protein_id="AAA.1"
                     /translation="MK
ORIGIN      chromosome 9
        1 gatcctccat atacaacggt n
//

LOCUS       NC_CON  100 bp  DNA  CON
ACCESSION   NC_CON
VERSION
FEATURES             Location/Qualifiers
     CDS             7..9
                     /protein_id="AAA.2"
                     /translation="ACC"
CONTIG      join(AB1.1:1..100)
//
LOCUS       EMPTY 0 bp
ORIGIN
//
LOCUS       ONE 5 bp
ACCESSION   one
ORIGIN
1000000001 acgtR
//
LOCUS       CUT 20 bp
FEATURES             Location/Qualifiers
     CDS             7..9
                     /protein_id="AAA.3"
                     /translation="AV"
ORIGIN
        1 acgtn
LOCUS       NAMED 5 bp
ORIGIN
ttttt
//
LOCUS       1ABC_A 3 aa
DEFINITION  Chain A.
FEATURES             Location/Qualifiers
     CDS             1..3
                     /coded_by="U49845.1:1..9"
ORIGIN
        1 mkl
//
"""


def test_genbank_nucleotides(tmp_path):
    found, ledger = read(tmp_path, GENBANK)
    assert found == [
        Sequence("U49845.1", "Saccharomyces cerevisiae TCP1-beta gene, partial cds", "GATCCTCCATATACAACGGTN", 1),
        Sequence("one", "", "ACGTR", 43),
        Sequence("NAMED", "", "TTTTT", 55),
    ]
    path = tmp_path / "x.dat"
    assert ledger.examples == {
        "no letters below ORIGIN": [f"{path}:31", f"{path}:40"],
        "no // at the end of the entry": [f"{path}:48"],
        "letter outside dna": [f"{path}:65 ('l')"],
    }


def test_genbank_proteins(tmp_path):
    found, ledger = read(tmp_path, GENBANK, PROTEIN)
    assert found == [
        Sequence("t_002", 'beta "T" complex protein', "MKUVL*", 13),
        Sequence("line22", "", "M", 22),
        Sequence("AAA.2", "", "ACC", 35),
        Sequence("AAA.3", "", "AV", 50),
        Sequence("1ABC_A", "Chain A", "MKL", 59),
    ]
    path = tmp_path / "x.dat"
    assert ledger.examples == {
        "no /translation, as in pseudogenes": [f"{path}:10"],
        "/translation has no end": [f"{path}:24"],
        "no // at the end of the entry": [f"{path}:48"],
    }


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", WRITERS)
def test_progress_adds_up_to_the_size_of_the_file(tmp_path, form, zipped):
    letters = "".join(random.Random(0).choices("ACKT", k=300_000))
    content = "\n".join(line for name in "abc" for line in WRITERS[form](name, "", letters, 60)).encode()
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(content[:99_999], 1) + gzip.compress(content[99_999:], 1) if zipped else content)
    steps: list[int] = []
    alphabet = PROTEIN if form == "translations" else DNA
    assert [s.letters for s in read_sequences(path, alphabet, Ledger(), progress=steps.append)] == [letters] * 3
    assert sum(steps) == path.stat().st_size
    assert len(steps) >= 3
    assert min(steps) >= 0


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", WRITERS)
def test_one_record_at_a_time_is_held(tmp_path, form, zipped):
    size, count = 100_000, 24
    record = "\n".join([*WRITERS[form]("a", "", "ACKT" * (size // 4), 60), ""]).encode()
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(record * count, 1) if zipped else record * count)
    alphabet = PROTEIN if form == "translations" else DNA
    with patch.object(files, "BLOCK", 1 << 14):
        tracemalloc.start()
        lengths = [len(sequence.letters) for sequence in read_sequences(path, alphabet, Ledger())]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert lengths == [size] * count
    assert peak < 12 * size < size * count


@pytest.mark.shared
def test_genbank_and_fasta_of_one_assembly_agree(shared_data):
    ledger = Ledger()
    genbank = shared_data / "genomes" / "ecoli_K12_MG1655_GCF_000005845.2.gbff.gz"
    (entry,) = read_sequences(genbank, DNA, ledger)
    (record,) = read_sequences(shared_data / "genomes" / "ecoli_K12_MG1655_GCF_000005845.2.fna.gz", DNA, ledger)
    assert (entry.id, entry.description, entry.letters) == (record.id, record.description, record.letters)
    assert (len(entry.letters), ledger.rejected) == (4_641_652, 0)

    translated = {protein.id: protein.letters for protein in read_sequences(genbank, PROTEIN, ledger)}
    assert (len(translated), ledger.as_dict()["reasons"]) == (4_298, {"no /translation, as in pseudogenes": 17})
    proteins = read_sequences(shared_data / "proteins" / "ecoli_K12_refseq_proteins.faa", PROTEIN, Ledger())
    assert translated == {protein.id: protein.letters for protein in proteins}


@pytest.mark.shared
def test_real_genomes_are_read_whole_and_keep_their_case(shared_data):
    names = [path for path in sorted((shared_data / "genomes").rglob("*")) if path.suffix in (".fa", ".fna", ".fasta")]
    assert len(names) > 10
    soft_masked = 0
    for path in names:
        upper, kept = (list(read_sequences(path, DNA, ledger := Ledger(), keep_case=keep_case)) for keep_case in (False, True))
        assert ledger.rejected == 0
        assert [sequence.letters for sequence in upper] == [sequence.letters.upper() for sequence in kept]
        raw = b"".join(line for line in path.read_bytes().splitlines() if not line.startswith(b">"))
        assert b"".join(raw.split()).decode() == "".join(sequence.letters for sequence in kept)
        soft_masked += upper != kept
    assert soft_masked


def test_text_paragraphs(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\r\nOne α.\r\nStill one.\r\n\r\n\n  \nTwo.\n\n".encode() + b"\xff\xfe\n\nThree.")
    ledger = Ledger()
    assert [(t.line, t.text) for t in read_texts(path, ledger)] == [(2, "One α.\nStill one."), (7, "Two."), (11, "Three.")]
    assert ledger.as_dict()["reasons"] == {"not UTF-8": 1}
    assert ledger.examples["not UTF-8"] == [f"{path}:9"]


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    lines = [
        json.dumps({"id": "PMC1", "text": "Genes."}),
        "{oops",
        json.dumps({"id": 7, "text": "Cells."}),
        '["text"]',
        '{"text": " "}',
        "",
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    ledger = Ledger()
    assert [(t.id, t.text) for t in read_texts(path, ledger)] == [("PMC1", "Genes."), ("7", "Cells.")]
    assert ledger.as_dict()["reasons"] == {"empty text": 1, "not a JSON object": 1, "not a JSON line": 1}
    assert ledger.examples["not a JSON line"] == [f"{path}:2"]


def test_text_that_yields_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_text("[[]]\n")
    with pytest.raises(UserError, match=r"a\.jsonl: not one usable text document: not a JSON object: 1"):
        list(read_texts(tmp_path / "a.jsonl", Ledger()))
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(UserError, match=r"\.txt, \.jsonl or \.md"):
        list(read_texts(tmp_path / "a.pdf", Ledger()))


def test_text_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(BYTE_ORDER_MARK + b'{"text": "Genes."}\n')
    (tmp_path / "a.txt").write_bytes(BYTE_ORDER_MARK + b"Genes.\n")
    for name in ("a.jsonl", "a.txt"):
        assert [(t.line, t.text) for t in read_texts(tmp_path / name, Ledger())] == [(1, "Genes.")]
