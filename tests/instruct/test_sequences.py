"""Sequences in prompts, boxes and files: wrapped or left alone by rule, letters checked, and it is said how they were read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts.errors import UserError
from instruct.talk.sequences import read_box, read_fasta
from instruct.talk.sequences import wrap_sequences as wrap_and_say
from sequences.alphabets import DNA, PROTEIN, guess

ENGLISH = [
    "DNA",
    "GATEWAY",
    "GATTACA",
    "PHOSPHORYLATION",
    "IMMUNOHISTOCHEMISTRY",
    "PHOSPHATIDYLINOSITOL",
    "ELECTROENCEPHALOGRAPHY",
    "PHOSPHORIBOSYLTRANSFERASE",
    "the CAT box",
    "IS THIS A PROMOTER?",
]
plain = st.text(st.sampled_from("abcxyz 0123456789.,:;?!()-é\n"), max_size=20)


def wrap_sequences(text: str) -> str:
    return wrap_and_say(text)[0]


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_left_alone(text):
    assert wrap_and_say(f"Explain {text}, please") == (f"Explain {text}, please", [])


@given(plain, plain, st.text("ACGTN", min_size=16, max_size=60))
def test_bare_dna_is_wrapped(before, after, letters):
    assert wrap_sequences(f"{before} {letters} {after}") == f"{before} <dna>{letters}</dna> {after}"


@given(plain, plain, st.text("ACDEFGHIKLMNPQRSTVWY", min_size=29, max_size=60))
def test_bare_protein_is_wrapped(before, after, letters):
    sequence = f"L{letters}"  # L is no nucleotide code
    assert wrap_sequences(f"{before} {sequence} {after}") == f"{before} <protein>{sequence}</protein> {after}"
    assert wrap_sequences(f"({sequence}*)") == f"(<protein>{sequence}*</protein>)"


@given(st.text("ACGTN", max_size=15), st.text("ACDEFGHIKLMNPQRSTVWY", max_size=28))
def test_short_words_are_left_alone(dna, protein):
    text = f"Is {dna} like L{protein} or not?"
    assert wrap_sequences(text) == text


def test_bare_rna_is_rna():
    """U makes it RNA, which the tokenizer spells with T; read as a protein it would be nonsense."""
    text, found = wrap_and_say("Fold AUGGCUAGCUAGGCUAA now")
    assert text == "Fold <rna>ATGGCTAGCTAGGCTAA</rna> now"
    assert list(map(str, found)) == ["ATGGCTAGCTAG… (17 letters) as rna"]


# a line below that holds nothing but "a" would be the end of the sequence
@given(plain, plain.map(str.lstrip), st.text("ACGTNacgtn", min_size=16, max_size=60))
def test_bare_dna_in_small_letters_is_wrapped(before, after, letters):
    assert wrap_sequences(f"{before} {letters} {after}") == f"{before} <dna>{letters.upper()}</dna> {after}"


def test_a_bare_word_is_read_as_a_record_is():
    assert wrap_sequences("ACGT" * 9 + "AR") == f"<dna>{'ACGT' * 9}AR</dna>"
    assert wrap_sequences("augc" * 9) == f"<rna>{'ATGC' * 9}</rna>"
    small = "mkvlwaallvtflagcqakveqavetepepelrq"
    assert wrap_sequences(f"{small} pneumonoultramicroscopic acgtacgtacgtacg") == f"{small} pneumonoultramicroscopic acgtacgtacgtacg"
    with pytest.raises(UserError, match="a sequence in the prompt: 'U' at position 37 is not a dna letter"):
        wrap_sequences("ACGT" * 9 + "U")


@given(
    st.sampled_from(["", "Is this one? ", "Is it\n", ">seq1 of me\n"]),
    st.sampled_from(["\n", "\r\n", " \n "]),
    st.sampled_from(["", "\nThanks", "\n\nWhy so?", "\nDNA"]),
    st.text("ACGTacgt", min_size=16, max_size=80) | st.text("MKL", min_size=30, max_size=80),
    st.integers(1, 3),
    st.integers(1, 16),
)
def test_a_sequence_broken_over_lines_is_one(before, end, after, line, whole, last):
    letters = line * whole + line[:last]
    name = "dna" if set(line.upper()) <= set("ACGT") else "protein"
    if name == "protein" and after == "\nDNA":
        after = ""  # capitals below a protein are residues
    text, found = wrap_and_say(before + end.join([line] * whole + [line[:last]]) + after)
    assert text == f"{before}<{name}>{letters.upper()}</{name}>{after}"
    assert len(found) == 1


@pytest.mark.parametrize("between", ["\n\n", "\nand\n", "\n>two\n", ", ", "\nor "])
def test_sequences_that_something_parts_stay_apart(between):
    dna, protein = "GATTACAGATTACAGATTACA", "MKVLWAALLVTFLAGCQAKVEQAVETEPEPELRQ"
    assert wrap_sequences(f"{dna}{between}{dna}") == f"<dna>{dna}</dna>{between}<dna>{dna}</dna>"
    for text in (f"{dna}\n{protein}\n{dna}", f"{protein}*\n{protein}*", f"{dna}\n{dna.replace('T', 'U')}", f"{dna}\nA <dna>A\nC</dna>"):
        assert wrap_sequences(text).count("\n") == text.count("\n") - text.count("A\nC")


@given(plain, st.sampled_from(["dna", "protein"]), st.data())
def test_broken_lines_between_tags_are_one_sequence(before, name, data):
    letters = data.draw(st.text({"dna": DNA, "protein": PROTEIN}[name].letters.replace("*", ""), min_size=70, max_size=90))
    broken = "\n".join([letters[:35], letters[35:60], letters[60:]])
    assert wrap_sequences(f"{before}<{name}>\n{broken}\n</{name}>") == f"{before}<{name}>{letters}</{name}>"


@given(plain, plain, st.sampled_from(["dna", "protein"]), st.data())
def test_tagged_spans_are_validated(before, after, name, data):
    alphabet = {"dna": DNA, "protein": PROTEIN}[name]
    letters = data.draw(st.text(alphabet.letters, min_size=1, max_size=40))
    wanted = f"{before}<{name}>{letters}</{name}>{after}"
    assert wrap_sequences(wanted) == wanted
    broken = "\n ".join(letters.lower())
    assert wrap_sequences(f"{before}<{name}>{broken}</{name}>{after}") == wanted


def test_several_spans_and_a_bare_sequence():
    text = "Compare <dna>acgt</dna> with GATTACAGATTACAGATTACA and <rna>AUG</rna>."
    assert wrap_sequences(text) == "Compare <dna>ACGT</dna> with <dna>GATTACAGATTACAGATTACA</dna> and <rna>ATG</rna>."


@pytest.mark.parametrize(
    "text", ["Put DNA between <dna> and </dna>.", "The <dna> tag", "<protein> or </protein>", "<dna>a tag</dna>", "between <rna>", "</dna>"]
)
def test_english_between_tags_is_left_alone(text):
    assert wrap_and_say(text) == (text, [])


def test_a_foreign_letter_is_refused():
    with pytest.raises(UserError, match=r"'E' at position 3 is not a dna letter"):
        wrap_sequences("Is <dna>ACEGT</dna> a promoter?")
    with pytest.raises(UserError, match="empty protein sequence"):
        wrap_sequences("<protein> </protein>")


@given(st.text("ACGTNacgtn", min_size=1, max_size=80))
def test_records_of_nucleotides_are_dna(letters):
    assert guess(letters) is DNA
    assert guess("MKLV" + letters[:9] + "WQE") is PROTEIN


@pytest.mark.parametrize(
    ("letters", "name"),
    [
        ("ACGU", "rna"),
        ("ACGTU", "dna"),
        ("ACGTACGTACGTACGTACGTR", "dna"),
        ("ACGTRYSW", "protein"),
        ("MKV*", "protein"),
        ("ACGTE", "protein"),
    ],
)
def test_how_a_record_is_guessed(letters, name):
    assert guess(letters).name == name


def test_a_fasta_file_is_read(tmp_path: Path):
    path = tmp_path / "two.fa.gz"
    path.write_bytes(gzip.compress(b">one first\nacgt\nACGN\n\n>two\nMKVL*\n"))
    found = read_fasta(path, 2)
    assert [(read.name, read.modality, read.letters) for read in found] == [("one", "dna", "ACGTACGN"), ("two", "protein", "MKVL*")]
    assert str(found[0]) == "one (8 letters) as dna"
    assert [read.tagged for read in read_fasta(path, 2, "protein")] == ["<protein>ACGTACGN</protein>", "<protein>MKVL*</protein>"]


@pytest.mark.parametrize(
    ("content", "most", "modality", "message"),
    [
        ("hello\n", 8, None, "bad.fa:1: not FASTA: expected a header that starts with '>', found 'hello'"),
        ("", 8, None, "the file is empty"),
        (">a\nACGT\n>b\nMK1\n", 8, None, r"bad.fa:3 \(b\): '1' at position 3 is not a protein letter"),
        (">a\nACGT\n>b\nML\n", 8, "dna", r"bad.fa:3 \(b\): 'L' at position 2 is not a dna letter"),
        (">a\n>b\nMK\n", 8, None, r"bad.fa:1 \(a\): empty"),
        (">a\nAC\n>b\nAC\n", 1, None, "more than 1 sequences"),
    ],
)
def test_bad_files_are_refused_with_the_place(tmp_path: Path, content, most, modality, message):
    path = tmp_path / "bad.fa"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_fasta(path, most, modality)


def test_a_box_holds_letters_or_fasta():
    assert [(read.modality, read.letters) for read in read_box(" acg\ntac \n")] == [("dna", "ACGTAC")]
    assert [read.letters for read in read_box("\n>a\nACGT\nAC\n>b\nMKL\n", ["dna", "protein"])] == ["ACGTAC", "MKL"]
    with pytest.raises(UserError, match="1 sequence where 2 are needed; paste 2 FASTA records"):
        read_box("ACGT", ["dna", "protein"])
    with pytest.raises(UserError, match="2 sequences where 1 is needed"):
        read_box(">a\nAC\n>b\nAC", ["dna"])
    with pytest.raises(UserError, match="no sequences where 1 is needed"):
        read_box("  ")
    with pytest.raises(UserError, match="sequence 1: 'L' at position 3 is not a dna letter"):
        read_box("ACL", ["dna"])
    with pytest.raises(UserError, match="is not a protein letter"):
        read_box("ACé")
