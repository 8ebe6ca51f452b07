"""The mapping outside the tokenizer, and the normalizer-free tokenizer it is for: the same ids, for both base families.

Truths: the normalizer itself, the extended tokenizer's ids, and the sentencepiece library, whose algorithm llama.cpp's is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import english, letters
from tokenizers import AddedToken, Tokenizer, models, normalizers
from transformers import AutoTokenizer

from artefacts.errors import UserError
from sequences.alphabets import NUCLEOTIDES, RESIDUES, TAGS
from sequences.spans import spans
from tokenizer.base import BYTE_LEVEL, Base, from_sentencepiece
from tokenizer.gguf import Gguf, export_for_gguf
from tokenizer.premap import Premap, read_premap
from tokenizer.saving import save_tokenizer
from tokenizer.vocabulary import PAD, extend

SPECIAL = {"byte-level": ["<|eot_id|>", "<|begin_of_text|>", PAD], "sentencepiece": ["<s>", "</s>", "<unk>", PAD]}
WORDS = [*TAGS, "ACGT", "acgUN", "MKUO*", "Uu", "see ", " is", "<", ">", "dna", "\u212a", "ſ", "基因", "🧬"]  # U+212A lowers to k
BLANKS = [" ", "  ", "\n", "\r\n", "\n\n \n", "\t", "\x0b", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000"]
PROSE = st.text(st.characters(exclude_categories=("Cs", "Co")), max_size=20)
SEQUENCE = st.text(NUCLEOTIDES + NUCLEOTIDES.lower() + "Uu", max_size=30) | st.text(RESIDUES + RESIDUES.lower(), max_size=30)
MOSAIC = st.lists(st.sampled_from(WORDS) | st.sampled_from(BLANKS) | SEQUENCE | PROSE, max_size=12).map("".join)
SPAN = st.sampled_from(["dna", "rna", "protein"]).flatmap(
    lambda tag: st.text(RESIDUES if tag == "protein" else "ACGTNacgt", max_size=60).map(lambda run: f"<{tag}>{run}</{tag}>")
)
SPANS_IN_PROSE = st.lists(PROSE | SPAN, max_size=8).map("".join)


@dataclass
class Exported:
    base: Base
    extended: Tokenizer
    folder: Path
    """What `export_for_gguf` wrote."""

    def __post_init__(self) -> None:
        self.plain = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.premap = read_premap(self.extended)


def export(base: Base, dna: Tokenizer, protein: Tokenizer, folder: Path, model: Path | None) -> Exported:
    extended, _, _ = extend(base, dna, protein)
    (folder / "extended").mkdir()
    save_tokenizer(extended, folder / "extended", base.family, {**base.config, "pad_token": PAD})
    (folder / "extended" / "config.json").write_text("{}")
    export_for_gguf(Gguf(model=folder / "extended", out=folder / "gguf", sentencepiece_model=model))
    return Exported(base, extended, folder / "gguf")


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def exported(request, byte_level_base, sentencepiece_base, sentencepiece_file, genes, tmp_path_factory) -> Exported:
    base = byte_level_base if request.param == "byte-level" else sentencepiece_base
    return export(base, *genes, tmp_path_factory.mktemp(request.param), sentencepiece_file)


@pytest.fixture(scope="module")
def small_spm(sentencepiece_base, sentencepiece_file, dna_bpe, protein_bpe, tmp_path_factory) -> Exported:
    return export(sentencepiece_base, dna_bpe, protein_bpe, tmp_path_factory.mktemp("spm"), sentencepiece_file)


@pytest.fixture(scope="module")
def byte_level(byte_level_base, dna_bpe, protein_bpe, tmp_path_factory) -> Exported:
    return export(byte_level_base, dna_bpe, protein_bpe, tmp_path_factory.mktemp("bytes"), None)


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@given(text=MOSAIC)
@settings(max_examples=500, deadline=None)
def test_the_map_is_the_normalizer(exported, text):
    """But for the leading blank, which a pre-tokenizer puts."""
    assert replace(exported.premap, leading=None).map(text) == exported.extended.normalizer.normalize_str(text)


@given(text=MOSAIC)
@settings(max_examples=500, deadline=None)
def test_spans_tells_what_the_normalizer_maps(exported, text):
    """`sequences.spans` is the same rule a third time, for people: letters of mapped spans change, and nothing else but marks of blocks."""
    found, end = [], 0
    for span in spans(text):
        if span.mapped:
            private = exported.premap.residues if span.alphabet.name == "protein" else exported.premap.nucleotides
            letters = (span.alphabet.synonyms.get(one.upper(), one.upper()) for one in text[span.start : span.end])
            found += [text[end : span.start], *(private.get(letter, letter) for letter in letters)]
            end = span.end
    assert "".join(found) + text[end:] == replace(exported.premap, leading=None, blocks=()).map(text)


@given(data=st.data())
@settings(max_examples=500, deadline=None)
def test_mapped_text_has_the_same_ids_without_a_normalizer(exported, data):
    """Special tokens among the text included: a span ends at one, as at the end of the text."""
    special = st.sampled_from(SPECIAL[exported.base.family])
    text = "".join(data.draw(st.lists(special | MOSAIC, max_size=4)))
    assert ids(exported.plain, exported.premap.map(text)) == ids(exported.extended, text)


@given(spans=st.lists(SPAN, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_unmap_gives_the_letters_back(exported, spans):
    text = "".join(spans)
    mapped = exported.premap.map(text)
    assert exported.premap.unmap(mapped) == "".join(upper_inside(span) for span in spans)
    assert exported.premap.map(mapped) == mapped, "mapping twice is mapping once"


def upper_inside(span: str) -> str:
    opening, rest = span.split(">", 1)
    sequence, closing = rest.split("<", 1)
    return f"{opening}>{sequence.upper()}<{closing}"


def test_every_kind_of_source(exported):
    text = "see <rna>ACgu</rna>"
    extended = exported.folder.parent / "extended"
    mapped = {read_premap(source).map(text) for source in (extended, extended / "tokenizer.json", exported.extended)}
    assert len(mapped) == 1
    assert read_premap(extended).unmap(mapped.pop()).endswith("see <rna>ACGT</rna>")


def test_the_exported_folder(exported):
    """No normalizer; AutoTokenizer reads the same ids; tags are plain tokens; other files came along."""
    document = json.loads((exported.folder / "tokenizer.json").read_text())
    assert document["normalizer"] is None
    assert {token["content"] for token in document["added_tokens"] if not token["special"]} == set(TAGS)
    assert (exported.folder / "config.json").read_text() == "{}"
    loaded = AutoTokenizer.from_pretrained(exported.folder)
    for text in [*english(40), f"a <dna>{letters('ACGT', 300, 1)}</dna> b <protein>MKWV*</protein>", "<dna>AC"]:
        mapped = exported.premap.map(text)
        assert loaded(mapped, add_special_tokens=False)["input_ids"] == ids(exported.extended, text)
        assert exported.premap.unmap(loaded.decode(ids(exported.extended, text))) == text
    probe = "\n \n\n 🚀 (normal) 3333 'LL"  # converters recognise a byte-level base by the ids of such a text, not mapped by anyone
    mapped = probe if exported.base.family == BYTE_LEVEL else exported.premap.map(probe)
    assert loaded(mapped)["input_ids"] == exported.base.tokenizer.encode(probe).ids


@given(text=SPANS_IN_PROSE, line_break=st.sampled_from(["\n", "\r\n", "\n\n", " ", "\t"]))
@settings(max_examples=300, deadline=None)
def test_the_bases_own_split_pattern_is_enough(byte_level, text, line_break):
    """llama.cpp has Llama 3's pattern and not our split before it. Line breaks and single blanks inside spans do not matter."""
    text += f"<dna>ACGTAC{line_break}GTAC{line_break}</dna> <protein>{line_break}MKV{line_break}L</protein>"
    plain = Tokenizer.from_str(byte_level.plain.to_str())
    plain.pre_tokenizer = byte_level.base.tokenizer.pre_tokenizer
    assert ids(plain, byte_level.premap.map(text)) == ids(byte_level.extended, text)


