"""Bases as they lie on the hub: each keeps the ids that its own tokenizer gives, or is refused with the remedy."""

from __future__ import annotations

import io
import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest
import sentencepiece
import sentencepiece.sentencepiece_model_pb2 as pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import english
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.errors import UserError
from sequences.alphabets import ALPHABETS
from tokenizer.base import from_sentencepiece, next_id, read_base
from tokenizer.create import CreateBase, create_base
from tokenizer.encoders import read_encoders
from tokenizer.extend import Extend, auto_notes, extend_base, gather
from tokenizer.private import choose
from tokenizer.saving import carry_tokenizer, with_fixed_date
from tokenizer.spm import PROBES
from tokenizer.vocabulary import PAD, extend

CHAT = "<s>[INST] Hi there[/INST] Sure</s>[INST] More </s> end"
CONFIG = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
PARTS = st.lists(st.sampled_from([" ", "  ", "▁", "a", "The gene", "\n", "</s>", "<s>", "é", "."]), max_size=8).map("".join)


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text, add_special_tokens=False).tokens


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def trained(path: Path, **options) -> Path:
    """A SentencePiece model of Llama 2's kind, but for the options."""
    model = io.BytesIO()
    settings_ = {
        "model_type": "bpe", "vocab_size": 500, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True, "split_digits": True, "minloglevel": 2,
    }  # fmt: skip
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(english(400)), model_writer=model, **settings_ | options)
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="module")
def genes(tmp_path_factory, dna_bpe, protein_bpe) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("genes")
    dna_bpe.save(str(folder / "dna.json"))
    protein_bpe.save(str(folder / "protein.json"))
    return {"dna": folder / "dna.json", "protein": folder / "protein.json"}


def hub_folder(folder: Path, model: Path, **config) -> Path:
    """As `save_pretrained` of transformers writes it, with the tokenizer.model beside."""
    made = folder / "made"
    made.mkdir(parents=True)
    shutil.copy(model, made / "tokenizer.model")
    (made / "tokenizer_config.json").write_text(json.dumps(CONFIG | config))
    AutoTokenizer.from_pretrained(made).save_pretrained(folder / "saved")
    (folder / "saved" / "tokenizer_config.json").write_text(json.dumps(CONFIG | config))  # transformers 5 forgets `legacy`
    shutil.copy(model, folder / "saved" / "tokenizer.model")
    return folder / "saved"


