"""Documents in which words, DNA and protein stand together: the public tokenizer's ids, whole spans, and the letters of the files."""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from uniprot_writers import Invented, flat

from artefacts.errors import Ledger, UserError
from data_convert.corpus.documents import SPAN, Document, read_documents
from data_convert.corpus.encode import Encoder
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.shards import load_shards
from data_convert.corpus.words import NO_SEQUENCE, START, UNLIKE, worded
from pretrain.bits import count_parts
from sequences.alphabets import ALPHABETS, reverse_complement
from sequences.codons import CODONS, translate

KINDS = {"dna", "protein", "mixed"}


def documents(count: int, seed: int = 0, most: int = 300) -> list[Document]:
    """Words with and without blanks beside the tags, spans of every length from one letter, and words before sequences."""
    draw, found = random.Random(seed), []
    words = ["", "The gene ", " makes", "\n", "naïve ", "é", ". ", "x < 5 and <b>", " DNA: "]
    for number in range(count):
        text = ""
        for _ in range(draw.randint(1, 4)):
            kind = draw.choice(["dna", "protein"])
            letters = "".join(draw.choices(ALPHABETS[kind].letters, k=draw.randint(1, most)))
            text += f"{draw.choice(words[1:])}<{kind}>{letters}</{kind}>"
        found.append(Document(f"m{number}", "mixed", text + draw.choice(words)))
        letters = "".join(draw.choices("ACGTN", k=draw.randint(1, most)))
        found.append(Document(f"d{number}", "dna", letters, words="E. coli, gene: "))
    return found


def test_ids_are_those_of_the_public_tokenizer(family_folder: Path) -> None:
    encoder, public = Encoder(family_folder, KINDS, 1 << 14), Tokenizer.from_file(str(family_folder / "tokenizer.json"))
    made = documents(30)
    for document, fragments in zip(made, encoder.encode(made), strict=True):
        (fragment,) = fragments or []
        assert fragment.ids.tolist() == [*encoder.start, *public.encode(document.wrapped, add_special_tokens=False).ids, *encoder.end]
        assert fragment.letters == document.size
        assert fragment.weights is None


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), block=st.integers(24, 90))
def test_spans_are_closed_and_opened_again(extended_folder: Path, seed: int, block: int) -> None:
    encoder, public = Encoder(extended_folder, KINDS, block), Tokenizer.from_file(str(extended_folder / "tokenizer.json"))
    made = documents(3, seed)
    for document, fragments in zip(made, encoder.encode(made), strict=True):
        assert fragments is not None
        texts = []
        for fragment in fragments:
            assert len(fragment.ids) <= block
            ids = fragment.ids[len(encoder.start) : len(fragment.ids) - len(encoder.end)]
            texts.append(public.decode(ids.tolist(), skip_special_tokens=False))
            assert "�" not in texts[-1]
            part = Document("", "mixed", texts[-1])
            assert not re.search("</?(dna|protein)>", "".join(letters for kind, letters in part.parts if kind == "text"))
            assert all(letters for kind, letters in part.parts if kind != "text"), "an empty span"
            said = sum(len(letters.encode()) for kind, letters in part.parts if kind != "text" or document.modality == "mixed")
            assert fragment.letters == said
        assert re.sub(r"</(dna|protein)>\0<\1>", "", "\0".join(texts)).replace("\0", "") == document.wrapped


def test_words_that_spell_a_special_token_are_refused(extended_folder: Path) -> None:
    encoder = Encoder(extended_folder, KINDS, 512)
    end = next(token for token in encoder._backend.get_added_tokens_decoder().values() if token.content not in "<dna></dna>").content
    bad = Document("x", "mixed", f"a {end} b <dna>ACGT</dna>")
    assert [fragments is None for fragments in encoder.encode([bad, *documents(1)])] == [True, False, False]


def test_one_wording_for_each_document_and_no_sentence_with_a_gap() -> None:
    fields = {
        "gene": "thrL",
        "organism": "E. coli",
        "product": "",
        "function": "",
        "dna": "<dna>A</dna>",
        "protein": "<protein>M</protein>",
    }
    found = {worded("gene", fields, 0, str(number)) for number in range(60)}
    assert len(found) == 5
    assert {text.index("<dna>") < text.index("<protein>") for text in found} == {True, False}
    assert not any("  " in text or "{" in text or "It encodes" in text or "Product" in text for text in found)
    assert worded("gene", fields, 0, "a") == worded("gene", fields, 0, "a")


