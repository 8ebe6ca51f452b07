"""Packing: no letter and no token lost, no document across two blocks, the same bytes for the same recipe."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from artefacts.errors import UserError
from artefacts.folder import fingerprint, read_manifest
from artefacts.recipe import load
from data_convert.corpus.blocks import best_fit_decreasing
from data_convert.corpus.documents import Document
from data_convert.corpus.encode import Encoder
from data_convert.corpus.pack import PackRecipe, Source, pack
from data_convert.corpus.shards import load_shards, tokenizer_fingerprint
from sequences.alphabets import ALPHABETS, RESIDUES, reverse_complement

TAGS = [tag for alphabet in ALPHABETS.values() for tag in (alphabet.open_tag, alphabet.close_tag)]
BLOCK = 64


def save_tokenizer(folder: Path, tags: list[str], **names: str) -> Path:
    """A byte-level BPE with the tags as special tokens: what an extended tokenizer looks like from outside."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    draw = random.Random(0)
    corpus = ["".join(draw.choices("ACGT", k=200)) for _ in range(40)] + ["the gene binds the protein of the cell"] * 20
    bpe.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    )
    bpe.add_special_tokens([AddedToken(token, special=True) for token in ("<s>", "</s>", *tags)])
    PreTrainedTokenizerFast(tokenizer_object=bpe, **names).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"), TAGS, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(1)
    (folder / "g.fa").write_text(">chr1\n" + "".join(draw.choices("ACGT", k=6000)) + "\n>chr2\n" + "N" * 500 + "\n")
    proteins = ["".join(draw.choices(RESIDUES[:20], k=draw.randint(5, 150))) for _ in range(60)]
    (folder / "p.faa").write_text("".join(f">p{i}\n{p}\n" for i, p in enumerate([*proteins, proteins[0]])))
    texts = [" ".join(draw.choices(["the", "gene", "binds", "protéine", "cell"], k=draw.randint(3, 200))) for _ in range(40)]
    (folder / "t.jsonl").write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate([*texts, "a </s> b"])))
    return folder


def recipe(tokenizer: Path, corpus: Path, out: Path, **changes) -> PackRecipe:
    sources = [
        Source(modality="dna", files=[corpus / "g.fa"], window=150, heldout_share=0.2),
        Source(modality="protein", files=[corpus / "p.faa"], heldout_share=0.2),
        Source(modality="text", files=[corpus / "t.jsonl"], heldout_share=0.2),
    ]
    return PackRecipe(**{"tokenizer": tokenizer, "out": out, "block_tokens": BLOCK, "sources": sources, **changes})