def written(folder: Path, document: dict, **config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


# --- SentencePiece: blanks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_behind_a_special_token_ids_are_those_of_autotokenizer(sentencepiece_file, dna_bpe, protein_bpe, tmp_path, legacy):
    folder = hub_folder(tmp_path, sentencepiece_file, legacy=legacy)
    auto, base = AutoTokenizer.from_pretrained(folder), read_base(folder)
    assert base.sentencepiece_model == folder / "tokenizer.model"
    extended, *_ = extend(base, dna_bpe, protein_bpe)
    for text in [CHAT, "a</s>b", "</s> b", *english(20)]:
        wanted = auto.convert_ids_to_tokens(auto(text, add_special_tokens=False)["input_ids"])
        assert tokens(base.tokenizer, text) == tokens(extended, text) == wanted
    assert set(read_encoders(extended)) == set(ALPHABETS)  # the bulk encoder compares itself with the tokenizer
    behind = tokens(base.tokenizer, "a</s>b")
    assert behind[behind.index("</s>") + 1] == ("▁b" if legacy else "b")


def test_the_merge_order_is_the_models_and_all_else_the_jsons(sentencepiece_file, tmp_path):
    folder = hub_folder(tmp_path, sentencepiece_file)
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["merges"].reverse()
    end = {"id": 500, "content": "<|im_end|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    document["added_tokens"].append(end)
    document["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(document))
    base, library = read_base(folder), sentencepiece.SentencePieceProcessor(str(sentencepiece_file))
    assert [ids(base.tokenizer, line) for line in english(50)] == [library.encode(line) for line in english(50)]
    assert tokens(base.tokenizer, "a<|im_end|>.")[-2:] == ["<|im_end|>", "."]
    assert base.tokenizer.encode("a").tokens[0] != "<s>"
    document["model"]["vocab"]["e"], document["model"]["vocab"]["t"] = (document["model"]["vocab"][letter] for letter in "te")
    (folder / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"of tokenizer\.model has another id here"):
        read_base(folder)


@given(before=PARTS, after=PARTS)
@settings(max_examples=200, deadline=None)
def test_a_model_alone_is_sentencepiece_in_text_and_puts_no_blank_behind_a_special_token(
    sentencepiece_base, sentencepiece_file, before, after
):
    library = sentencepiece.SentencePieceProcessor(str(sentencepiece_file))
    plain = (before + after).replace("<s>", "").replace("</s>", "")
    assert ids(sentencepiece_base.tokenizer, plain) == library.encode(plain)
    bare = Tokenizer.from_str(sentencepiece_base.tokenizer.to_str())
    bare.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False)
    whole = ids(sentencepiece_base.tokenizer, f"{before}</s>{after}")
    assert whole == [*ids(sentencepiece_base.tokenizer, before), 2, *ids(bare, after)]


def test_a_difference_from_autotokenizer_is_noted(sentencepiece_file, genes, tmp_path):
    folder = hub_folder(tmp_path, sentencepiece_file)
    template = "{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    assert not [note for note in gather(folder, genes["dna"], genes["protein"], weights=False).base.notes if "AutoTokenizer" in note]
    base = read_base(folder)
    base.tokenizer.normalizer = normalizers.Replace("Sure", "sure")  # in the rendered chat alone
    [note] = auto_notes(base, folder)
    assert note.startswith(f"2 of {len(PROBES) + 3} probes have other ids than from AutoTokenizer of the base, the first: '<s>[INST]")
    base.tokenizer.normalizer = None
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    assert "does not take a plain chat" in auto_notes(base, folder)[0]


def test_added_tokens_are_found_in_text_of_a_legacy_file(sentencepiece_file, tmp_path):
    """Its normalizer makes ▁<|im_end|> of a normalized one, which no text holds."""
    folder = hub_folder(tmp_path, sentencepiece_file, legacy=True)
    document = json.loads((folder / "tokenizer.json").read_text())
    document["added_tokens"].append(document["added_tokens"][0] | {"id": 500, "content": "<|im_end|>", "normalized": True})
    (folder / "tokenizer.json").write_text(json.dumps(document))
    assert ids(read_base(folder).tokenizer, "a<|im_end|>\nb <|im_end|>").count(500) == 2


def test_a_legacy_file_that_autotokenizer_reads_otherwise_is_noted(sentencepiece_file, genes, tmp_path):
    """transformers 5 makes its own pre-tokenizer from the configuration, whatever tokenizer.json says."""
    folder = hub_folder(tmp_path, sentencepiece_file, legacy=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    *_, note = gather(folder, genes["dna"], genes["protein"], weights=False).base.notes
    assert "other ids than from AutoTokenizer of the base, the first: '<s>[INST] Hi there" in note


def test_the_notes_are_in_the_report(sentencepiece_file, genes, tmp_path):
    folder = hub_folder(tmp_path, sentencepiece_file)
    extend_base(Extend(base=folder, out=tmp_path / "out", tokenizer_only=True, **genes))
    notes = json.loads((tmp_path / "out" / "extension_report.json").read_text())["notes"]
    assert "' one blank in front', have other ids than in the sentencepiece library" in notes[0]


# --- SentencePiece: what the model file says --------------------------------------------------------------------------


def test_a_model_without_a_blank_of_its_own(tmp_path, dna_bpe, protein_bpe):
    path = trained(tmp_path / "tokenizer.model", add_dummy_prefix=False)
    library, base = sentencepiece.SentencePieceProcessor(str(path)), read_base(path)
    extended, *_ = extend(base, dna_bpe, protein_bpe)
    for text in [*PROBES, *english(50)]:
        assert ids(base.tokenizer, text) == ids(extended, text) == library.encode(text)
        assert base.tokenizer.decode(ids(base.tokenizer, text)) == text.replace("▁", " ")


def test_blanks_behind_words_are_refused(tmp_path):
    with pytest.raises(UserError, match="blanks stand behind words"):
        read_base(trained(tmp_path / "tokenizer.model", treat_whitespace_as_suffix=True))


def test_user_defined_pieces(tmp_path, dna_bpe, protein_bpe):
    path = trained(tmp_path / "tokenizer.model", user_defined_symbols=["<sep>", "GENE1", "(no"])
    library, base = sentencepiece.SentencePieceProcessor(str(path)), read_base(path)
    extended, *_ = extend(base, dna_bpe, protein_bpe)
    for text in ["a<sep>b", "the <sep> GENE12 (no label)", " <sep>", *english(100)]:
        assert ids(base.tokenizer, text) == ids(extended, text) == library.encode(text)
    assert "text that begins with '<sep>'" in base.notes[0]
    with pytest.raises(UserError, match="holds a blank"):
        read_base(trained(tmp_path / "tokenizer.model", user_defined_symbols=["a b"]))


def test_text_that_differs_from_the_library_is_refused(sentencepiece_file, tmp_path, monkeypatch):
    """The check itself: a model built with its merges in another order."""
    import tokenizer.spm as spm

    own = spm._merges_by_score
    monkeypatch.setattr(spm, "_merges_by_score", lambda vocab, scores: own(vocab, scores)[::-1])
    with pytest.raises(UserError, match="has other ids than in the sentencepiece library"):
        from_sentencepiece(sentencepiece_file, {})


@pytest.mark.parametrize("listed", ["added_tokens.json", "normalized"])
def test_added_tokens_are_found_in_text(sentencepiece_file, tmp_path, listed):
    shutil.copy(sentencepiece_file, tmp_path / "tokenizer.model")
    if listed == "normalized":
        token = {"content": "<|im_end|>", "normalized": True, "special": False}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"500": token}}))
    else:
        (tmp_path / "added_tokens.json").write_text('{"<|im_end|>": 500}')
    assert ids(read_base(tmp_path).tokenizer, "a<|im_end|>\nb <|im_end|>").count(500) == 2


