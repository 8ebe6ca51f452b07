"""Encoding text word by word gives the ids that the tokenizer gives the whole text."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples import english
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from tokenizer.bpe import words
from tokenizer.bpe.words import LLAMA3, PATTERNS, WORD, WordEncoder, read_word_encoder
from tokenizer.vocabulary import extend

BITS = [
    "the", "Gene", "don't", "WE'RE", "'s", "'ſ", "x", "12", "3456", "0.05", "B12", "12h", "café", "étude", "²³", "基因", "αβ", "e\u0301",
    " ", "  ", "\n", "\n\n", " \n", "\r\n", "\t", "\u00a0", "\u2003", "\x1c", "\x85", ".", ",", ");", "(", "-", "'", '"', "://", "%",
    "<", ">", "▁", "[INST]", "</s>", "<dna>ACGT</dna>", "<protein>", "</dna>", "\U000f0041", "<|eot_id|>", "\0", "😀",
]  # fmt: skip
TEXT = st.one_of(
    st.lists(st.sampled_from(BITS), max_size=12).map("".join),
    st.lists(st.sampled_from(BITS), max_size=12).map(" ".join),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=40),
)


@pytest.fixture(scope="module")
def tokenizer(family) -> Tokenizer:
    return family[1]


@pytest.fixture(scope="module")
def encoder(tokenizer) -> WordEncoder:
    found = read_word_encoder(tokenizer)
    assert found is not None
    return found


@given(texts=st.lists(TEXT, max_size=4))
@example(texts=["12h \n", "12hé \n", "word \n", " \n", "", "don't, I'ſay", "1 é", "a  b", "\u00a0 x"])
@settings(max_examples=600, deadline=None)
def test_words_give_the_ids_of_the_whole(tokenizer, encoder, texts):
    found = encoder.encode_many(texts)
    assert [ids.tolist() for ids in found] == [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


@given(text=TEXT)
def test_words_put_together_are_the_text(text):
    assert "".join(WORD.findall(text)) == text
    assert all(WORD.findall(text))


@pytest.mark.parametrize("use", ["Qwen 2's pattern", "GPT-2's, built in"])
def test_other_patterns_that_keep_words_apart(byte_level_base, use):
    tokenizer = Tokenizer.from_str(byte_level_base.tokenizer.to_str())
    document = json.loads(tokenizer.to_str())
    document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = PATTERNS[1]
    if use != "Qwen 2's pattern":
        document["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = Tokenizer.from_str(json.dumps(document))
    encoder = read_word_encoder(tokenizer)
    assert encoder is not None
    texts = [" ".join(BITS), "".join(BITS), *english(200, 5)]
    assert [ids.tolist() for ids in encoder.encode_many(texts)] == [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def test_the_table_begins_anew(monkeypatch, tokenizer):
    monkeypatch.setattr(words, "MOST_WORDS", 50)
    monkeypatch.setattr(words, "LONGEST_TEXT", 20)
    encoder = read_word_encoder(tokenizer)
    assert encoder is not None
    for text in english(100, 6):
        assert encoder.encode_many([text])[0].tolist() == tokenizer.encode(text, add_special_tokens=False).ids
        assert len(encoder._words) < 50 + len(text)


def _changed(tokenizer: Tokenizer, change) -> Tokenizer:
    document = json.loads(tokenizer.to_str())
    change(document)
    return Tokenizer.from_str(json.dumps(document))


def test_tokenizers_that_may_reach_over_blanks_are_left_alone(byte_level_base, sentencepiece_base):
    llama3, llama2 = byte_level_base.tokenizer, sentencepiece_base.tokenizer
    assert read_word_encoder(llama3)
    assert read_word_encoder(llama2)

    def other_pattern(document):
        document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = LLAMA3.replace("{1,3}", "{1,3} ?")

    def merge_over_a_blank(document):
        vocab, merges = document["model"]["vocab"], document["model"]["merges"]
        vocab["e▁"] = max(vocab.values()) + 1
        merges.append(["e", "▁"])

    assert read_word_encoder(_changed(llama3, other_pattern)) is None
    assert read_word_encoder(_changed(llama3, lambda document: document["model"].update(dropout=0.1))) is None
    assert read_word_encoder(_changed(llama2, merge_over_a_blank)) is None
    assert read_word_encoder(_changed(llama2, lambda document: document["model"].update(ignore_merges=True))) is None
    folded = Tokenizer.from_str(llama3.to_str())
    folded.normalizer = normalizers.NFKC()
    assert read_word_encoder(folded) is None
    split = Tokenizer.from_str(llama2.to_str())
    split.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    assert read_word_encoder(split) is None
    added = Tokenizer.from_str(llama3.to_str())
    added.add_tokens([AddedToken("in vitro", normalized=True)])
    assert read_word_encoder(added) is None


@pytest.mark.shared
@pytest.mark.parametrize("model", ["mistral_tokenizer.model.v1", "mistral_tokenizer.model.v3"])
def test_real_text_on_real_vocabularies(shared_data, dna_bpe, protein_bpe, model):
    from tokenizer.base import from_sentencepiece

    extended, _, _ = extend(from_sentencepiece(shared_data / "tokenizers" / model, {}), dna_bpe, protein_bpe)
    encoder = read_word_encoder(extended)
    assert encoder is not None
    for file in ("openstax_concepts_biology.jsonl.gz", "pmc_ccby_evidence_inference.jsonl.gz"):
        with gzip.open(shared_data / "text" / file, "rt", encoding="utf-8") as handle:
            texts = [json.loads(line)["text"] for line, _ in zip(handle, range(40), strict=False)]
        whole = [encoding.ids for encoding in extended.encode_batch_fast(texts, add_special_tokens=False)]
        assert [ids.tolist() for ids in encoder.encode_many(texts)] == whole
