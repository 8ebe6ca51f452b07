"""What must hold of an extended tokenizer, for all base families."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import english, letters
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.errors import UserError
from artefacts.folder import fingerprint
from sequences.alphabets import ALPHABETS, DNA, NUCLEOTIDES, PROTEIN, RESIDUES, RNA, TAGS
from tokenizer.create import CreateBase, create_base
from tokenizer.extend import Extend, extend_base
from tokenizer.private import check_tags, choose
from tokenizer.rows import sources
from tokenizer.saving import save_tokenizer
from tokenizer.vocabulary import PAD, extend

SPAN = st.one_of(
    st.tuples(st.just("dna"), st.text(NUCLEOTIDES, max_size=80)),
    st.tuples(st.just("protein"), st.text(RESIDUES, max_size=80)),
)
# Private-use planes are the extension's own; surrogates are no text.
PROSE = st.text(st.characters(exclude_categories=("Cs", "Co"), exclude_characters="<>"), max_size=40)


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def pieces_inside(new, encoded, tag):
    start, end = encoded.index(new.tags[f"<{tag}>"]), encoded.index(new.tags[f"</{tag}>"])
    names = {index: piece for piece, index in new.pieces["protein" if tag == "protein" else "dna"].items()}
    return [names[index] for index in encoded[start + 1 : end]]


def test_text_keeps_the_base_ids(family):
    base, extended, _ = family
    lines = [
        *english(500, seed=1),
        "def f(x):\n    return x  # CAT",
        "基因表达 TATA",
        "GATTACA CAT TATA MET",
        "  two  blanks",
        "",
        " ",
    ]
    assert [ids(extended, line) for line in lines] == [ids(base.tokenizer, line) for line in lines]


@given(text=PROSE)
@settings(max_examples=300, deadline=None)
def test_any_text_keeps_the_base_ids(family, text):
    base, extended, _ = family
    assert ids(extended, text) == ids(base.tokenizer, text)


def test_text_that_mentions_a_tag_keeps_its_ids_around_it(family):
    """'the <dna> tag is' holds letters of the alphabet behind the tag, but no span."""
    _, extended, new = family
    after = ids(extended, "the <dna> tag is")
    assert after[after.index(new.tags["<dna>"]) + 1 :] == ids(extended, "<dna> tag is")[1:]
    assert not set(after) & {i for pieces in new.pieces.values() for i in pieces.values()}


@given(span=SPAN, before=PROSE, after=PROSE)
@settings(max_examples=300, deadline=None)
def test_a_span_costs_its_own_bpe_whatever_stands_around(family, dna_bpe, protein_bpe, span, before, after):
    _, extended, new = family
    tag, sequence = span
    encoded = ids(extended, f"{before}<{tag}>{sequence}</{tag}>{after}")
    own = {"dna": dna_bpe, "protein": protein_bpe}[tag].encode(sequence).tokens
    assert pieces_inside(new, encoded, tag) == own


@given(spans=st.lists(st.tuples(PROSE, SPAN), max_size=4), tail=PROSE)
@settings(max_examples=300, deadline=None)
def test_round_trip_is_exact(family, spans, tail):
    _, extended, _ = family
    text = "".join(f"{prose}<{tag}>{sequence}</{tag}>" for prose, (tag, sequence) in spans) + tail
    assert extended.decode(ids(extended, text), skip_special_tokens=False) == text


def test_case_and_rna(family):
    """Lower case comes back upper case, U comes back as T inside <rna>, and nothing else changes."""
    _, extended, _ = family
    assert extended.decode(ids(extended, "a <dna>acgtN</dna> cat"), skip_special_tokens=False) == "a <dna>ACGTN</dna> cat"
    assert ids(extended, "<rna>ACUu</rna>")[1:-1] == ids(extended, "<dna>ACTT</dna>")[1:-1]
    assert extended.decode(ids(extended, "<rna>ACUu</rna> U"), skip_special_tokens=False) == "<rna>ACTT</rna> U"


def test_an_open_span_is_a_prompt_to_continue(family):
    _, extended, _ = family
    assert ids(extended, "see <dna>ACGTAC") == ids(extended, "see <dna>ACGTAC</dna>")[:-1]


@pytest.mark.parametrize("alphabet", [DNA, RNA, PROTEIN], ids=lambda a: a.name)
def test_every_letter_has_an_id_inside_its_tag(family, alphabet):
    _, extended, new = family
    own = set(new.pieces["protein" if alphabet.name == "protein" else "dna"].values())
    for letter in alphabet.letters + alphabet.letters.lower():
        inside = ids(extended, alphabet.open_tag + letter + alphabet.close_tag)[1:-1]
        assert len(inside) == 1, letter
        assert inside[0] in own, letter


def test_every_new_piece_is_reachable(family):
    _, extended, new = family
    for name, pieces in new.pieces.items():
        unreachable = [piece for piece, index in pieces.items() if ids(extended, ALPHABETS[name].wrap(piece))[1:-1] != [index]]
        assert unreachable == []


def test_new_ids_follow_the_base_and_do_not_collide(family):
    base, extended, new = family
    base_ids = set(base.tokenizer.get_vocab().values())
    assert len(set(new.all)) == len(new.all)
    assert min(new.all) == max(base_ids) + 1
    assert extended.get_vocab_size() == len(base_ids) + len(new.all)


def test_long_spans_take_linear_time_and_keep_their_letters(family):
    _, extended, _ = family
    sequence = letters("ACGT", 20_000, 5)
    text = f"see <dna>{sequence}</dna>"
    assert extended.decode(ids(extended, text), skip_special_tokens=False) == text


def test_offsets_point_at_the_original_letters(family):
    _, extended, _ = family
    text = "see <protein>MKWVTFISLL</protein> end"
    encoding = extended.encode(text, add_special_tokens=False)
    inside = [text[a:b] for a, b in encoding.offsets if re.fullmatch("[A-Z]+", text[a:b])]
    assert "".join(inside) == "MKWVTFISLL"


def test_mismatched_and_nested_tags_are_text(family):
    _, extended, new = family
    letters_ids = {i for pieces in new.pieces.values() for i in pieces.values()}
    assert not set(ids(extended, "<protein>MK</dna>")) & letters_ids
    assert not set(ids(extended, "<dna>AC!GT</dna>")) & letters_ids
    assert len(set(ids(extended, "<dna><dna>AC</dna>")) & letters_ids) >= 1


def test_sentencepiece_base_equals_the_sentencepiece_library(sentencepiece_base, sentencepiece_file):
    library = sentencepiece.SentencePieceProcessor(str(sentencepiece_file))
    lines = [*english(300, seed=2), "  leading blanks", "a   b    c", "tab\tand\nbreak", "naïve 基因", " " * 33 + "x"]
    assert [ids(sentencepiece_base.tokenizer, line) for line in lines] == [library.encode(line) for line in lines]


def test_an_extended_base_is_refused(family, dna_bpe, protein_bpe):
    base, extended, _ = family
    with pytest.raises(UserError, match="extended already"):
        extend(type(base)(extended, base.family, base.config), dna_bpe, protein_bpe)


def test_private_characters_avoid_the_bytes_a_base_merges():
    first = choose()
    lead = first.characters[0].encode()
    moved = choose({lead[1:3]})
    assert moved.characters[0].encode()[:3] != lead[:3]
    with pytest.raises(UserError, match="cannot be extended"):
        choose({bytes((0xF3, b)) for b in range(256)} | {bytes((0xF4, b)) for b in range(256)})


def test_saved_folder_reloads_with_identical_ids(extended_folder):
    from tokenizers import Tokenizer

    raw = Tokenizer.from_file(str(extended_folder / "tokenizer.json"))
    loaded = AutoTokenizer.from_pretrained(extended_folder)
    draw = random.Random(0)
    texts = [
        f"{line} <dna>{letters('ACGTN', draw.randrange(60), i)}</dna> <protein>{letters(RESIDUES, 20, i)}</protein>"
        for i, line in enumerate(english(50, 3))
    ]
    assert [loaded(text, add_special_tokens=False)["input_ids"] for text in texts] == [ids(raw, text) for text in texts]
    assert loaded.decode(loaded(texts[0], add_special_tokens=False)["input_ids"]) == texts[0]
    assert loaded.pad_token_id not in (None, loaded.eos_token_id, loaded.bos_token_id)
    assert all(loaded.convert_tokens_to_ids(tag) is not None for tag in TAGS)


def test_extended_model_loads_and_its_new_rows_differ(extended_folder):
    model = AutoModelForCausalLM.from_pretrained(extended_folder)
    base = AutoModelForCausalLM.from_pretrained(extended_folder.parent / "base")
    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    rows = base.get_input_embeddings().weight.shape[0]
    for matrix, old in (
        (model.get_input_embeddings().weight, base.get_input_embeddings().weight),
        (model.get_output_embeddings().weight, base.get_output_embeddings().weight),
    ):
        assert matrix.shape[0] >= len(tokenizer)
        assert matrix.shape[0] % 64 == 0
        assert torch.equal(matrix[:rows], old), "rows of the base must stay bit-identical"
        new = matrix[rows : len(tokenizer)]
        assert torch.cdist(new, new).fill_diagonal_(1).min() > 1e-4, "no two new rows may be alike"
        ratio = new.norm(dim=1).mean() / old.norm(dim=1).mean()
        assert 0.2 < ratio < 2, "new rows must be of the base's size"


def test_the_same_recipe_gives_the_same_weights(extended_folder, tmp_path):
    """Padding rows included, whatever the process drew before."""
    folder = extended_folder.parent
    torch.rand(3)
    extend_base(Extend(base=folder / "base", dna=folder / "dna.json", protein=folder / "protein.json", out=tmp_path / "again"))
    assert fingerprint(tmp_path / "again" / "model.safetensors") == fingerprint(extended_folder / "model.safetensors")


def test_rows_of_anagrams_differ_in_their_sources(family):
    base, _, new = family
    spelled = sources(base.tokenizer, new)
    pieces = new.pieces["dna"]
    pair = next((a, b) for a in pieces for b in pieces if a != b and sorted(a) == sorted(b))
    assert spelled[pieces[pair[0]]] != spelled[pieces[pair[1]]]


def test_generation_ends_at_the_end_of_turn(extended_folder):
    model = AutoModelForCausalLM.from_pretrained(extended_folder)
    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") in model.generation_config.eos_token_id


def test_generation_ends_where_a_bases_own_template_ends_a_turn(chatml_base, dna_bpe, protein_bpe, tmp_path):
    """Its end of a text is another token, so nothing but the template says what ends an answer."""
    ends = chatml_base.config | {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer").mkdir()
    save_tokenizer(chatml_base.tokenizer, tmp_path / "tokenizer", chatml_base.family, ends)
    shape = {"hidden_size": 16, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate_size": 16}
    create_base(CreateBase(out=tmp_path / "base", tokenizer=tmp_path / "tokenizer", **shape))
    settings = tmp_path / "base" / "generation_config.json"
    text, turn = (chatml_base.tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|im_end|>"))
    assert json.loads(settings.read_text())["eos_token_id"] == [text, turn]
    settings.write_text(json.dumps({"eos_token_id": text}))  # as others write it
    for name, bpe in (("dna", dna_bpe), ("protein", protein_bpe)):
        bpe.save(str(tmp_path / f"{name}.json"))
    extend_base(Extend(base=tmp_path / "base", dna=tmp_path / "dna.json", protein=tmp_path / "protein.json", out=tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [text, turn]
    line, kept = (tmp_path / "out" / "chat_template.jinja").read_text().split("\n", 1)
    assert kept == chatml_base.config["chat_template"], "its own, byte for byte, however often it is saved"
    assert PAD in line


def test_report_and_new_ids_are_written(extended_folder):
    report = json.loads((extended_folder / "extension_report.json").read_text())
    new_ids = json.loads((extended_folder / "new_ids.json").read_text())
    assert report["extended_vocab"] == max(new_ids["pieces"]["protein"]) + 1
    assert report["rows"]["input"]["new_deviation"] > 0


@pytest.mark.shared
def test_the_real_mistral_vocabulary(shared_data, dna_bpe, protein_bpe):
    """Equal to the sentencepiece library on real text, and unchanged by the extension."""
    import gzip

    from tokenizer.base import from_sentencepiece

    path = shared_data / "tokenizers" / "mistral_tokenizer.model.v1"
    base = from_sentencepiece(path, {})
    extended, _, _ = extend(base, dna_bpe, protein_bpe)
    library = sentencepiece.SentencePieceProcessor(str(path))
    with gzip.open(shared_data / "text" / "openstax_concepts_biology.jsonl.gz", "rt", encoding="utf-8") as handle:
        lines = [line for record in handle for line in json.loads(record)["text"].splitlines()][:6000]
    wanted = [library.encode(line) for line in lines]
    assert [encoding.ids for encoding in base.tokenizer.encode_batch(lines, add_special_tokens=False)] == wanted
    assert [encoding.ids for encoding in extended.encode_batch(lines, add_special_tokens=False)] == wanted


# --- other readers ----------------------------------------------------------------------------------------------------


def passes(tokenizer, folder: Path) -> bool:
    """The last of the three lines of the self-test in new_ids.json."""
    test = json.loads((folder / "new_ids.json").read_text(encoding="utf-8"))["self_test"]
    try:
        exec(test["how"][-1], {"tokenizer": tokenizer, "ids": test["ids"]})
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("way", ["LLaMA-Factory", "axolotl"])
def test_readers_that_declare_the_tags_again_are_found_out(extended_folder, tmp_path, way):
    """As plain tokens they stay what they are; as special ones, which a library forces, the folder's own test fails."""
    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    assert passes(tokenizer, extended_folder)
    size = len(tokenizer)
    tokenizer.add_tokens(["<dna>", "</dna>"])
    assert passes(tokenizer, extended_folder)
    if way == "axolotl":
        tokenizer.add_tokens([AddedToken(tag, rstrip=False, lstrip=False, normalized=False) for tag in ("<dna>", "</dna>")])
    else:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<dna>", "</dna>"]})
    assert not passes(tokenizer, extended_folder)
    assert len(tokenizer) == size
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"<dna>, </dna> was declared once more as a special token"):
        check_tags(AutoTokenizer.from_pretrained(tmp_path).backend_tokenizer, tmp_path)
    check_tags(AutoTokenizer.from_pretrained(extended_folder).backend_tokenizer, extended_folder)