@pytest.mark.parametrize(("begin", "end"), [(True, False), (False, False), (False, True), (True, True)])
def test_begin_and_end_are_put_as_configured(sentencepiece_file, tmp_path, begin, end):
    shutil.copy(sentencepiece_file, tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": begin, "add_eos_token": end}))
    found = read_base(tmp_path).tokenizer.encode("a").ids
    assert (found[0] == 1, found[-1] == 2) == (begin, end)


# --- what cannot be extended ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["GATTACA", "TTT", "mkv", "acgu", "AC GT"])
def test_an_added_token_of_gene_letters_is_refused(byte_level_base, dna_bpe, protein_bpe, word):
    base = type(byte_level_base)(Tokenizer.from_str(byte_level_base.tokenizer.to_str()), byte_level_base.family, {})
    base.tokenizer.add_tokens([AddedToken("<|GATTACA|>", normalized=False)])
    extend(base, dna_bpe, protein_bpe)
    base.tokenizer.add_tokens([AddedToken(word, normalized=False)])
    with pytest.raises(UserError, match=f"added token '{word}', spelled in (dna|rna|protein) letters"):
        extend(base, dna_bpe, protein_bpe)


def test_a_piece_that_only_ignore_merges_reaches_is_refused(byte_level_base, dna_bpe, genes, tmp_path):
    """Llama 3's vocabulary finds a whole word without any merge: the piece alone, never the piece in a sequence."""
    assert json.loads(byte_level_base.tokenizer.to_str())["model"]["ignore_merges"]
    document = json.loads(dna_bpe.to_str())
    document["model"]["merges"].pop()
    (tmp_path / "dna.json").write_text(json.dumps(document))
    byte_level_base.tokenizer.save(str(tmp_path / "tokenizer.json"))
    recipe = Extend(base=tmp_path / "tokenizer.json", dna=tmp_path / "dna.json", protein=genes["protein"], out=tmp_path / "out")
    with pytest.raises(UserError, match=r"1 of 120 dna pieces, .* are given by no sequence"):
        extend_base(recipe)
    assert not (tmp_path / "out").exists()


def damaged(document: dict, damage: str) -> dict:
    if damage == "prefix":
        document["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True
    elif damage == "pad":
        free = max(token["id"] for token in document["added_tokens"]) + 1
        document["added_tokens"].append(document["added_tokens"][0] | {"id": free, "content": PAD})
    elif damage == "decoder":
        document["decoder"] = None
    elif damage == "model":
        document["model"] = None
    elif damage == "malformed":
        document["model"] = {"type": "BPE"}
    return document


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("prefix", "add_prefix_space"),
        ("pad", r"already has <\|gene_pad\|>"),
        ("decoder", "has no decoder"),
        ("model", "a None tokenizer"),
        ("malformed", "not a tokenizer that the tokenizers library reads"),
    ],
)
def test_a_damaged_base_is_refused(byte_level_base, genes, tmp_path, damage, message):
    written(tmp_path, damaged(json.loads(byte_level_base.tokenizer.to_str()), damage))
    with pytest.raises(UserError, match=message):
        gather(tmp_path, genes["dna"], genes["protein"], weights=False)


