"""The design's properties against an oracle that knows nothing of the normalizer, for both base families.

The oracle cuts a text at special tokens and tags, gives each piece of prose to the *base*, each run of letters in a span
to the *gene BPE*, and joins the ids. "The base's ids of a piece" means its ids in the same context:

- byte-level: special tokens and tags cut the text before the split pattern sees it, so a piece is encoded on its own;
- SentencePiece: a text begins with one blank of its own, unless it begins with a tag or a special token; what follows one of
  those has none. So a piece is encoded without that blank, which the oracle writes out where it belongs.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples import letters
from tokenizers import Tokenizer, models, trainers
from transformers import AutoTokenizer

from artefacts.errors import Ledger
from sequences.alphabets import ALPHABETS, DNA, NUCLEOTIDES, PROTEIN, RESIDUES, TAGS, Alphabet
from sequences.readers import read_sequences
from tokenizer.base import SENTENCEPIECE, Base, from_sentencepiece
from tokenizer.create import train_byte_level
from tokenizer.kmers import without_mark
from tokenizer.private import choose
from tokenizer.saving import save_tokenizer
from tokenizer.vocabulary import PAD, NewIds, extend

# ---------------------------------------------------------------------------------------------------------------- oracle


@dataclass
class Case:
    """A base, its extension, and the plain gene BPEs."""

    base: Base
    dna: Tokenizer
    protein: Tokenizer
    extended: Tokenizer = field(init=False)
    new: NewIds = field(init=False)

    def __post_init__(self) -> None:
        self.extended, self.new, _ = extend(self.base, self.dna, self.protein)
        document = json.loads(self.base.tokenizer.to_str())
        never = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}
        bare = document | {"pre_tokenizer": never} if self.base.family == SENTENCEPIECE else document
        self.bare = Tokenizer.from_str(json.dumps(bare))  # without SentencePiece's leading blank
        self.special = {token["content"]: token["id"] for token in document["added_tokens"]} | {PAD: self.new.pad}
        self.piece_of = {index: piece for pieces in self.new.pieces.values() for piece, index in pieces.items()}

    def ids(self, text: str) -> list[int]:
        return self.extended.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.extended.decode(ids, skip_special_tokens=False)

    def gene_ids(self, alphabet: Alphabet, run: str) -> list[int]:
        name, bpe = ("protein", self.protein) if alphabet is PROTEIN else ("dna", self.dna)
        return [self.new.pieces[name][without_mark(piece)] for piece in bpe.encode(alphabet.clean(run)).tokens]

    def oracle(self, text: str) -> list[int]:
        """Ids that a text must have."""
        found: list[int] = []
        for number, segment in enumerate(re.split(f"({'|'.join(map(re.escape, self.special))})", text)):
            if segment in self.special:
                found.append(self.special[segment])
                continue
            if self.base.family == SENTENCEPIECE and number == 0 and segment and not segment.startswith(tuple(TAGS)):
                segment = " " + segment
            for alphabet, piece in pieces_of(segment):
                if piece in self.new.tags:
                    found.append(self.new.tags[piece])
                elif alphabet is None:
                    found += self.bare.encode(piece, add_special_tokens=False).ids
                else:
                    for run in re.findall(r"[A-Za-z*]+|[^A-Za-z*]+", piece):
                        white = run.isspace()
                        found += self.bare.encode(run, add_special_tokens=False).ids if white else self.gene_ids(alphabet, run)
        return found


def pieces_of(text: str) -> Iterator[tuple[Alphabet | None, str]]:
    """Tags, sequences (with their alphabet) and prose, in order."""
    parts = re.split(f"({'|'.join(TAGS)})", text)
    for index, part in enumerate(parts):
        before, after = parts[index - 1] if index else "", parts[index + 1] if index + 1 < len(parts) else ""
        alphabet = next((one for one in ALPHABETS.values() if before == one.open_tag and after in ("", one.close_tag)), None)
        if alphabet is not None and after == "" and index + 1 < len(parts):
            alphabet = None
        allowed = alphabet and {*alphabet.letters, *alphabet.letters.lower(), *alphabet.synonyms, *map(str.lower, alphabet.synonyms)}
        # Python counts U+001C to U+001F as white space, Unicode and the normalizer do not
        inside = allowed and all(letter in allowed or (letter.isspace() and letter not in "\x1c\x1d\x1e\x1f") for letter in part)
        yield (alphabet if inside and not has_words(part) else None), part


def has_words(part: str) -> bool:
    """Whether a blank stands in what is otherwise a sequence, and neither beside a line break nor between two capitals."""
    runs = ["".join(run) for _, run in groupby(part, key=str.isspace)]
    ends = ["", *runs, ""]
    return any(
        run.isspace()
        and len(run.splitlines()) == 1
        and run.splitlines()[0] == run
        and not (capital(ends[at][-1:]) and capital(ends[at + 2][:1]))
        for at, run in enumerate(runs)
    )


def capital(letter: str) -> bool:
    return letter == "*" or letter.isupper()


def read_back(text: str) -> str:
    """What must come back of a text: upper case inside spans, U as T in RNA; nothing else changes."""

    def written(alphabet: Alphabet | None, piece: str) -> str:
        if alphabet is None:
            return piece
        return "".join(alphabet.synonyms.get(letter.upper(), letter.upper()) if letter.isascii() else letter for letter in piece)

    return "".join(written(alphabet, piece) for alphabet, piece in pieces_of(text))


# ------------------------------------------------------------------------------------------------- made texts, small vocabularies

SPECIAL = ["<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>user<|end_header_id|>\n\n", "<s>", "</s>", "[INST] ", " [/INST]", PAD]
WORDS = ["see", " ", "in the ", "gene", "GATTACA", "U", "*", "<", "</", "<DNA>", "< dna>", "dna>", "\n", "▁", "naïve", "基因", "🧬", "\x1c"]
PROSE = st.text(st.characters(exclude_categories=("Cs", "Co")), max_size=30)
LETTERS = {
    "dna": NUCLEOTIDES + NUCLEOTIDES.lower(),
    "rna": NUCLEOTIDES + "U" + NUCLEOTIDES.lower() + "u",
    "protein": RESIDUES + RESIDUES.lower(),
}
BREAKS = st.sampled_from(["", "", "", "\n", "\r\n", " ", "  ", "\t", "\u2028"])


@st.composite
def spans(draw, foreign: bool = True) -> str:
    """A span: any letters, line breaks, no letters at all, sometimes with a foreign letter or without its closing tag."""
    name = draw(st.sampled_from(list(LETTERS)))
    runs = draw(st.lists(st.text(LETTERS[name], max_size=30), max_size=4))
    inside = "".join(run + draw(BREAKS) for run in runs)
    if foreign and draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(inside)))
        inside = inside[:at] + draw(st.sampled_from(["!", "-", ".", "1", "ſ", "\u212a", "é", "U", "<", ">", "\x1d"])) + inside[at:]
    closing = "" if foreign and draw(st.integers(0, 7)) == 0 else f"</{name}>"
    return f"<{name}>{inside}{closing}"


MOSAIC = st.lists(spans() | st.sampled_from(TAGS) | st.sampled_from(WORDS) | PROSE, max_size=10).map("".join)
WITH_SPECIAL = st.lists(MOSAIC | st.sampled_from(SPECIAL), max_size=6).map("".join)


NEAR_OURS = "".join(map(chr, range(0x10A000, 0x10B000)))
"""What begins with the same two bytes as our private characters, which byte-level bases now join."""


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def case(request, byte_level_base, sentencepiece_base, genes) -> Case:
    return Case(byte_level_base if request.param == "byte-level" else sentencepiece_base, *genes)


@given(text=WITH_SPECIAL)
@example("<dna>AC<dna>GT</dna></dna>")
@example("<dna><protein>MK</protein></dna>")
@example("<dna>ACGT</dna><dna>ACGT</dna><rna>ACGU</rna><protein>MK</protein>")
@example("un<dna>ACGT</dna>like ha<protein>MKUO*</protein>lf")
@example("<dna></dna><rna></rna><protein></protein>")
@example("<dna>\nACGT\nACGT\n</dna>\r\n<protein>MK\r\nWV\r\n</protein>")
@example("<dna>ACGU</dna><rna>acguN</rna><protein>mku*X</protein>")
@example("<dna>AC</s>GT</dna> <dna>AC<|eot_id|>GT</dna>")
@example("</dna>ACGT<dna>")
@example("the <dna> tag and the <protein> tag")
@example("Put DNA between <dna> and </dna>.")
@example("The <dna> tag")
@example("Sequences: <protein>as in\na card")
@example("<dna>ACGT ACGT</dna><dna>ACGT acgt</dna><dna> ACGT</dna><dna>ACGT\t</dna><dna>\n  acgt \n acgt\u2028\t</dna>")
@settings(max_examples=300, deadline=None)
def test_ids_are_the_bases_outside_and_the_gene_bpes_inside(case, text):
    assert case.ids(text) == case.oracle(text)


@given(text=MOSAIC.filter(lambda text: "▁" not in text))
@settings(max_examples=100, deadline=None)
def test_text_comes_back(case, text):
    """`▁` aside, which SentencePiece itself reads as a blank."""
    assert case.decode(case.ids(text)) == read_back(text)


@given(text=MOSAIC.filter(lambda text: "▁" not in text))
@settings(max_examples=150, deadline=None)
def test_ids_come_back(case, text):
    ids = case.ids(text)
    assert case.ids(case.decode(ids)) == ids


@given(data=st.data(), name=st.sampled_from(["dna", "protein"]))
@settings(max_examples=100, deadline=None)
def test_any_pieces_that_a_model_writes_are_read_with_all_their_letters(case, data, name):
    """Also pieces that the BPE would have chosen otherwise."""
    pieces = data.draw(st.lists(st.sampled_from(list(case.new.pieces[name])), max_size=30))
    inside = [case.new.pieces[name][piece] for piece in pieces]
    assert case.decode([case.new.tags[f"<{name}>"], *inside, case.new.tags[f"</{name}>"]]) == f"<{name}>{''.join(pieces)}</{name}>"


@given(before=WITH_SPECIAL, after=WITH_SPECIAL, span=spans(foreign=False))
@settings(max_examples=150, deadline=None)
def test_a_span_costs_the_same_whatever_stands_around(case, before, after, span):
    alone, whole = case.ids(span), case.ids(before + span + after)
    assert any(whole[at : at + len(alone)] == alone for at in range(len(whole)))


@given(text=MOSAIC)
@settings(max_examples=150, deadline=None)
def test_offsets_point_at_the_letters(case, text):
    encoding = case.extended.encode(text, add_special_tokens=False)
    found = [
        (case.piece_of[index], text[a:b]) for index, (a, b) in zip(encoding.ids, encoding.offsets, strict=True) if index in case.piece_of
    ]
    assert [piece for piece, _ in found] == [
        written.upper().replace("U", "T") if "U" not in piece else written.upper() for piece, written in found
    ]


@given(text=st.text(st.characters(categories=["Co"], exclude_characters=NEAR_OURS), max_size=20))
@example("\ue0b0 \uf113 \uf8ff")
@example("\U000f0001 \U000f0a00 \U000f1af0")
@example("\U00100000 \U00101b00 \U0010fc00")
@settings(max_examples=100, deadline=None)
def test_other_peoples_private_characters_keep_the_bases_ids(case, text):
    """Icon fonts and PDF extraction put private-use characters into ordinary text (Nerd Fonts: U+F0001 to U+F1AF0)."""
    assert case.ids(text) == case.base.tokenizer.encode(text, add_special_tokens=False).ids


def test_our_own_private_characters_in_a_text_are_the_one_exception(case):
    """They are pieces, so a text made of them does not keep the base's ids; it is read as letters and nothing is lost."""
    private = choose()
    text = "".join(private.characters)
    assert case.decode(case.ids(text)) == "".join([*private.nucleotides, *private.residues])


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=lambda alphabet: alphabet.name)
def test_long_spans(case, alphabet):
    """100,000 letters in lines of 60; the cost is linear: ten times the letters, at most thirty times the seconds."""
    sequence = letters(LETTERS[alphabet.name], 100_000, 3)
    wrapped = "\r\n".join(sequence[at : at + 60] for at in range(0, len(sequence), 60))
    assert case.decode(case.ids(f"see <{alphabet.name}>{wrapped}</{alphabet.name}>")) == read_back(
        f"see <{alphabet.name}>{wrapped}</{alphabet.name}>"
    )
    assert case.ids(alphabet.open_tag + sequence)[1:] == case.gene_ids(alphabet, sequence)

    def seconds(text: str) -> float:
        times = []
        for _ in range(2):
            started = time.perf_counter()
            case.ids(text)
            times.append(time.perf_counter() - started)
        return min(times)

    assert seconds(alphabet.open_tag + sequence) < 30 * seconds(alphabet.open_tag + sequence[:10_000])


