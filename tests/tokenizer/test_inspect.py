"""`tokenizer inspect`: what is shown is the text, cut as the tokenizer cuts it, and a span that is none is named."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import llama_gene
from artefacts.errors import UserError
from sequences.alphabets import NUCLEOTIDES, RESIDUES, TAGS
from tokenizer.colours import NOTHING, PICTURES, InspectRecipe, coloured, cut, inspect, legend, plain, warnings

ANSI = re.compile(r"\x1b\[[0-9;]*m")
TEXT = "The 基因 BRCA1 <dna>ACGTNacgt</dna> or\n<rna>ACGU</rna>, <protein>MKWVTF</protein> 😀."
PROSE = st.text(st.characters(exclude_categories=("Cs", "Co"), exclude_characters="<>\x1b"), max_size=30)
SPAN = st.one_of(
    st.tuples(st.just("dna"), st.text(NUCLEOTIDES, max_size=30)),
    st.tuples(st.just("rna"), st.text("ACGU", max_size=30)),
    st.tuples(st.just("protein"), st.text(RESIDUES, max_size=30)),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wrapped(prose: str, span: tuple[str, str]) -> str:
    return f"{prose}<{span[0]}>{span[1]}</{span[0]}>"


@given(parts=st.lists(st.tuples(PROSE, SPAN), max_size=4), tail=PROSE)
@settings(max_examples=200, deadline=None)
def test_tokens_give_the_text_and_the_ids_back(family, parts, tail):
    _, extended, new = family
    text = "".join(wrapped(*part) for part in parts) + tail
    tokens = list(cut(extended, text))
    assert "".join(token.text for token in tokens) == text
    assert [token.id for token in tokens] == extended.encode(text, add_special_tokens=False).ids
    for kind in ("dna", "rna", "protein"):
        own = {index: piece for piece, index in new.pieces["protein" if kind == "protein" else "dna"].items()}
        shown = [token for token in tokens if token.kind == kind]
        assert "".join(token.text for token in shown) == "".join(span for _, (name, span) in parts if name == kind)
        assert [token.text.replace("U", "T") if kind == "rna" else token.text for token in shown] == [own[token.id] for token in shown]
    assert [token.text for token in tokens if token.kind == "special"] == [t for _, (n, _) in parts for t in (f"<{n}>", f"</{n}>")]
    assert list(warnings(extended, text)) == []


@given(parts=st.lists(st.tuples(PROSE, SPAN), max_size=3))
@settings(max_examples=100, deadline=None)
def test_colours_hide_nothing_and_end_with_each_line(family, parts):
    _, extended, _ = family
    text = "".join(wrapped(*part) for part in parts)
    tokens = list(cut(extended, text))
    shown = coloured(tokens, ids=False)
    assert ANSI.sub("", shown).replace(NOTHING, "").replace("↵\n", "\n") == text.replace(NOTHING, "").translate(PICTURES)
    for line in shown.split("\n"):
        assert not line or line.endswith("\x1b[0m")


def test_each_modality_has_its_hue_and_neighbours_differ(family):
    _, extended, _ = family
    tokens = list(cut(extended, TEXT))
    shown = coloured(tokens, ids=False)
    starts = [match[0] for match in ANSI.finditer(shown) if match[0] != "\x1b[0m"]
    hue = {kind: {start for token, start in zip(tokens, starts, strict=False) if token.kind == kind} for kind in ("dna", "protein")}
    assert len(hue["dna"]) == len(hue["protein"]) == 2
    assert not hue["dna"] & hue["protein"]
    for tag in TAGS:
        assert re.search(rf"\x1b\[1;[0-9;]*m{tag}\x1b\[0m", shown)


def test_ids_stand_behind_their_tokens(family):
    _, extended, new = family
    [opened, *inside, closed] = list(cut(extended, "<dna>ACGTACGT</dna>"))
    assert plain([opened, *inside, closed], ids=True) == "|".join(
        [
            f"<dna>:{new.tags['<dna>']}",
            *(f"{token.text}:{new.pieces['dna'][token.text]}" for token in inside),
            f"</dna>:{new.tags['</dna>']}",
        ]
    )


def test_the_legend_counts_letters_and_tokens(family):
    _, extended, _ = family
    tokens = list(cut(extended, TEXT))
    lines = {line.split()[0]: line.split() for line in legend(tokens, colour=False)}
    assert set(lines) == {"text", "dna", "rna", "protein", "special"}
    for kind, letters in (("dna", 9), ("rna", 4), ("protein", 6)):
        count = sum(token.kind == kind for token in tokens)
        assert lines[kind][1:4] == [str(count), "tokens", str(letters)]
        assert float(lines[kind][5]) == pytest.approx(letters / count, abs=0.005)
    outside = re.sub(r"<(\w+)>.*?</\1>", "", TEXT)
    assert lines["text"][3] == str(len(outside.encode()))
    assert lines["special"][1] == "6"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("see <dna>ACXT</dna>", r"position 12: 'X' is not a dna letter, so this span is read as text.*<dna> at position 5"),
        ("<rna>ACGE</rna>", r"position 9: 'E' is not a rna letter"),
        ("see <dna>ACGT", r"position 5: <dna> is never closed; the letters behind it are read as a sequence to be continued"),
        ("<protein>MK</dna>", r"position 1: <protein> meets </dna> before </protein>, so this span is read as text"),
        ("a </dna> b", r"position 3: </dna> closes nothing"),
    ],
)
def test_spans_that_are_none_are_named_with_their_place(family, text, message):
    _, extended, _ = family
    found = list(warnings(extended, text))
    assert len(found) == 1
    assert re.match(message, found[0])
    mapped = any(token.kind in ("dna", "rna", "protein") for token in cut(extended, text))
    assert mapped == ("read as text" not in found[0] and "closes nothing" not in found[0])


def test_a_special_token_ends_a_span_as_the_tokenizer_sees_it(byte_level_base, dna_bpe, protein_bpe):
    from tokenizer.vocabulary import extend

    extended, *_ = extend(byte_level_base, dna_bpe, protein_bpe)
    text = "see <dna>ACGT<|eot_id|> more <dna>AC!</dna>"
    assert "".join(token.text for token in cut(extended, text) if token.kind == "dna") == "ACGT"
    first, second = warnings(extended, text)
    assert first.startswith("position 5: <dna> is never closed")
    assert second.startswith(f"position {text.index('!') + 1}: '!' is not a dna letter")


def test_a_file_is_named_with_line_and_column(family, tmp_path):
    _, extended, _ = family
    file = tmp_path / "notes.txt"
    text = "one\ntwo <dna>A!</dna>\n"
    assert next(iter(warnings(extended, text, file))).startswith(f"{file}:2, column 11: '!' is not a dna letter")


def test_the_command_prints_plain_tokens_and_warns(extended_folder, capsys):
    assert llama_gene.main(["tokenizer", "inspect", "see <dna>ACGT</dna>", "and <dna>A", "--tokenizer", str(extended_folder)]) == 0
    printed = capsys.readouterr()
    first, blank, *rest = printed.out.splitlines()
    assert first.replace("|", "").replace(NOTHING, "") == "see <dna>ACGT</dna> and <dna>A"
    assert "|<dna>|" in first
    assert blank == ""
    assert [line.split()[0] for line in rest] == ["text", "dna", "special"]
    assert printed.err.startswith("warning: position 25: <dna> is never closed")
    assert "\x1b" not in printed.out


def test_ids_and_file_of_the_command(extended_folder, capsys, tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("<dna>ACGT</dna>", encoding="utf-8")
    assert llama_gene.main(["tokenizer", "inspect", "--file", str(file), "--tokenizer", str(extended_folder), "ids=true"]) == 0
    tokenizer = Tokenizer.from_file(str(extended_folder / "tokenizer.json"))
    first = capsys.readouterr().out.splitlines()[0]
    assert [int(token.rpartition(":")[2]) for token in first.split("|")] == tokenizer.encode(
        "<dna>ACGT</dna>", add_special_tokens=False
    ).ids


def test_colour_is_for_terminals_that_want_it(extended_folder, monkeypatch):
    recipe = InspectRecipe(text=["a <dna>ACGT</dna>"], tokenizer=extended_folder)
    monkeypatch.delenv("NO_COLOR", raising=False)
    inspect(recipe, out=(terminal := Terminal()))
    assert "\x1b[" in terminal.getvalue()
    inspect(recipe, out=(pipe := io.StringIO()))
    monkeypatch.setenv("NO_COLOR", "1")
    inspect(recipe, out=(silent := Terminal()))
    assert pipe.getvalue() == silent.getvalue()
    assert "\x1b" not in pipe.getvalue()


def test_mistakes_are_named(extended_folder, byte_level_base, tmp_path):
    byte_level_base.tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "text.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "broken.json").write_text("{}")
    for fields, message in (
        ({"text": ["x"], "tokenizer": tmp_path / "absent"}, "absent: no such tokenizer"),
        ({"text": ["x"], "tokenizer": tmp_path}, "was not extended"),
        ({"text": ["x"], "tokenizer": tmp_path / "broken.json"}, "not a tokenizer "),
        ({"tokenizer": extended_folder}, "give either a text"),
        ({"text": ["x"], "file": tmp_path / "text.txt", "tokenizer": extended_folder}, "give either a text"),
        ({"file": tmp_path / "text.txt", "tokenizer": extended_folder}, "cannot be read as UTF-8"),
        ({"file": tmp_path / "none.txt", "tokenizer": extended_folder}, "none.txt: cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            inspect(InspectRecipe(**fields))


def test_a_text_cannot_steer_the_terminal(extended_folder):
    text = "hi \x1b]0;owned\x07\x1b[2J \x9b31m\r\x00 <dna>ACGT</dna>\tend\n"
    tokens = list(cut(Tokenizer.from_file(str(extended_folder / "tokenizer.json")), text))
    assert "".join(token.text for token in tokens) == text
    for shown in (plain(tokens, ids=False), ANSI.sub("", coloured(tokens, ids=False))):
        assert not [character for character in shown if ord(character) < 32 and character not in "\n\t"]
        assert not [character for character in shown if 0x7F <= ord(character) < 0xA0]
        assert "␛" in shown