@pytest.mark.parametrize(("kind", "message"), [("fasta", "not a dna BPE"), ("words", "the dna BPE is a WordLevel tokenizer")])
def test_what_is_no_gene_bpe_is_refused(byte_level_base, genes, tmp_path, kind, message):
    byte_level_base.tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / "genome.fa"
    if kind == "fasta":
        path.write_text(">chr1\nACGT\n")
    else:
        Tokenizer(models.WordLevel({"A": 0}, unk_token="A")).save(str(path))
    with pytest.raises(UserError, match=message):
        gather(tmp_path / "tokenizer.json", path, genes["protein"], weights=False)


def test_private_characters_of_the_base_are_left_to_it(sentencepiece_file, dna_bpe, protein_bpe, tmp_path):
    proto = pb2.ModelProto()  # type: ignore[attr-defined] # protobuf makes the class at import time
    proto.ParseFromString(sentencepiece_file.read_bytes())
    own = choose().nucleotides["A"]
    proto.pieces.add(piece=own, score=-1e4, type=1)
    (tmp_path / "tokenizer.model").write_bytes(proto.SerializeToString())
    base = read_base(tmp_path)
    extended, new, private = extend(base, dna_bpe, protein_bpe)
    assert own not in private.characters
    assert ids(extended, f"a{own}") == ids(base.tokenizer, f"a{own}")
    assert 500 in ids(base.tokenizer, f"a{own}")
    assert new.pad == 501


# --- ids, templates ---------------------------------------------------------------------------------------------------


def test_a_gap_among_the_ids_of_a_base(byte_level_base, genes, tmp_path):
    document = json.loads(byte_level_base.tokenizer.to_str())
    last = document["added_tokens"][-1]
    last["id"] += 7
    document["model"]["vocab"][last["content"]] = last["id"]
    folder = written(tmp_path / "base", document, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")
    tokenizer = read_base(folder).tokenizer
    assert next_id(tokenizer) == last["id"] + 1 > tokenizer.get_vocab_size()
    small = {"hidden_size": 16, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate_size": 16}
    create_base(CreateBase(out=tmp_path / "created", tokenizer=folder, **small))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "created")
    assert model.get_input_embeddings().weight.shape[0] == last["id"] + 1
    extend_base(Extend(base=tmp_path / "created", out=tmp_path / "out", **genes))
    report = json.loads((tmp_path / "out" / "extension_report.json").read_text())
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert report["base_vocab"] == last["id"] + 1
    assert report["extended_vocab"] == counts["vocabulary"] == last["id"] + 1 + counts["new_ids"]


@pytest.mark.parametrize("kept", ["list", "files"])
def test_named_chat_templates_are_carried(byte_level_base, genes, tmp_path, kept):
    named = {"default": "{{ 'D' }}", "tool_use": "{{ 'T' }}"}
    listed = [{"name": name, "template": template} for name, template in named.items()] if kept == "list" else None
    config = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"} | ({"chat_template": listed} if listed else {})
    base = written(tmp_path / "base", json.loads(byte_level_base.tokenizer.to_str()), **config)
    if kept == "files":
        (base / "additional_chat_templates").mkdir()
        (base / "chat_template.jinja").write_text(named["default"])
        (base / "additional_chat_templates" / "tool_use.jinja").write_text(named["tool_use"])
    extend_base(Extend(base=base, out=tmp_path / "out", tokenizer_only=True, **genes))
    (tmp_path / "carried").mkdir()
    carry_tokenizer(tmp_path / "out", tmp_path / "carried")
    for folder in ("out", "carried"):
        carried = AutoTokenizer.from_pretrained(tmp_path / folder).chat_template
        assert {name: template.split("\n", 1)[1] for name, template in carried.items()} == named


def test_a_chat_template_does_not_leave_its_folder(byte_level_base, genes, tmp_path):
    listed = [{"name": "../../evil", "template": "x"}]
    base = written(tmp_path / "base", json.loads(byte_level_base.tokenizer.to_str()), chat_template=listed)
    with pytest.raises(UserError, match=r"chat template '\.\./\.\./evil'"):
        extend_base(Extend(base=base, out=tmp_path / "out", tokenizer_only=True, **genes))
    assert not (tmp_path / "evil.jinja").exists()


DATED = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
"""As Llama 3.2 Instruct has it, without tools."""
BARE = "{% for m in messages %}{{ strftime_now('%Y-%m-%d') + m['content'] }}{% endfor %}"


def rendered(tokenizer, monkeypatch, day, **more) -> str:
    clock = type("Clock", (), {"now": staticmethod(lambda: day)})
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", clock)
    return tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True, **more)