def coding(protein: str, draw: random.Random) -> str:
    of = {residue: [codon for codon, meant in CODONS.items() if meant == residue] for residue in set(CODONS.values())}
    return "".join(draw.choice(of[residue]) for residue in protein + "*")


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 genes on both strands, one without a protein, one that begins with GTG, one whose product spells a tag."""
    draw = random.Random(3)
    letters, features = "", []
    for number in range(40):
        protein = "M" + "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randint(20, 60)))
        gene = coding(protein, draw)
        gene = "GTG" + gene[3:] if number == 5 else gene
        start = len(letters) + 1
        letters += reverse_complement(gene) if number % 2 else gene
        where = f"complement({start}..{len(letters)})" if number % 2 else f"{start}..{len(letters)}"
        features += [f"     gene            {where}", f'                     /locus_tag="g{number}"', f"     CDS             {where}"]
        features += [f'                     /locus_tag="g{number}"', f'                     /protein_id="p{number}"']
        features += [f'                     /product="{"a <dna> tag" if number == 6 else f"protein number {number}"}"']
        features += [f'                     /translation="{protein}"'] if number != 7 else []
    head = [f"LOCUS       c {len(letters)} bp DNA linear BCT", "VERSION     c.1", "FEATURES             Location/Qualifiers"]
    source = [f"     source          1..{len(letters)}", '                     /organism="Testa exempli"']
    body = ["ORIGIN", *(f"{at + 1:>9} {letters[at : at + 60].lower()}" for at in range(0, len(letters), 60)), "//", ""]
    path = tmp_path_factory.mktemp("genome") / "x.gbff"
    path.write_text("\n".join([*head, *source, *features, *body]))
    return path


def spans_of(folder: Path, split: str, tokenizer: Any) -> dict[str, str]:
    """Id -> text of every document of mixed blocks, fragments put together."""
    found: dict[str, dict[int, str]] = {}
    for row in load_shards(folder, split):
        assert row["modality"] == "mixed"
        ends = np.cumsum(row["seq_lengths"])
        for ids, name, turn in zip(np.split(row["input_ids"], ends)[:-1], row["ids"], row["turns"], strict=True):
            found.setdefault(name, {})[turn] = tokenizer.decode(ids.tolist(), skip_special_tokens=False)
    ends = f"{tokenizer.bos_token}", f"{tokenizer.eos_token}"
    texts = {name: "\0".join(of[turn].removeprefix(ends[0]).removesuffix(ends[1]) for turn in sorted(of)) for name, of in found.items()}
    return {name: re.sub(r"</(dna|protein)>\0<\1>", "", text).replace("\0", "") for name, text in texts.items()}


def test_every_coding_sequence_translates_to_its_protein(genome: Path, extended_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(extended_folder))
    made = PackRecipe(
        tokenizer=extended_folder,
        out=tmp_path / "out",
        block_tokens=64,
        sources=[Source(modality="mixed", files=[genome], heldout_share=0.2)],
        verify=True,
    )
    counts = pack(made)
    (report,) = counts["sources"]
    ledger = report["regions"][str(genome)]
    assert (ledger["read"], ledger["written"]) == (40, 38)
    assert ledger["reasons"] == {"no /translation": 1, "a sequence's tag inside a text": 1}
    assert ledger["notes"] == {START: 1}
    texts = spans_of(made.out, "train", tokenizer) | spans_of(made.out, "heldout", tokenizer)
    assert len(texts) == 38
    for name, text in texts.items():
        spans = dict(SPAN.findall(text))
        assert translate(spans["dna"])[name == "p5" :] == f"{spans['protein']}*"[name == "p5" :]
        assert "Testa exempli" in text
    rows = load_shards(made.out, "heldout").to_list()
    count_parts(rows, tokenizer)
    letters = [part for row in rows for part in row["letters_of_parts"]]
    assert sum(sum(part.values()) for part in letters) == report["letters"]["packed_heldout"]
    bases = sum(part.get("dna", 0) for part in letters)
    assert bases == sum(len(dict(SPAN.findall(text))["dna"]) for text in spans_of(made.out, "heldout", tokenizer).values())


def test_every_family_gives_the_documents_and_the_letters_of_their_parts_back(genome: Path, family_folder: Path, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    mixed = Source(modality="mixed", files=[genome], heldout_share=0.5)
    genes = Source(modality="dna", files=[genome], regions="genes", described=1, heldout_share=0.5)
    counts = pack(PackRecipe(tokenizer=family_folder, out=tmp_path / "out", block_tokens=96, sources=[mixed, genes], verify=True))
    rows = [row for split in ("train", "heldout") for row in load_shards(tmp_path / "out", split) if row["modality"] == "mixed"]
    count_parts(rows, PreTrainedTokenizerFast.from_pretrained(str(family_folder)))
    of_parts = [part for row in rows for part in row["letters_of_parts"]]
    made = [part for document in read_documents(mixed, genome, Ledger(), Ledger()) for part in document.parts]
    for kind in ("dna", "protein", "text"):
        assert sum(part.get(kind, 0) for part in of_parts) == sum(len(letters.encode()) for name, letters in made if name == kind)
    assert counts["verified"]["documents"] == 38 + 40


def test_what_holds_a_benchmark_sequence_in_either_alphabet_is_left_out(genome: Path, extended_folder: Path, tmp_path: Path) -> None:
    made = list(read_documents(Source(modality="mixed", files=[genome]), genome, Ledger(), Ledger()))
    dna, protein = dict(SPAN.findall(made[3].letters))["dna"], dict(SPAN.findall(made[9].letters))["protein"]
    (tmp_path / "d.fa").write_text(f">x\n{reverse_complement(dna[9:60])}\n")
    (tmp_path / "p.fa").write_text(f">x\n{protein}\n")
    counts = pack(
        PackRecipe(
            tokenizer=extended_folder,
            out=tmp_path / "out",
            sources=[Source(modality="mixed", files=[genome], heldout_share=0)],
            exclude=[tmp_path / "d.fa", tmp_path / "p.fa"],
        )
    )
    documents = counts["sources"][0]["documents"]
    assert documents["reasons"] == {"holds a benchmark sequence": 2}
    assert documents["examples"]["holds a benchmark sequence"] == [made[3].id, made[9].id]


def test_proteins_of_uniprot(tmp_path: Path) -> None:
    entries = [
        Invented("P1", functions=[("", "Cuts proteins.", ["ECO:0000269"])], sequence="MKV" * 20),
        Invented("P2", name="Something", sequence="MAL" * 20, keywords=[], places=[]),
    ]
    path = tmp_path / "s.dat"
    path.write_text("".join(map(flat, entries)))
    records = Ledger()
    found = list(read_documents(Source(modality="mixed", files=[path]), path, records, Ledger()))
    assert (records.read, records.written) == (2, 2)
    assert [document.id for document in found] == ["P1", "P2"]
    assert [document.parts[1] for document in found] == [("protein", "MKV" * 20), ("protein", "MAL" * 20)]
    assert "Granzyme A" in found[0].letters
    assert "Something" in found[1].letters
    alone = [Document(name, "protein", letters) for name, letters in (("P1", "MKV" * 20), ("P2", "MAL" * 20))]
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):  # on the side of the protein itself
        assert [one.is_held_out(share) for one in found] == [one.is_held_out(share) for one in alone]
    said = {
        one.letters
        for seed in range(40)
        for one in read_documents(Source(modality="mixed", files=[path]), path, Ledger(), Ledger(), seed=seed)
    }
    assert any("Cuts proteins." in text for text in said)
    assert not any("ECO" in text or "PubMed" in text or "{" in text for text in said)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">c\nACGT\n")
    with pytest.raises(UserError, match="this is FASTA; mixed documents are made of GenBank"):
        list(read_documents(Source(modality="mixed", files=[tmp_path / "x.fa"]), tmp_path / "x.fa", Ledger(), Ledger()))


@pytest.mark.shared
def test_every_coding_sequence_of_a_real_genome(shared_data: Path, kmers_folder: Path, tmp_path: Path) -> None:
    """E. coli: 4,315 CDS; what the code alone does not explain is listed here, one by one."""
    from transformers import AutoTokenizer

    path = shared_data / "genomes" / "ecoli_K12_MG1655_GCF_000005845.2.gbff.gz"
    counts = pack(PackRecipe(tokenizer=kmers_folder, out=tmp_path / "out", sources=[Source(modality="mixed", files=[path])]))
    ledger = counts["sources"][0]["regions"][str(path)]
    assert (ledger["read"], ledger["written"]) == (4315, 4288)
    texts: dict[str, str] = {}
    for split in ("train", "heldout"):
        texts |= spans_of(tmp_path / "out", split, AutoTokenizer.from_pretrained(str(kmers_folder)))
    assert len(texts) == 4288
    starts, others = 0, {}
    for name, text in texts.items():
        spans = dict(SPAN.findall(text))
        residues, protein = translate(spans["dna"]), spans["protein"] + "*"
        if residues != protein:
            starts += residues[1:] == protein[1:]
            if residues[1:] != protein[1:]:
                others[name] = {(a, b) for a, b in zip(residues, protein, strict=False) if a != b}
    assert ledger["notes"] == {START: starts, UNLIKE: len(others)}
    selenocysteine = {("*", "U")}
    assert (starts, others) == (422, dict.fromkeys(["NP_415991.1", "NP_418330.1", "NP_418503.1"], selenocysteine))
    assert sum("join" in line for line in _places(path)) > 15, "joins translate as they are"


def _places(path: Path) -> list[str]:
    with gzip.open(path, "rt") as handle:
        return [line for line in handle if line.startswith("     CDS ")]


def test_articles_with_tagged_sequences(extended_folder: Path, tmp_path: Path) -> None:
    """Paragraphs and spans in order, long spans closed and opened again, letters as sequences are written; broken tags are counted."""
    long = "".join(random.Random(3).choices("ACGT", k=900))
    texts = [
        f"The box <dna>tata\naat</dna> is here.\n\nIts gene is <dna>{long}</dna>, and it codes for <protein>MKRISTTITTT*</protein>.",
        "An RNA, <rna>GGCUAAGC</rna><protein>MKLV</protein>.\n\nNo more: naïve é, x < 5.",
        "Nothing but words.",
        "A tag <dna> in a sentence.",
        "Never closed: <dna>ACGT",
        "Empty: <dna></dna>.",
        "Open at the end <protein>",
        "Wrong letter <dna>ACGQ</dna>.",
    ]
    good = [
        f"The box <dna>TATAAAT</dna> is here.\n\nIts gene is <dna>{long}</dna>, and it codes for <protein>MKRISTTITTT*</protein>.",
        "An RNA, <rna>GGCTAAGC</rna> <protein>MKLV</protein>.\n\nNo more: naïve é, x < 5.",
        "Nothing but words.",
    ]
    file = tmp_path / "articles.jsonl"
    file.write_text("".join(json.dumps({"id": f"PMC{n}", "text": text}) + "\n" for n, text in enumerate(texts)), encoding="utf-8")
    source = Source(modality="mixed", files=[file], heldout_share=0)
    records, ledger = Ledger(), Ledger()
    found = list(read_documents(source, file, records, ledger))
    assert [document.letters for document in found] == good
    assert (records.read, records.written) == (8, 8)
    assert (ledger.read, ledger.written, dict(ledger.reasons)) == (8, 3, {NO_SEQUENCE: 4, "empty sequence": 1})
    for size in (1 << 20, 600):
        out = tmp_path / str(size)
        made = PackRecipe(tokenizer=extended_folder, out=out, block_tokens=64, sources=[source], part_bytes=size, verify=True, max_broken=1)
        counts = pack(made)
        assert counts["verified"] == {"documents": 3, "letters": sum(document.size for document in found)}
        assert counts["sources"][0]["documents"]["reasons"] == dict(ledger.reasons)
        assert "articles.jsonl:4 (PMC3: " in (out / "set_aside.tsv").read_text() or size == 600
    tokenizer = Tokenizer.from_file(str(extended_folder / "tokenizer.json"))
    tags = {tag: tokenizer.token_to_id(tag) for kind in ALPHABETS for tag in (f"<{kind}>", f"</{kind}>")}
    for row in load_shards(out, "train"):
        start = 0
        for length in row["seq_lengths"]:
            ids = row["input_ids"][start : start + length]
            opened = [sum(ids.count(tags[f"{mark}{kind}>"]) for kind in ALPHABETS) for mark in ("<", "</")]
            assert opened[0] == opened[1]
            start += length
    paragraphs = Source(modality="mixed", files=[file], heldout_share=0, unit="paragraph")
    found = list(read_documents(paragraphs, file, Ledger(), Ledger()))
    assert [document.id for document in found] == ["PMC0/1", "PMC0/2", "PMC1/1", "PMC1/2", "PMC2/1"]


def test_other_files_are_no_mixed_documents(tmp_path: Path, extended_folder: Path) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGT\n")
    recipe = PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", sources=[Source(modality="mixed", files=[tmp_path / "x.fa"])])
    with pytest.raises(UserError, match=r"x\.fa: this is FASTA; mixed documents are made of"):
        pack(recipe)