@given(text=SPANS_IN_PROSE.filter(lambda text: "\0" not in text))
@settings(max_examples=300, deadline=None)
def test_the_sentencepiece_library_gives_the_same_ids(small_spm, text):
    library = sentencepiece.SentencePieceProcessor(str(small_spm.folder / "tokenizer.model"))
    assert library.encode(small_spm.premap.map(text)) == ids(small_spm.extended, text)


def test_long_spans_and_every_piece_in_the_sentencepiece_library(small_spm):
    library = sentencepiece.SentencePieceProcessor(str(small_spm.folder / "tokenizer.model"))
    assert library.vocab_size() == small_spm.extended.get_vocab_size()
    vocabulary = small_spm.extended.get_vocab()
    assert all(library.piece_to_id(token) == index for token, index in vocabulary.items())
    for seed in range(5):
        text = f"see <dna>{letters('ACGT', 20_000, seed)}</dna> and <protein>{letters(RESIDUES, 5_000, seed)}</protein>"
        assert library.encode(small_spm.premap.map(text)) == ids(small_spm.extended, text)


def test_a_folder_that_is_not_extended_is_refused(byte_level, tmp_path):
    byte_level.base.tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="no private alphabets"):
        read_premap(tmp_path)
    with pytest.raises(UserError, match="no private alphabets"):
        read_premap(byte_level.folder)
    with pytest.raises(UserError, match="no such tokenizer"):
        read_premap(tmp_path / "nothing")