@pytest.mark.parametrize(("template", "written_date"), [(DATED, "26 Jul 2024"), (BARE, "2024-07-26")])
def test_a_chat_template_with_todays_date_gets_a_fixed_one(byte_level_base, genes, tmp_path, monkeypatch, template, written_date):
    document = json.loads(byte_level_base.tokenizer.to_str())
    base = written(tmp_path / "base", document, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", chat_template=template)
    extend_base(Extend(base=base, out=tmp_path / "out", tokenizer_only=True, **genes))
    _, first, kept = (tmp_path / "out" / "chat_template.jinja").read_text().split("\n", 2)
    assert kept == template, "byte for byte"
    assert "strftime_now" in first
    assert "fixes that to 26 Jul 2024" in json.loads((tmp_path / "out" / "extension_report.json").read_text())["notes"][-1]
    days = datetime(2026, 11, 21), datetime(2026, 11, 22)
    own, fixed = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(tmp_path / "out")
    today, tomorrow = (rendered(own, monkeypatch, day) for day in days)
    assert today != tomorrow
    assert {rendered(fixed, monkeypatch, day) for day in days} == {rendered(own, monkeypatch, datetime(2024, 7, 26))}
    assert written_date in rendered(fixed, monkeypatch, days[0])
    if template == DATED:
        assert "Today Date: 1 May" in rendered(fixed, monkeypatch, days[0], date_string="1 May"), "a caller's own date still counts"
    assert with_fixed_date(fixed.chat_template) == fixed.chat_template


def test_other_chat_templates_are_kept_and_a_date_that_cannot_be_fixed_is_refused(byte_level_base, genes, tmp_path):
    harmless = "{% if strftime_now is defined %}{% endif %}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert with_fixed_date(harmless) == harmless
    assert with_fixed_date({"default": harmless, "tool": BARE})["default"] == harmless
    document = json.loads(byte_level_base.tokenizer.to_str())
    base = written(tmp_path / "base", document, chat_template="{% set form = '%Y' %}{{ strftime_now(form) }}")
    with pytest.raises(UserError, match="today's date in a way that cannot be fixed"):
        extend_base(Extend(base=base, out=tmp_path / "out", tokenizer_only=True, **genes))


# --- what is no LLaMA's -----------------------------------------------------------------------------------------------


@pytest.fixture
def qwen(byte_level_base, tmp_path) -> Path:
    """As Qwen's: no begin of text, `<s>` an ordinary piece, special tokens of its own, padding in front."""
    document = json.loads(byte_level_base.tokenizer.to_str())
    document["added_tokens"] = []
    vocab, merges = document["model"]["vocab"], document["model"]["merges"]
    for name in [name for name in vocab if name.startswith("<|")]:
        vocab[f"x{name}"] = vocab.pop(name)
    for pair in (("<", "s"), ("<s", ">"), ("<", "/"), ("</", "s"), ("</s", ">")):
        if "".join(pair) not in vocab:
            vocab["".join(pair)] = max(vocab.values()) + 1
        merges.append(list(pair))
    document["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision|>"])
    config = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None, "padding_side": "left"}
    config |= {"truncation_side": "left", "additional_special_tokens": ["<|im_start|>", "<|vision|>"], "cls_token": "<s>"}
    return written(tmp_path / "qwen", json.loads(tokenizer.to_str()), **config, chat_template=BARE)