def test_many_open_tags_take_linear_time(case):
    """Each opening tag looks ahead for its end; none of these looks may be long."""
    text = "<dna>ACGT " * 20_000
    assert len(case.ids(text)) > 40_000


@pytest.fixture(scope="module")
def loaded(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save_tokenizer(case.extended, folder, case.base.family, {**case.base.config, "pad_token": PAD})
    return AutoTokenizer.from_pretrained(folder)


@given(text=WITH_SPECIAL)
@settings(max_examples=100, deadline=None)
def test_autotokenizer_reads_the_same(case, loaded, text):
    assert loaded(text, add_special_tokens=False)["input_ids"] == case.ids(text)


@given(turns=st.lists(MOSAIC, min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_the_chat_template_gives_the_ids_of_what_it_renders(case, loaded, turns):
    messages = [{"role": "assistant" if index % 2 else "user", "content": turn} for index, turn in enumerate(turns)]
    rendered = loaded.apply_chat_template(messages, tokenize=False)
    ids = loaded.apply_chat_template(messages, tokenize=True)["input_ids"]
    assert ids == case.ids(rendered) == case.oracle(rendered)


# ------------------------------------------------------------------------------------------ real data, 30,000 + 30,000 pieces


def windows(files: list[Path], alphabet: Alphabet, limit: int) -> list[str]:
    sequences = (sequence.letters for file in files for sequence in read_sequences(file, alphabet, Ledger()))
    return list(islice((whole[at : at + 512] for whole in sequences for at in range(0, len(whole), 512)), limit // 512))


@pytest.fixture(scope="module")
def big_bpes(shared_data) -> tuple[Tokenizer, Tokenizer]:
    found = []
    genomes = [shared_data / "genomes" / name for name in ("dmelanogaster_1pct.fa", "caulobacter_CB15_NC_002696.fna")]
    proteins = [shared_data / "proteins" / name for name in ("swissprot_human_noexp_cafa.faa", "prokka_sprot_viruses.faa")]
    for alphabet, files in ((DNA, genomes), (PROTEIN, proteins)):
        bpe = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(vocab_size=30_000, initial_alphabet=list(alphabet.letters), max_token_length=13, show_progress=False)
        bpe.train_from_iterator(windows(files, alphabet, 2_500_000), trainer)
        assert bpe.get_vocab_size() == 30_000
        found.append(bpe)
    return found[0], found[1]


@pytest.fixture(scope="module")
def real_lines(shared_data) -> list[str]:
    found: list[str] = []
    for name in ("openstax_microbiology", "pmc_ccby_evidence_inference"):
        with gzip.open(shared_data / "text" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as handle:
            found += [line for record in islice(handle, 60) for line in json.loads(record)["text"].splitlines(keepends=True)]
    return found


@pytest.fixture(scope="module", params=["byte-level", "mistral v1", "mistral v3"])
def real(request, shared_data, big_bpes, real_lines, tmp_path_factory) -> Case:
    if request.param == "byte-level":
        path = tmp_path_factory.mktemp("real") / "text.txt"
        path.write_text("".join(real_lines[:4000]), encoding="utf-8")
        return Case(train_byte_level([path], 8000, Ledger()), *big_bpes)
    return Case(from_sentencepiece(shared_data / "tokenizers" / f"mistral_tokenizer.model.{request.param[-2:]}", {}), *big_bpes)


@pytest.mark.slow
@pytest.mark.shared
def test_real_text_and_sequences_at_full_size(real, real_lines, shared_data, tmp_path):
    """Real lines alone, and real lines around held-out genome and proteome spans; reloaded; read back."""
    base, extended = real.base.tokenizer, real.extended
    plain = base.encode_batch_fast(real_lines, add_special_tokens=False)
    assert [encoding.ids for encoding in extended.encode_batch_fast(real_lines, add_special_tokens=False)] == [one.ids for one in plain]
    if real.base.family == SENTENCEPIECE:
        model = next(path for path in (shared_data / "tokenizers").iterdir() if same_pieces(path, base))
        assert sentencepiece.SentencePieceProcessor(str(model)).encode(real_lines) == [one.ids for one in plain]
    genome = windows([shared_data / "genomes" / "lambda_phage_NC_001416.fa", shared_data / "genomes" / "celegans_1pct.fa"], DNA, 200_000)
    proteome = windows([shared_data / "proteins" / "ecoli_K12_refseq_proteins.faa"], PROTEIN, 200_000)
    texts = []
    for index, (dna, protein) in enumerate(zip(genome, proteome, strict=False)):
        one, two = real_lines[7 * index], real_lines[7 * index + 1]
        rna = dna[:90].replace("T", "U").lower()
        texts.append(f"{one}<dna>{dna}</dna>{two} <protein>{protein}</protein><rna>{rna}</rna>{one}")
    ids = [encoding.ids for encoding in extended.encode_batch(texts, add_special_tokens=False)]
    for text, found in zip(texts, ids, strict=True):
        assert found == real.oracle(text)
        assert real.decode(found) == read_back(text)
    save_tokenizer(extended, tmp_path, real.base.family, {**real.base.config, "pad_token": PAD})
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(texts[:100], add_special_tokens=False)["input_ids"] == ids[:100]


def same_pieces(path: Path, base: Tokenizer) -> bool:
    library = sentencepiece.SentencePieceProcessor(str(path))
    return library.vocab_size() == base.get_vocab_size()