def test_a_base_with_its_own_normalizer_is_refused(byte_level, dna_bpe, protein_bpe):
    base = Base(Tokenizer.from_str(byte_level.base.tokenizer.to_str()), BYTE_LEVEL)
    base.tokenizer.normalizer = normalizers.NFC()
    with pytest.raises(UserError, match="NFC"):
        read_premap(extend(base, dna_bpe, protein_bpe)[0])


def test_sentencepiece_export_needs_the_right_model(small_spm, sentencepiece_file, tmp_path):
    extended = small_spm.folder.parent / "extended"
    with pytest.raises(UserError, match=r"no such file; a SentencePiece base needs its own tokenizer\.model"):
        export_for_gguf(Gguf(model=extended, out=tmp_path / "out"))
    other = tmp_path / "other.model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(english(400, 9)), model_prefix=str(other.with_suffix("")), model_type="bpe", vocab_size=420,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    with pytest.raises(UserError, match="not the model that this tokenizer was extended from"):
        export_for_gguf(Gguf(model=extended, out=tmp_path / "out", sentencepiece_model=other))
    document = json.loads((extended / "tokenizer.json").read_text())
    document["model"]["merges"].insert(0, document["model"]["merges"].pop(20))
    (tmp_path / "by_id").mkdir()
    (tmp_path / "by_id" / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="its scores order"):
        export_for_gguf(Gguf(model=tmp_path / "by_id", out=tmp_path / "out", sentencepiece_model=sentencepiece_file))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="already exists"):
        export_for_gguf(Gguf(model=extended, out=small_spm.folder))


@pytest.mark.parametrize(
    ("merges", "words"),
    [
        ([("A", "C"), ("C", "G"), ("AC", "G"), ("A", "CG")], "two merges make the gene piece 'ACG'"),
        ([("A", "C"), ("C", "G"), ("A", "CG")], "'ACG' is never reached"),
    ],
)
def test_gene_bpes_that_scores_cannot_express_are_refused(sentencepiece_base, sentencepiece_file, protein_bpe, tmp_path, merges, words):
    pieces = [*NUCLEOTIDES, *dict.fromkeys(left + right for left, right in merges)]
    dna = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    with pytest.raises(UserError, match=words):
        export(sentencepiece_base, dna, protein_bpe, tmp_path, sentencepiece_file)


@pytest.mark.shared
@pytest.mark.parametrize("version", ["v1", "v3"])
def test_the_real_mistral_model(shared_data, dna_bpe, protein_bpe, tmp_path, version):
    """The exported `tokenizer.model` in the sentencepiece library: real text and real sequences, the ids of ours."""
    import gzip

    from artefacts.errors import Ledger
    from sequences.alphabets import DNA, PROTEIN
    from sequences.readers import read_sequences

    path = shared_data / "tokenizers" / f"mistral_tokenizer.model.{version}"
    real = export(from_sentencepiece(path, {}), dna_bpe, protein_bpe, tmp_path, path)
    library = sentencepiece.SentencePieceProcessor(str(real.folder / "tokenizer.model"))
    with gzip.open(shared_data / "text" / "openstax_concepts_biology.jsonl.gz", "rt", encoding="utf-8") as handle:
        lines = [line for record in handle for line in json.loads(record)["text"].splitlines()][:2000]
    genome = next(read_sequences(shared_data / "genomes" / "lambda_phage_NC_001416.fa", DNA, Ledger())).letters
    protein = next(read_sequences(shared_data / "proteins" / "ecoli_K12_refseq_proteins.faa", PROTEIN, Ledger())).letters
    texts = [f"{line}<dna>{genome[20 * i : 20 * i + 200]}</dna>{line} <protein>{protein}</protein>" for i, line in enumerate(lines)]
    texts = [*texts[:1000], *lines, f"<dna>{genome}</dna>"]
    wanted = [encoding.ids for encoding in real.extended.encode_batch(texts, add_special_tokens=False)]
    assert [library.encode(real.premap.map(text)) for text in texts] == wanted


def test_premap_is_a_plain_value():
    """Usable where `tokenizers` is not installed: the alphabets are data."""
    tiny = Premap({"A": "\U0010a001", "T": "\U0010a002"}, {}, ("<s>",), None)
    assert tiny.unmap("x\U0010a001\U0010a002") == "xAT"


def test_tokens_that_must_be_whole_words_are_refused(byte_level_base, dna_bpe, protein_bpe):
    extended, _, _ = extend(byte_level_base, dna_bpe, protein_bpe)
    extended.add_special_tokens([AddedToken("word", single_word=True)])
    with pytest.raises(UserError, match="word of its own"):
        read_premap(extended)