@pytest.mark.parametrize("named", [True, False], ids=["null", "not named"])
def test_no_begin_of_text_is_made_of_an_ordinary_piece(qwen, genes, tmp_path, named):
    path = qwen / "tokenizer_config.json"
    config = json.loads(path.read_text())
    if not named:
        del config["bos_token"], config["cls_token"]
        path.write_text(json.dumps(config))
    extend_base(Extend(base=qwen, out=tmp_path / "out", tokenizer_only=True, **genes))
    ours, plain = AutoTokenizer.from_pretrained(tmp_path / "out"), Tokenizer.from_file(str(qwen / "tokenizer.json"))
    assert (ours.bos_token, ours.cls_token, ours.unk_token, ours.eos_token) == (None, None, None, "<|im_end|>")
    assert (ours.padding_side, ours.truncation_side) == ("left", "left")
    assert {"<|im_start|>", "<|vision|>"} <= set(ours.all_special_tokens)
    for text in ("x<s>y", "a</s> b", "<|im_start|>user\nhi<|im_end|>", "<|vision|>x", *english(20)):
        assert ours(text, add_special_tokens=False)["input_ids"] == ids(plain, text)
    assert plain.token_to_id("<s>") is not None


def test_an_unknown_token_is_kept(sentencepiece_file, genes, tmp_path):
    folder = hub_folder(tmp_path, sentencepiece_file)
    extend_base(Extend(base=folder, out=tmp_path / "out", tokenizer_only=True, **genes))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").unk_token == "<unk>"


def test_a_tokenizer_that_is_code_is_refused_by_name(qwen):
    path = qwen / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["tokenizer.HybridDNATokenizer", None]}}))
    with pytest.raises(UserError, match=r"qwen: its tokenizer is Python code of its own \(tokenizer.HybridDNATokenizer, by auto_map\)"):
        read_base(qwen)


def test_metas_own_file_is_passed_over_or_the_way_out_is_told(qwen, tmp_path):
    meta = qwen / "tokenizer.model"
    meta.write_bytes(b"IQ== 0\nIg== 1\nIw== 2\n")
    for path in (qwen, meta):
        assert read_base(path).tokenizer.to_str() == Tokenizer.from_file(str(qwen / "tokenizer.json")).to_str()
    (tmp_path / "alone").mkdir()
    alone = meta.rename(tmp_path / "alone" / "tokenizer.model")
    for path in (alone, alone.parent):
        with pytest.raises(UserError, match=r"alone/tokenizer.model: Meta's own format \(tiktoken\).*put the tokenizer.json"):
            read_base(path)


@pytest.mark.shared
@pytest.mark.parametrize("version", ["v1", "v3"])
def test_the_real_mistral_chat(shared_data, tmp_path, version):
    folder = hub_folder(tmp_path, shared_data / "tokenizers" / f"mistral_tokenizer.model.{version}", legacy=False)
    auto, base = AutoTokenizer.from_pretrained(folder), read_base(folder)
    for text in (CHAT, "[INST] Hi there[/INST] Sure</s>[INST] More[/INST]", "a</s>b"):
        assert ids(base.tokenizer, text) == auto(text, add_special_tokens=False)["input_ids"]
    (folder / "tokenizer.json").unlink()
    alone = read_base(folder)
    assert ids(alone.tokenizer, CHAT) == ids(base.tokenizer, CHAT)
