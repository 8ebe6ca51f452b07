"""Bulk encoding gives the ids of the public tokenizer, whatever the vocabulary and the letters."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import english, letters
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from artefacts.errors import Ledger, UserError
from sequences.alphabets import ALPHABETS, DNA, NUCLEOTIDES, PROTEIN, RNA, Alphabet
from sequences.readers import read_sequences
from tokenizer.bpe import encode as bulk
from tokenizer.bpe.encode import GeneEncoder
from tokenizer.encoders import MAY_HOLD_SPANS, read_encoders, text_tokenizer
from tokenizer.kmers import vocabulary_of
from tokenizer.vocabulary import extend

MODALITIES = pytest.mark.parametrize("alphabet", [DNA, RNA, PROTEIN], ids=lambda a: a.name)


def trained(alphabet: Alphabet, corpus: list[str], pieces: int, longest: int) -> Tokenizer:
    bpe = Tokenizer(models.BPE())
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=pieces, initial_alphabet=list(alphabet.letters), max_token_length=longest, min_frequency=1, show_progress=False
        ),
    )
    return bpe


def encoder_of(bpe: Tokenizer, alphabet: Alphabet, tags: tuple[int, int] = (0, 0)) -> GeneEncoder:
    model = json.loads(bpe.to_str())["model"]
    return GeneEncoder(alphabet, model["vocab"], [tuple(merge) for merge in model["merges"]], tags)


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def family(request, byte_level_base, sentencepiece_base, genes) -> tuple[Any, Tokenizer, Any]:
    """(base, extended tokenizer, new ids) for each base family and each kind of vocabulary."""
    base = byte_level_base if request.param == "byte-level" else sentencepiece_base
    return base, *extend(base, *genes)[:2]


@pytest.fixture(scope="module")
def encoders(family) -> dict[str, GeneEncoder]:
    return read_encoders(family[1])


@pytest.fixture(scope="module", params=[30, 300, 3000])
def sized(request) -> tuple[Tokenizer, GeneEncoder]:
    """DNA BPEs of several sizes, trained on letters with repeats and runs in them."""
    draw = random.Random(3)
    motifs = ["".join(draw.choices("ACGT", k=draw.randint(3, 12))) for _ in range(40)]
    units = [*motifs, "A" * 13, "CA" * 6, "N" * 5]
    corpus = ["".join(draw.choice(units) + "".join(draw.choices("ACGT", k=9)) for _ in range(20)) for _ in range(200)]
    bpe = trained(DNA, corpus, request.param, 13)
    assert bpe.get_vocab_size() == request.param
    return bpe, encoder_of(bpe, DNA)


# The reference keeps a queue over the whole word; for what differs between vocabularies a few hundred letters are plenty.
DRAWN = st.one_of(
    st.text("ACGT", max_size=300),
    st.text("AC", max_size=300),
    st.text(NUCLEOTIDES, max_size=100),
    st.lists(st.tuples(st.text("ACGTN", min_size=1, max_size=4), st.integers(1, 60)), max_size=6).map(
        lambda runs: "".join(unit * times for unit, times in runs)
    ),
)


@given(sequence=DRAWN)
@settings(max_examples=300, deadline=None)
def test_every_size_of_vocabulary(sized, sequence):
    bpe, encoder = sized
    assert encoder.encode(sequence).tolist() == bpe.encode(sequence).ids


@given(data=st.data(), corpus=st.lists(st.text("ACG", min_size=2, max_size=40), min_size=1, max_size=6), few=st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_merges_a_trainer_makes(data, corpus, few):
    """Tiny corpora give tables full of ties and overlaps (aa + a, ab + ab). Pairs worked out in advance or not."""
    bpe = trained(DNA, corpus, data.draw(st.integers(len(DNA.letters) + 1, 70)), data.draw(st.integers(3, 17)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "NEAR_PIECES", 8 if few else 4096)
        encoder = encoder_of(bpe, DNA)
    sequence = data.draw(st.lists(st.sampled_from([*corpus, "A", "C", "G"]), max_size=20).map("".join))
    assert encoder.encode(sequence).tolist() == bpe.encode(sequence).ids


def test_few_pairs_in_advance_or_all(sized, monkeypatch):
    bpe, encoder = sized
    monkeypatch.setattr(bulk, "NEAR_PIECES", 20)
    other = encoder_of(bpe, DNA)
    sequence = letters("ACGT", 50_000, 1) + "A" * 1003 + "CA" * 900
    assert np.array_equal(other.encode(sequence), encoder.encode(sequence))


def test_long_runs_step_back_in_linear_time(sized):
    """A run whose end decides over its beginning: every position is left at most once."""
    bpe, encoder = sized
    for length in (*range(1, 70), 1000, 1001, 1013):
        assert encoder.encode("A" * length).tolist() == bpe.encode("A" * length).ids
    assert encoder.letters_of[encoder.encode("A" * 3_000_001)].sum() == 3_000_001


@MODALITIES
def test_ids_equal_the_public_tokenizer(family, encoders, alphabet):
    """Either case, IUPAC letters, U in RNA."""
    extended, encoder = family[1], encoders[alphabet.name]
    all_letters = alphabet.letters + "".join(alphabet.synonyms)
    draw = random.Random(1)
    sequences = ["", all_letters, all_letters.lower(), *all_letters]
    sequences += ["".join(draw.choices(all_letters + all_letters.lower(), k=draw.randrange(300))) for _ in range(30)]
    sequences += ["".join(draw.choices(all_letters[:4], k=draw.randrange(300))) for _ in range(30)]
    for sequence in sequences:
        public = extended.encode(f"{alphabet.open_tag}{sequence}{alphabet.close_tag}", add_special_tokens=False)
        assert encoder.wrapped(sequence).tolist() == public.ids
    many = encoder.encode_many([sequence.encode() for sequence in sequences])
    assert [ids.tolist() for ids in many] == [encoder.encode(sequence).tolist() for sequence in sequences]
    assert [int(encoder.letters_of[ids].sum()) for ids in many] == [len(sequence) for sequence in sequences]
    assert many[0].dtype == np.uint32


def test_many_sequences_in_several_batches(encoders, monkeypatch):
    sequences = [letters("ACGT", size, size) for size in range(120)]
    wanted = [encoders["dna"].encode(sequence).tolist() for sequence in sequences]
    monkeypatch.setattr(bulk, "BATCH_LETTERS", 100)
    assert [ids.tolist() for ids in encoders["dna"].encode_many(sequences)] == wanted
    assert encoders["dna"].encode_many([]) == []


def test_a_folder_is_read_as_auto_tokenizer_reads_it(extended_folder):
    public = AutoTokenizer.from_pretrained(extended_folder)
    for name, encoder in read_encoders(extended_folder).items():
        sequence = letters(ALPHABETS[name].letters, 400, 7)
        assert encoder.wrapped(sequence).tolist() == public(f"<{name}>{sequence}</{name}>", add_special_tokens=False)["input_ids"]
    (only,) = read_encoders(extended_folder / "tokenizer.json", ["protein"])
    assert only == "protein"


@pytest.mark.parametrize("bad", ["\n", " ", "!", "-", "\0", "é", "U"])
def test_anything_but_letters_is_refused_with_its_position(encoders, bad):
    with pytest.raises(UserError, match="at position 5 is not a dna letter"):
        encoders["dna"].encode(f"ACGT{bad}ACGT")
    with pytest.raises(UserError, match=r"sequence 2: .* at position 3 is not a dna letter"):
        encoders["dna"].encode_many(["ACGT", f"AC{bad}", "A"])


def test_tables_that_no_trainer_makes_are_refused():
    letters_only = {letter: place for place, letter in enumerate(DNA.letters)}

    def build(*merges: tuple[str, str], more: tuple[str, ...] = ()) -> GeneEncoder:
        pieces = {piece: 100 + i for i, piece in enumerate([*("".join(merge) for merge in merges), *more])}
        return GeneEncoder(DNA, letters_only | pieces, merges, (0, 0))

    build(("A", "C"), ("AC", "G"))
    with pytest.raises(UserError, match="two merges make the dna piece 'ACG'"):
        build(("A", "C"), ("C", "G"), ("A", "CG"), ("AC", "G"))
    with pytest.raises(UserError, match="'ACG' is merged from 'AC' before"):
        build(("AC", "G"), ("A", "C"))
    with pytest.raises(UserError, match="no merge makes the dna piece 'GATTACA'"):
        build(("A", "C"), more=("GATTACA",))
    with pytest.raises(UserError, match="piece 'ACG' is never reached"):
        build(("A", "C"), ("C", "G"), ("A", "CG"))
    with pytest.raises(UserError, match="no piece for ACGT"):
        GeneEncoder(DNA, dict.fromkeys(DNA.letters[4:], 1), [], (0, 0))


def test_tokenizers_without_private_alphabets_are_refused(byte_level_base, dna_bpe, protein_bpe, tmp_path):
    for plain in (byte_level_base.tokenizer, dna_bpe):
        with pytest.raises(UserError, match="no private alphabet"):
            read_encoders(plain)
    with pytest.raises(UserError, match="no such tokenizer"):
        read_encoders(tmp_path)
    for genes, why in (
        ((dna_bpe, protein_bpe), "no merge makes the protein piece"),
        ((dna_bpe, vocabulary_of(PROTEIN, 2)), "not all 2-mers"),
    ):
        document = json.loads(extend(byte_level_base, *genes)[0].to_str())
        document["model"]["merges"] = document["model"]["merges"][:-20]
        with pytest.raises(UserError, match=why):
            read_encoders(Tokenizer.from_str(json.dumps(document)))


@pytest.mark.parametrize("kind", ["bpe", "kmers"])
def test_a_tokenizer_that_cuts_spans_is_refused(byte_level_base, dna_bpe, protein_bpe, kind):
    """Its pieces are those of a gene BPE, but a word ends before each A: its own ids are others."""
    odd, *_ = extend(byte_level_base, dna_bpe if kind == "bpe" else vocabulary_of(DNA, 5), protein_bpe)
    (private,) = odd.normalizer.normalize_str("<dna>A</dna>").removeprefix("<dna>").removesuffix("</dna>")
    odd.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(private, "merged_with_next"), odd.pre_tokenizer])
    with pytest.raises(UserError, match="does not encode dna by its gene BPE alone"):
        read_encoders(odd)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


@given(
    text=st.one_of(TEXT, st.lists(st.sampled_from(["<dna>ACGT</dna>", "<rna>", "ACGU", "</s>", "\U000f0041", " the ", "\n"])).map("".join))
)
@settings(max_examples=300, deadline=None)
def test_text_without_tags_needs_no_gene_normalizer(family, texts_of, text):
    if not MAY_HOLD_SPANS.search(text):
        assert texts_of.encode(text, add_special_tokens=False).ids == family[1].encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def texts_of(family) -> Tokenizer:
    return text_tokenizer(family[1])


def test_text_tokenizer_on_prose(family, texts_of):
    lines = [*english(300, 4), "  two  blanks", "", "基因 CAT\n\nGATTACA", "x > y, [INST]"]
    assert not any(map(MAY_HOLD_SPANS.search, lines))
    one, two = (t.encode_batch(lines, add_special_tokens=False) for t in (family[1], texts_of))
    assert [e.ids for e in one] == [e.ids for e in two]
    assert [e.offsets for e in one] == [e.offsets for e in two]
    assert len(texts_of.to_str()) < len(family[1].to_str())


def test_a_normalizer_that_may_make_a_tag_is_kept(family):
    odd = Tokenizer.from_str(family[1].to_str())
    odd.normalizer = normalizers.Sequence([normalizers.NFKC(), odd.normalizer])
    assert text_tokenizer(odd) is odd  # NFKC writes the full-width '＜' as '<'


@pytest.mark.shared
@pytest.mark.parametrize("pieces", [4096, 30_000])
def test_real_genomes_and_proteins(shared_data, pieces):
    def read(name: str, alphabet: Alphabet, most: int) -> str:
        return "".join(s.letters for s in itertools.islice(read_sequences(shared_data / name, alphabet, Ledger()), 4000))[:most]

    for alphabet, name in ((DNA, "genomes/human_hg19_chr4_103-105M.fa"), (PROTEIN, "proteins/swissprot_human_noexp_cafa.faa")):
        sequence = read(name, alphabet, 500_000)
        windows = [sequence[i : i + 512] for i in range(0, len(sequence), 512)]
        bpe = trained(alphabet, windows, pieces, 13)
        held_out = sequence[-10_000:] + letters(alphabet.letters, 1000, 1)
        encoder = encoder_of(bpe, alphabet)
        assert encoder.encode(held_out).tolist() == bpe.encode(held_out).ids
        cuts = [sequence[i : i + 2000] for i in range(0, 200_000, 2000)]
        assert [ids.tolist() for ids in encoder.encode_many(cuts)] == [encoding.ids for encoding in bpe.encode_batch(cuts)]


@pytest.mark.shared
def test_the_real_mistral_vocabulary(shared_data, dna_bpe, protein_bpe):
    from tokenizer.base import from_sentencepiece

    extended, _, _ = extend(from_sentencepiece(shared_data / "tokenizers" / "mistral_tokenizer.model.v1", {}), dna_bpe, protein_bpe)
    sequence = letters("ACGTN", 5000, 2)
    assert read_encoders(extended, ["dna"])["dna"].wrapped(sequence).tolist() == extended.encode(f"<dna>{sequence}</dna>").ids[1:]
    with gzip.open(shared_data / "text" / "openstax_concepts_biology.jsonl.gz", "rt", encoding="utf-8") as handle:
        lines = [line for record in itertools.islice(handle, 40) for line in json.loads(record)["text"].splitlines()][:1500]
    lines = [line for line in lines if not MAY_HOLD_SPANS.search(line)]
    one, two = (t.encode_batch(lines, add_special_tokens=False) for t in (extended, text_tokenizer(extended)))
    assert lines
    assert [e.ids for e in one] == [e.ids for e in two]


def test_a_refusal_names_the_record_in_the_whole_list(monkeypatch, dna_bpe, protein_bpe, byte_level_base):
    extended, _, _ = extend(byte_level_base, dna_bpe, protein_bpe)
    encoder = read_encoders(extended, ["dna"])["dna"]
    monkeypatch.setattr(bulk, "BATCH_LETTERS", 8)
    with pytest.raises(UserError, match="sequence 5: '!' at position 3"):
        encoder.encode_many(["ACGT", "ACGTACGT", "A", "CC", "AC!T", "A"])
