"""UniProt's flat file, XML and TSV: the same entries from all three, as Biopython reads them, and nothing lost."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest
import uniprot_writers as write
from hypothesis import given, settings
from hypothesis import strategies as st
from uniprot_writers import Invented

from artefacts.errors import Ledger, UserError
from data_convert.corpus.documents import Document, read_documents
from data_convert.corpus.pack_recipe import Source
from sequences.formats import UNIPROT, sniff
from sequences.uniprot import WITHOUT_FUNCTION, checked_entries
from sequences.uniprot_entry import Entry, clean, join_lines, locations
from sequences.uniprot_tsv import main_name

BROWSED = (" (PubMed:123, PubMed:4567)", " (Ref.4)")


def read_uniprot(path: Path, ledger: Ledger) -> Iterator[Entry]:
    """The usable entries; all are counted."""
    for entry in checked_entries(path):
        ledger.read += 1
        if isinstance(entry, Entry):
            ledger.written += 1
            ledger.notes[WITHOUT_FUNCTION] += not entry.function
            yield entry
        else:
            ledger.reject(entry.reason, f"{path}:{entry.line}")


def read(folder: Path, content: str | bytes, name: str = "x") -> tuple[list[Entry], Ledger]:
    path, ledger = folder / name, Ledger()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = list(read_uniprot(path, ledger))
    assert ledger.as_dict()["written"] == len(found)
    return found, ledger


def expected_functions(entry: Invented) -> list[tuple[str, tuple[str, ...]]]:
    expected = []
    for molecule, text, codes in entry.functions:
        for reference in BROWSED:
            text = text.replace(reference, "")
        expected.append((f"[{molecule}]: {text}" if molecule else text, tuple(sorted(codes))))
    return expected


def check(found: Entry, entry: Invented, *, aspects: bool = True) -> None:
    assert (found.accession, found.entry_name, found.name, found.sequence) == (
        entry.accession,
        entry.entry_name,
        entry.name,
        entry.sequence,
    )
    assert [tuple(function) for function in found.functions] == expected_functions(entry)
    assert list(found.go) == [(number, name, aspect if aspects else "") for number, aspect, name in entry.go]
    assert (list(found.genes), list(found.ec), list(found.keywords)) == (entry.genes, entry.ec, entry.keywords)
    assert list(found.locations) == ["; ".join(place) for place in entry.places]
    assert list(found.families) == entry.families
    assert list(found.domains) == [name if aspects else number for number, name in entry.domains]
    assert (found.organism, found.taxonomy, found.reviewed) == ("Homo sapiens (Human)", 9606, entry.reviewed)


@settings(max_examples=40)
@given(
    entries=st.lists(write.entries, min_size=1, max_size=4),
    width=st.integers(24, 80),
    ends=st.sampled_from(["\n", "\r\n"]),
    zipped=st.booleans(),
)
def test_the_three_formats_agree_wherever_lines_are_wrapped(tmp_path_factory, entries, width, ends, zipped):
    folder = tmp_path_factory.mktemp("uniprot")
    contents = {"flat": "".join(write.flat(entry, width) for entry in entries), "XML": write.xml(entries), "TSV": write.tsv(entries)}
    for form, content in contents.items():
        raw = content.replace("\n", ends).encode()
        found, ledger = read(folder, gzip.compress(raw) if zipped else raw)
        assert sniff(content.encode())[0] == UNIPROT
        assert len(found) == len(entries)
        for one, entry in zip(found, entries, strict=True):
            check(one, entry, aspects=form != "TSV")
        without = sum(not entry.functions for entry in entries)
        assert ledger.notes["without a function"] == without
        marker = {"flat": "ID   ", "XML": "<entry ", "TSV": "P"}[form]
        assert [one.line for one in found] == [n for n, line in enumerate(content.split("\n"), 1) if line.startswith(marker)]


def test_literature_leaves_the_text_and_stays_beside_it(tmp_path):
    entry = Invented("P12345", functions=[("", "Cuts after lysine (PubMed:7, PubMed:8). Slowly (Ref.4).", ["ECO:0000269"])])
    for content in (write.flat(entry), write.xml([entry]), write.tsv([entry])):
        (found,), _ = read(tmp_path, content)
        assert found.function == "Cuts after lysine. Slowly."
        assert set(found.references) == {"PubMed:7", "PubMed:8", "PubMed:1" if content.startswith("<") else "PubMed:11"}


@pytest.mark.parametrize("width", range(20, 75))
def test_a_hyphen_at_every_wrap_position(tmp_path, width):
    text = "Acts on 4,2',4',6'-tetrahydroxychalcone-like calcium-dependent long- and short-chain NF-kappa-B and/or S-adenosyl-L-methionine."
    (found,), _ = read(tmp_path, write.flat(Invented("P12345", functions=[("", text, ["ECO:0000269"])]), width))
    assert found.function == text


@settings(max_examples=25)
@given(entries=st.lists(write.entries, min_size=1, max_size=3), width=st.integers(40, 80))
def test_the_flat_file_is_read_as_biopython_reads_it(tmp_path_factory, entries, width):
    swissprot = pytest.importorskip("Bio.SwissProt")
    content = "".join(write.flat(entry, width) for entry in entries)
    found, _ = read(tmp_path_factory.mktemp("uniprot"), content)
    records = list(swissprot.parse(io.StringIO(content)))
    assert len(found) == len(records)
    for one, record in zip(found, records, strict=True):
        assert (one.entry_name, one.accession, one.sequence) == (record.entry_name, record.accessions[0], record.sequence)
        name = re.search(r"Full=([^;{]*?) ?[;{]", record.description)
        assert name is not None
        assert one.name == name[1]
        assert [(term.id, f"{term.aspect}:{term.name}") for term in one.go] == [r[1:3] for r in record.cross_references if r[0] == "GO"]
        assert (one.organism, str(one.taxonomy)) == (record.organism.removesuffix("."), record.taxonomy_id[0])
        assert one.reviewed == (record.data_class == "Reviewed")
        genes = [name for gene in record.gene_name for key in ("Name", "Synonyms") if key in gene for name in _listed(gene[key])]
        assert list(one.genes) == [re.sub(r" \{.*", "", gene) for gene in genes]
        assert list(one.keywords) == [re.sub(r" \{.*", "", keyword) for keyword in record.keywords if keyword]


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def test_a_function_as_biopython_damages_it():
    """The reason for a reader of our own: Biopython joins with a blank behind a hyphen."""
    swissprot = pytest.importorskip("Bio.SwissProt")
    text = "Binds calcium-dependent."
    (record,) = swissprot.parse(io.StringIO(write.flat(Invented("P12345", functions=[("", text, [])]), 25)))
    assert "FUNCTION: Binds calcium- dependent." in record.comments


def flat_file() -> list[str]:
    return [write.flat(Invented(f"P0000{number}")) for number in range(4)]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("70 AA;  28999", "71 AA;  28999", "ID and SQ line differ in the sequence's length"),
        ("MRNSYRFLAS", "MRNSYRFLA", "the sequence is not as long as the entry says"),
        ("MRNSYRFLAS", "MRN5YRFLAS", "letter outside protein"),
        ("SQ   SEQUENCE", "SX   SEQUENCE", "no SQ line with the sequence's length, or several"),
        ("AC   P00001; Q6IB36;", "AC   ;", "no accession"),
        ("\n//\n", "\n", "no // at the end of the entry"),
        ("70 AA.", "70 BP.", "ID line without name, status and length in AA"),
        ("GN   Name=", "GN   Name=\udcff", "not UTF-8"),
        ("ID   ", "IX   ", "lines outside an entry"),
    ],
)
def test_a_broken_entry_is_set_aside_alone(tmp_path, old, new, reason):
    entries = flat_file()
    line = entries[0].count("\n") + 1
    assert old in entries[1]
    entries[1] = entries[1].replace(old, new, 1)
    found, ledger = read(tmp_path, "".join(entries).encode("utf-8", "surrogateescape"))
    assert [entry.accession for entry in found] == ["P00000", "P00002", "P00003"]
    assert ledger.examples[reason] == [f"{tmp_path / 'x'}:{line}"]


@pytest.mark.parametrize("lost", [1, 40, 400])
def test_a_flat_file_cut_short(tmp_path, lost):
    content = "".join(flat_file()).removesuffix("\n//\n")[:-lost]
    found, ledger = read(tmp_path, content)
    assert [entry.accession for entry in found] == ["P00000", "P00001", "P00002"]
    assert dict(ledger.reasons) == {"no // at the end of the entry": 1}


def test_an_xml_file_cut_short_gives_what_was_whole_and_says_so(tmp_path):
    content = write.xml([Invented(f"P0000{number}") for number in range(3)])
    path, ledger, found = tmp_path / "x.xml", Ledger(), []
    path.write_text(content[: content.rindex("<sequence")])
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}:\d+: not well-formed XML"):
        found.extend(map(attrgetter("accession"), read_uniprot(path, ledger)))
    assert found == ["P00000", "P00001"]
    assert ledger.as_dict()["written"] == 2


BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE u [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>\n'
    "<uniprot><entry><accession>&b;</accession></entry></uniprot>"
)


@pytest.mark.parametrize(
    "content",
    [BOMB, BOMB.replace("<!ENTITY a", '<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY a'), '\n<!DOCTYPE u SYSTEM "u.dtd">\n<u/>'],
)
def test_a_document_type_is_refused(tmp_path, content):
    with pytest.raises(UserError, match=r"x:2: has a document type \(DTD\)"):
        read(tmp_path, content)


def test_sequences_of_xml_that_lie_about_their_length(tmp_path):
    content = write.xml([Invented("P00001"), Invented("P00002")]).replace('length="70"', 'length="71"', 1)
    found, ledger = read(tmp_path, content)
    assert [entry.accession for entry in found] == ["P00002"]
    assert ledger.examples == {"the sequence is not as long as the entry says": [f"{tmp_path / 'x'}:3"]}


def test_tsv_rows(tmp_path):
    content = "Entry\tSequence\tProtein names\nP1\tmk\tA\nP2\tMK\n\nP3\tMK\t\xff\nP4\tM K\tx\n".encode("latin-1")
    found, ledger = read(tmp_path, content)
    assert [(entry.accession, entry.sequence, entry.line) for entry in found] == [("P1", "MK", 2)]
    path = tmp_path / "x"
    assert ledger.examples == {
        "more or fewer fields than the header has": [f"{path}:3"],
        "not UTF-8": [f"{path}:5"],
        "letter outside protein": [f"{path}:6"],
    }
    with pytest.raises(UserError, match=r"x:1: no column 'Sequence'; columns found: Entry, Protein names"):
        read(tmp_path, "Entry\tProtein names\nP1\tA\n")


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("Protein A", "Protein A"),
        ("Elastase (EC 3.4.21.-) (Lys(2+)-form) [Cleaved into: A; B (C)]", "Elastase"),
        ("Alpha-(1,3)-fucosyltransferase 4 (FUT4)", "Alpha-(1,3)-fucosyltransferase 4"),
        ("Na(+)", "Na(+)"),
        ("odd )", "odd )"),
        ("(only)", "(only)"),
    ],
)
def test_the_main_name_of_a_tsv(names, name):
    assert main_name(names) == name


def test_evidence_references_and_marks():
    assert clean("Binds X (PubMed:1; PubMed:2). May act (By similarity). {ECO:0000250|UniProtKB:P1, ECO:0000269}.") == (
        "Binds X. May act (By similarity).",
        ("ECO:0000250", "ECO:0000269"),
    )
    assert clean("Nucleus {ECO:0000305}. Golgi") == ("Nucleus. Golgi", ("ECO:0000305",))
    assert locations("[Isoform 2]: Nucleus {ECO:1}. Cell membrane; Side {ECO:2}. Note=Here. There.") == [
        "[Isoform 2]: Nucleus",
        "[Isoform 2]: Cell membrane; Side",
    ]
    assert join_lines(["a -", "b and/", "or c-", "d e-", "and", "or"]) == "a - b and/or c-d e- and or"
    assert join_lines(["epithelial-", "to-mesenchymal, head-", "to-tail, long-", "to short-term"]) == (
        "epithelial-to-mesenchymal, head-to-tail, long- to short-term"
    )


def test_documents_of_proteins(tmp_path):
    path, records, documents = tmp_path / "x.dat", Ledger(), Ledger()
    path.write_text("".join(flat_file()))
    found = list(read_documents(Source(modality="protein", files=[path]), path, records, documents))
    assert found[0] == Document("P00000", "protein", Invented("").sequence, str(path), names="P00000 P00000_HUMAN")
    assert [document.id for document in found] == ["P00000", "P00001", "P00002", "P00003"]
    assert records.as_dict()["notes"] == {"without a function": 4}
    assert documents.as_dict()["written"] == 4


@pytest.mark.shared
def test_real_tsv(shared_data):
    ledger = Ledger()
    found = list(read_uniprot(shared_data / "proteins" / "uniprot_human500_function_cc.tsv", ledger))
    assert (len(found), ledger.rejected, ledger.notes["without a function"]) == (500, 0, 9)
    assert not any("ECO:" in entry.function or "PubMed:" in entry.function or "FUNCTION:" in entry.function for entry in found)
    assert sum(len(entry.functions) for entry in found) > 520
    assert found[1].name == "Ciliated left-right organizer metallopeptidase"


def test_enzyme_numbers_of_old_xml_stand_in_references(tmp_path):
    entry = Invented("P00750", ec=[])
    old = write.xml([entry]).replace("<recommendedName>", '<recommendedName ref="1 2">', 1)
    old = old.replace("<keyword ", '<dbReference type="EC" id="3.4.21.68" key="1"/><dbReference type="EC" id="9.9" key="7"/><keyword ', 1)
    assert old.count('dbReference type="EC"') == 2
    ((found,), _) = read(tmp_path, old)
    assert found.ec == ("3.4.21.68",)