@pytest.fixture(scope="module")
def packed(tokenizer, corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "shards"
    pack(recipe(tokenizer, corpus, out))
    return out


def documents(folder: Path, split: str) -> list[tuple[str, list[int], int]]:
    """(modality, ids, letters) of every document in the shards; checks the form of every row on the way."""
    found = []
    for row in load_shards(folder, split):
        assert len(row["input_ids"]) == BLOCK
        assert len(row["letters"]) == len(row["seq_lengths"])
        assert 0 < sum(row["seq_lengths"]) <= BLOCK
        ends = list(itertools.accumulate(row["seq_lengths"]))
        for start, end, letters in zip([0, *ends], ends, row["letters"], strict=False):
            found.append((row["modality"], row["input_ids"][start:end], letters))
        assert set(row["input_ids"][ends[-1] :]) <= {load_ids(folder)["</s>"]}
    return found


def load_ids(folder: Path) -> dict[str, int]:
    path = Path(read_manifest(folder, "shards")["recipe"]["tokenizer"])
    return Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab()


@given(lengths=st.lists(st.integers(1, 50), max_size=80), capacity=st.integers(50, 70))
def test_best_fit_decreasing(lengths, capacity):
    blocks = best_fit_decreasing(lengths, capacity)
    assert sorted(i for block in blocks for i in block) == list(range(len(lengths)))  # nothing lost, nothing twice, nothing split
    fills = [sum(lengths[i] for i in block) for block in blocks]
    assert all(0 < fill <= capacity for fill in fills)
    # No two blocks could have been one, so all but one are more than half full.
    assert sum(fill <= capacity / 2 for fill in fills) <= 1


def test_best_fit_takes_the_tightest_block():
    assert best_fit_decreasing([6, 3, 5, 4, 2], 10) == [[0, 3], [2, 1, 4]]
    with pytest.raises(ValueError, match=r"1\.\.10"):
        best_fit_decreasing([11], 10)


def test_every_row_and_every_document(packed, corpus, tokenizer):
    plain = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    ids = plain.get_vocab()
    total = {}
    for split in ("train", "heldout"):
        for modality, tokens, letters in documents(packed, split):
            assert (tokens[0], tokens[-1]) == (ids["<s>"], ids["</s>"])
            inner = tokens[1:-1]
            if modality != "text":
                assert (inner[0], inner[-1]) == (ids[f"<{modality}>"], ids[f"</{modality}>"])
                assert len(plain.decode(inner[1:-1])) == letters
            assert not {ids["<s>"], ids["</s>"]} & set(inner)
            total[modality] = total.get(modality, 0) + letters
    assert total["dna"] == 6000  # the N-only record is set aside
    unique = {line for line in (corpus / "p.faa").read_text().split("\n") if line and line[0] != ">"}
    assert total["protein"] == sum(map(len, unique))
    texts = [json.loads(line)["text"] for line in (corpus / "t.jsonl").read_text().splitlines()]
    assert total["text"] == sum(len(text.encode()) for text in texts if "</s>" not in text)


def test_counts_agree_with_the_rows(packed):
    counts = read_manifest(packed, "shards")["counts"]
    for split in ("train", "heldout"):
        found = documents(packed, split)
        rows = load_shards(packed, split)["modality"]
        for modality in ("dna", "protein", "text"):
            mine = [(len(ids), letters) for kind, ids, letters in found if kind == modality]
            said = counts[split][modality]
            assert (said["fragments"], said["tokens"], said["letters"]) == (len(mine), sum(t for t, _ in mine), sum(n for _, n in mine))
            assert said["blocks"] == list(rows).count(modality)
            assert said["padding_share"] == pytest.approx(1 - said["tokens"] / (said["blocks"] * BLOCK), abs=1e-4)
    dna, protein, text = counts["sources"]
    assert dna["documents"]["reasons"] == {"more than 0.1 of its letters are N": 4}
    assert protein["documents"]["reasons"] == {"exact duplicate": 1}
    assert sum(text[split]["reasons"].get("spells a special token of the tokenizer", 0) for split in ("train", "heldout")) == 1


def test_modalities_are_shuffled_together(packed):
    order = list(load_shards(packed, "train")["modality"])
    assert len(list(itertools.groupby(order))) > 6


def test_train_and_held_out_share_no_document(packed):
    train, heldout = ({tuple(ids) for _, ids, _ in documents(packed, split)} for split in ("train", "heldout"))
    assert train
    assert heldout
    assert not train & heldout


def test_same_recipe_same_bytes(packed, tokenizer, corpus, tmp_path):
    pack(recipe(tokenizer, corpus, tmp_path / "again"))
    pack(recipe(tokenizer, corpus, tmp_path / "other", seed=1))
    assert fingerprint(tmp_path / "again") == fingerprint(packed)
    again, other = (load_shards(tmp_path / name, "train")["input_ids"] for name in ("again", "other"))
    assert list(again) == list(load_shards(packed, "train")["input_ids"])
    assert list(other) != list(again)


@given(letters=st.text("ACGTN", min_size=1, max_size=600), block=st.integers(16, 40))
@settings(max_examples=60, deadline=None)
def test_long_sequences_are_cut_without_loss(tokenizer, letters, block):
    check_fragments(tokenizer, Document("x", "dna", letters), block)


@given(text=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="<>"), min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_long_texts_are_cut_between_characters(tokenizer, text):
    check_fragments(tokenizer, Document("x", "text", text), 16)


def check_fragments(tokenizer: Path, document: Document, block: int) -> None:
    plain = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    encoder = Encoder(tokenizer, {"dna", "protein"}, block)
    (fragments,) = encoder.encode([document])
    assert fragments
    spelt = ""
    for fragment in fragments:
        assert len(fragment.ids) <= block
        part = plain.decode(fragment.ids.tolist(), skip_special_tokens=False)
        for special in ("<s>", "</s>", f"<{document.modality}>", f"</{document.modality}>"):
            assert part.count(special) == (special in ("<s>", "</s>") or document.modality != "text")
            part = part.replace(special, "")
        assert fragment.letters == (len(part.encode()) if document.modality == "text" else len("".join(part.split())))
        spelt += part
    if document.modality != "text":
        spelt = "".join(spelt.split())
    assert spelt == document.letters


@pytest.mark.parametrize("modality", ["dna", "rna", "protein"])
def test_a_really_extended_tokenizer_is_cut_the_same_way(extended_folder, modality):
    """Private characters and zero-width replacements in its normalizer must not disturb the offsets."""
    letters = "".join(random.Random(2).choices(ALPHABETS[modality].letters, k=700))
    plain = Tokenizer.from_file(str(extended_folder / "tokenizer.json"))
    (fragments,) = Encoder(extended_folder, {"dna", "rna", "protein"}, BLOCK).encode([Document("x", modality, letters)])
    assert fragments is not None
    whole = [plain.decode(fragment.ids.tolist(), skip_special_tokens=True) for fragment in fragments]
    parts = [text.removeprefix(f"<{modality}>").removesuffix(f"</{modality}>") for text in whole]
    assert "".join(parts) == letters
    assert whole == [f"<{modality}>{part}</{modality}>" for part in parts], "tags are content"
    assert [fragment.letters for fragment in fragments] == [len(part) for part in parts]
    assert len(fragments) > 2


def test_fast_ways_give_the_public_ids(extended_folder, tokenizer, caplog):
    """One batch of everything, in order: sequences by the gene BPE itself, text with and without anything like a tag."""
    draw = random.Random(4)
    found = [
        Document(f"{modality}{i}", modality, "".join(draw.choices(alphabet.letters, k=draw.randrange(1, 400))))
        for i in range(5)
        for modality, alphabet in ALPHABETS.items()
    ]
    found += [Document("t", "text", text) for text in ("the gene GATTACA", "n < 5 and a <b>", "", "\U000f0041 x", "see <dna>AC</dna>", "é")]
    draw.shuffle(found)
    public = Tokenizer.from_file(str(extended_folder / "tokenizer.json"))
    encoder = Encoder(extended_folder, {"dna", "rna", "protein", "text"}, 512)
    assert not caplog.records
    special = set(public.get_added_tokens_decoder())
    for document, fragments in zip(found, encoder.encode(found), strict=True):
        ids = public.encode(document.wrapped, add_special_tokens=False).ids
        if document.modality == "text" and special & set(ids):
            assert fragments is None
            continue
        (fragment,) = fragments or []
        assert fragment.ids.tolist() == [*encoder.start, *ids, *encoder.end]
        assert fragment.ids.dtype == np.uint32
        assert fragment.letters == document.size
    Encoder(tokenizer, {"dna"}, 512)
    assert "sequences are encoded slowly" in caplog.text


def test_ids_beyond_16_bits_fit(tmp_path):
    vocab = {letter: i for i, letter in enumerate(RESIDUES)} | {f"filler{i}": i for i in range(len(RESIDUES), 70_000)}
    words = Tokenizer(models.WordLevel(vocab, unk_token="X"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    words.add_special_tokens(["</s>", *TAGS])
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>").save_pretrained(tmp_path / "wide")
    (tmp_path / "p.faa").write_text(">p\nMKLV\n")
    pack(
        PackRecipe(
            tokenizer=tmp_path / "wide",
            out=tmp_path / "out",
            block_tokens=16,
            sources=[Source(modality="protein", files=[tmp_path / "p.faa"], heldout_share=0)],
        )
    )
    shards = load_shards(tmp_path / "out", "train")
    (row,) = shards["input_ids"]
    assert row[:7] == [words.token_to_id(t) for t in ("<protein>", "M", "K", "L", "V", "</protein>", "</s>")]  # no BOS here
    assert row[0] > 65_535
    assert shards.features["input_ids"].feature.dtype == "uint32"
    with pytest.raises(UserError, match="no 'heldout' documents"):
        load_shards(tmp_path / "out", "heldout")


def test_budget_and_both_strands(tokenizer, corpus, tmp_path):
    source = Source(modality="dna", files=[corpus / "g.fa"], window=60, heldout_share=0.3, both_strands=True, max_tokens=900)
    counts = pack(recipe(tokenizer, corpus, tmp_path / "a", sources=[source]))
    assert 900 - BLOCK < counts["train"]["dna"]["tokens"] <= 900
    assert counts["sources"][0]["train"]["left_out_by_budget"] > 0
    counts = pack(recipe(tokenizer, corpus, tmp_path / "b", sources=[source.model_copy(update={"max_tokens": None})]))
    plain = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    strands = {split: {plain.decode(ids) for _, ids, _ in documents(tmp_path / "b", split)} for split in ("train", "heldout")}
    assert {reverse_complement(s) for s in strands["train"]} == strands["train"]
    assert {reverse_complement(s) for s in strands["heldout"]}.isdisjoint(strands["train"] | strands["heldout"])


def test_held_out_files_take_duplicates_from_training(tokenizer, corpus, tmp_path):
    (tmp_path / "held.faa").write_text("\n".join((corpus / "p.faa").read_text().split("\n")[:8]) + "\n")
    source = Source(modality="protein", files=[corpus / "p.faa"], heldout_files=[tmp_path / "held.faa"])
    counts = pack(recipe(tokenizer, corpus, tmp_path / "out", sources=[source]))
    (report,) = counts["sources"]
    assert report["documents"]["reasons"] == {"exact duplicate": 5}  # the four held out, and the one repeated in the file
    assert (report["train"]["written"], report["heldout"]["written"]) == (56, 4)


def test_tokenizers_that_will_not_do(corpus, tokenizer, tmp_path, packed):
    plain = save_tokenizer(tmp_path / "plain", [], bos_token="<s>", eos_token="</s>")
    with pytest.raises(UserError, match="not single tokens, so this tokenizer is not extended"):
        pack(recipe(plain, corpus, tmp_path / "out"))
    with pytest.raises(UserError, match="no eos_token"):
        pack(recipe(save_tokenizer(tmp_path / "endless", TAGS), corpus, tmp_path / "out"))
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        pack(recipe(corpus, corpus, tmp_path / "out"))
    lossy = Tokenizer(models.BPE({"A": 0, "C": 1}, []))
    lossy.add_special_tokens(["</s>", *TAGS])
    PreTrainedTokenizerFast(tokenizer_object=lossy, eos_token="</s>").save_pretrained(tmp_path / "lossy")
    with pytest.raises(UserError, match="letters do not survive"):
        pack(recipe(tmp_path / "lossy", corpus, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    load_shards(packed, "train", tokenizer=tokenizer)
    with pytest.raises(UserError, match="packed with another tokenizer"):
        load_shards(packed, "train", tokenizer=plain)
    assert tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(plain)


def test_mistakes_in_the_recipe(tokenizer, corpus, tmp_path, packed):
    path = tmp_path / "r.yaml"

    def problem(source: str) -> str:
        path.write_text(f"tokenizer: {tokenizer}\nout: {tmp_path / 'out'}\nsources:\n- {source}\n")
        with pytest.raises(UserError) as error:
            pack(load(PackRecipe, path))
        return str(error.value)

    assert "did you mean 'window'" in problem("{modality: dna, files: [x.fa], windw: 5}")
    assert "overlapping windows" in problem("{modality: dna, files: [x.fa], window: 50, stride: 10}")
    assert "both_strands is for dna" in problem("{modality: protein, files: [x.fa], both_strands: true}")
    assert "x.fa: no such file" in problem("{modality: protein, files: [x.fa]}")
    assert "no training document is left" in problem(f"{{modality: protein, files: ['{corpus / 'p.faa'}'], max_tokens: 1}}")
    with pytest.raises(UserError, match="already exists"):
        pack(recipe(tokenizer, corpus, packed))
    with pytest.raises(UserError, match="choose train or heldout"):
        load_shards(packed, "test")
    with pytest.raises(UserError, match="not a finished artefact"):
        load_shards(corpus, "train")


def test_shards_are_read_as_numpy_too(packed):
    ids = np.asarray(load_shards(packed, "train").with_format("numpy")["input_ids"])
    assert ids.shape[1] == BLOCK


@given(text=st.text(st.sampled_from("the gene né 😀\t\u00a0αβ"), min_size=30, max_size=300), block=st.integers(16, 40))
@settings(max_examples=60)
def test_texts_are_cut_by_bytes_as_by_offsets(extended_folder, text, block):
    """The fast way gives the fragments of the slow one."""
    encoder = Encoder(extended_folder, {"text"}, block)
    ids = np.array(encoder._backend.encode(text, add_special_tokens=False).ids, dtype=np.uint32)
    fast, slow = encoder._cut_text(Document("x", "text", text), ids), list(encoder._cut(Document("x", "text", text)))
    assert fast is not None
    assert [(fragment.ids.tolist(), fragment.letters) for fragment in fast] == [(f.ids.tolist(), f.letters) for f in slow]


def test_named_tokens_are_those_of_transformers(extended_folder):
    from transformers import AutoTokenizer

    encoder, public = Encoder(extended_folder, {"dna", "text"}, 64), AutoTokenizer.from_pretrained(extended_folder)
    assert encoder.start == ([] if public.bos_token_id is None else [public.bos_token_id])
    assert encoder.end == [public.eos_token_id]
    assert encoder.pad == (public.eos_token_id if public.pad_token_id is None else public.pad_token_id)
    text = "A gene <dna>ACGTN</dna> of\n\n  the <protein>MKV</protein> cell; naïve."
    assert encoder._backend.encode(text, add_special_tokens=False).ids == public(text, add_special_tokens=False).input_ids


@given(
    paragraphs=st.lists(st.text(st.sampled_from("gene né 😀αβ"), min_size=1, max_size=60).filter(str.strip), min_size=3, max_size=12),
    blank=st.sampled_from(["\n\n", "\n \n\n", "\r\n\r\n"]),
    block=st.integers(16, 60),
)
@settings(max_examples=100, deadline=None)
def test_texts_are_cut_between_paragraphs_where_one_ends_late_in_a_block(family_folder, paragraphs, blank, block):
    encoder = Encoder(family_folder, {"text"}, block)
    text = blank.join(paragraphs)
    (fragments,) = encoder.encode([Document("x", "text", text)])
    whole = encoder._backend.encode(text, add_special_tokens=False).ids
    inner = [fragment.ids[len(encoder.start) : len(fragment.ids) - len(encoder.end)].tolist() for fragment in fragments]
    assert [number for ids in inner for number in ids] == whole
    assert sum(fragment.letters for fragment in fragments) == len(text.encode())
    room = block - len(encoder.start) - len(encoder.end)
    begins = [0]
    for paragraph in paragraphs:
        begins.append(begins[-1] + len((paragraph + blank).encode()))
    # text positions where a token ends, from the tokens' own offsets
    encoding = encoder._backend.encode(text, add_special_tokens=False)
    ends = {place: len(text[:stop].encode()) for place, (_, stop) in enumerate(encoding.offsets)}
    done = 0
    for ids in inner[:-1]:
        places = [p for p in range(done + room * 3 // 4 + 1, min(done + room, len(whole)) + 1) if ends[p - 1] in begins]
        if len(whole) - done > room and places:
            assert done + len(ids) in places
            assert done + len(ids) == places[-1] or ends[places[-1] - 1] == ends[done + len(ids) - 1]
        else:
            assert room - 4 < len(ids) <= room  # a character has at most four bytes
        done += len(ids)


def test_every_document_says_where_it_comes_from(packed, tokenizer, corpus):
    files = read_manifest(packed, "shards")["counts"]["files"]
    assert files == [str(corpus / name) for name in ("g.fa", "p.faa", "t.jsonl")]
    genome = (corpus / "g.fa").read_text().split("\n")[1]
    proteins = dict(record.split("\n")[:2] for record in (corpus / "p.faa").read_text().split(">")[1:])
    texts = {str(record["id"]): record["text"] for record in map(json.loads, (corpus / "t.jsonl").read_text().splitlines())}
    backend = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    met: set[str] = set()
    for split in ("train", "heldout"):
        for row in load_shards(packed, split):
            ends = list(itertools.accumulate(row["seq_lengths"]))
            for start, end, name, file in zip([0, *ends], ends, row["ids"], row["files"], strict=False):
                decoded = backend.decode(row["input_ids"][start:end], skip_special_tokens=True)
                if files[file].endswith(".fa"):
                    begin, stop = map(int, name.removeprefix("chr1:").split("-"))
                    expected = genome[begin:stop]
                elif files[file].endswith(".faa"):
                    expected = proteins[name]
                else:
                    expected = texts[name.split("#")[0]]
                assert (decoded if row["modality"] == "text" else "".join(decoded.split())) in expected
                met.add(name.split("#")[0])
    assert {f"chr1:{start}-{start + 150}" for start in range(0, 6000, 150)} <= met
    assert len(met & set(proteins)) == 60
    assert len(met & set(texts)) == 40


def test_records_without_a_name_in_a_part_of_a_file(tokenizer, tmp_path):
    lines = [{"text": f"the gene binds {i}"} for i in range(200)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Source(modality="text", files=[tmp_path / "t.jsonl"], heldout_share=0)
    counts = pack(PackRecipe(tokenizer=tokenizer, out=tmp_path / "out", block_tokens=BLOCK, sources=[source], part_bytes=1000, verify=True))
    assert counts["verified"]["documents"] == 200
    names = [name for row in load_shards(tmp_path / "out", "train") for name in row["ids"]]
    assert len(set(names)) == 200
    assert "line1" in names
    assert any("@" in name for name in names)


def test_what_needs_the_letters_of_each_token_is_refused_before_a_file_is_read(tokenizer, corpus, tmp_path):
    """A tokenizer with tags alone packs sequences, but not words beside them nor weights of repeats."""
    for asked in ({"repeat_weight": 0.1}, {"species": "Testa exempli"}):
        source = Source(modality="dna", files=[corpus / "g.fa"], **asked)
        with pytest.raises(UserError, match="weights of repeats need a tokenizer of `llama-gene tokenizer extend`"):
            pack(PackRecipe(tokenizer=tokenizer, out=tmp_path / "out", sources=[source]))
    assert not list(tmp_path.glob("out*"))
