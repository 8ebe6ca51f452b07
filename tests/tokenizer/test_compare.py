"""The report of an extension: what it claims holds, what it finds in the other ways is there, and its page shows it."""

from __future__ import annotations

import io
import json
import re

import pytest
import sentencepiece
import sentencepiece.sentencepiece_model_pb2 as pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import english, letters
from tokenizers import Tokenizer, normalizers

from artefacts.errors import UserError
from sequences.alphabets import ALPHABETS, DNA, NUCLEOTIDES, PROTEIN, TAGS
from sequences.spans import spans
from tokenizer.base import SENTENCEPIECE, from_sentencepiece
from tokenizer.report.compare import compare
from tokenizer.report.heldout import Heldout
from tokenizer.report.loss import sample
from tokenizer.report.page import write_page
from tokenizer.report.ways import CAPITALS, donor, merge_by_score, probe_lines
from tokenizer.vocabulary import extend

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture(scope="module")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> Heldout:
    folder = tmp_path_factory.mktemp("heldout")
    (folder / "dna.fa").write_text("".join(f">{i}\n{letters('ACGT', 900, 100 + i)}\n" for i in range(4)))
    (folder / "protein.fa").write_text("".join(f">{i}\n{letters(RESIDUES, 300, 200 + i)}\n" for i in range(4)))
    extra = ["see <dna>ACGT</dna> here", "the <rna> tag is a tag"]
    (folder / "text.txt").write_text("\n\n".join(english(60, 9) + extra), encoding="utf-8")
    return Heldout(dna=[folder / "dna.fa"], protein=[folder / "protein.fa"], text=[folder / "text.txt"])


@pytest.fixture(scope="module")
def reported(family, heldout, dna_bpe, protein_bpe, sentencepiece_file):
    """(base, extended tokenizer, new ids, report) for each base family."""
    base, extended, new = family
    model = sentencepiece_file if base.family == SENTENCEPIECE else None
    genes = {"dna": dna_bpe, "protein": protein_bpe}
    report = compare(base.tokenizer, extended, new, heldout, base.family, genes=genes, base_model=model)
    return base, extended, new, json.loads(json.dumps(report))


def test_ours_changes_no_text_has_no_dead_piece_and_keeps_the_own_segmentation(reported):
    _, _, new, report = reported
    ours = report["ways"]["ours"]
    for text in (ours["text"], ours["probe"], report["text"]["heldout"], report["text"]["probe"]):
        assert text["lines"] > 20
        assert text["lines_changed"] == text["lines_with_capitals_changed"] == 0
    assert ours["unreachable"] == 0
    assert ours["new_ids"] == sum(map(len, new.pieces.values()))
    assert ours["dna"]["agreement"] == ours["protein"]["agreement"] == 1.0
    for name in ("dna", "protein"):
        assert ours[name]["new_ids"] == report["modalities"][name]["new_ids"]
        assert ours[name]["new_ids_used"] == report["modalities"][name]["new_ids_used"]


def test_the_share_of_new_ids_in_use_of_add_tokens(reported, heldout, dna_bpe):
    """Counted by cutting the longest added piece out at each place, which is what `add_tokens` does."""
    base, *_, report = reported
    vocab = base.tokenizer.get_vocab()
    fresh = {piece for piece in dna_bpe.get_vocab() if piece not in vocab}
    way = report["ways"]["add_tokens"]
    proteins = way["protein"]["new_ids"]
    assert way["dna"]["new_ids"] == len(fresh) == way["new_ids"] - proteins
    sequences = heldout.dna[0].read_text().split("\n")[1::2]
    longest, used = max(map(len, fresh)), set()
    for window in (sequence[i : i + 512] for sequence in sequences for i in range(0, len(sequence), 512)):
        place = 0
        while place < len(window):
            found = [window[place : place + size] for size in range(longest, 0, -1) if window[place : place + size] in fresh]
            used |= set(found[:1])
            place += len(found[0]) if found else 1
    assert way["dna"]["new_ids_used"] == len(used) / len(fresh)


def test_add_tokens_changes_text_and_does_not_keep_the_own_segmentation(reported):
    way = reported[-1]["ways"]["add_tokens"]
    assert way["probe"]["lines_changed"] > 50
    assert way["probe"]["lines_with_capitals_changed"] <= way["probe"]["lines_changed"]
    assert way["dna"]["agreement"] < 1
    assert way["unreachable"] == 0


def test_the_original_merge_is_compared_where_the_base_is_sentencepiece(reported):
    base, *_, report = reported
    way = report["ways"]["legacy_spm"]
    if base.family == SENTENCEPIECE:
        assert way["probe"]["lines_changed"] > 0
        assert way["dna"]["agreement"] < 1
    else:
        assert way == {"skipped": "the original merge needs a SentencePiece base"}


def test_figures_are_those_of_an_independent_count(reported, heldout, dna_bpe):
    """Tokens, lengths and the most used pieces, counted from the gene BPE alone, which the extension must equal."""
    base, _, _, report = reported
    row = report["modalities"]["dna"]
    sequences = heldout.dna[0].read_text().split("\n")[1::2]
    windows = [sequence[i : i + 512] for sequence in sequences for i in range(0, len(sequence), 512)]
    own = [piece for window in windows for piece in dna_bpe.encode(window).tokens]
    assert row["heldout_letters"] == sum(map(len, windows)) == 3600
    assert row["tokens_after"] == len(own)
    assert row["tokens_before"] == sum(len(base.tokenizer.encode(w, add_special_tokens=False).ids) for w in windows)
    assert row["new_ids_used"] == len(set(own)) / dna_bpe.get_vocab_size()
    for bar in row["piece_lengths"]:
        assert bar["tokens"] == sum(len(piece) == bar["letters"] for piece in own)
        assert bar["used"] == sum(len(piece) == bar["letters"] for piece in set(own))
        assert bar["pieces"] == sum(len(piece) == bar["letters"] for piece in dna_bpe.get_vocab())
    assert row["most_used"] == [[piece, own.count(piece)] for piece, _ in row["most_used"]]
    assert min(count for _, count in row["most_used"]) >= max(own.count(p) for p in set(own) - {p for p, _ in row["most_used"]})
    assert "".join(row["example"]["after"]) == sequences[0][:60]


def test_lines_with_spans_and_tags_are_told_apart(reported):
    text = reported[-1]["text"]["heldout"]
    assert (text["lines"], text["lines_with_a_span"], text["lines_with_a_tag"]) == (60, 1, 1)
    assert reported[-1]["modalities"]["text"] == text


def test_reachability_of_pieces_tags_pad_and_glue(reported):
    base, _, new, report = reported
    reach = report["reachability"]
    for name in ("dna", "protein"):
        assert reach[name] == {"pieces": len(new.pieces[name]), "reachable": len(new.pieces[name]), "unreachable": []}
    assert reach["tags"] == {"ids": 6, "reachable": 6}
    assert reach["pad"] == {"ids": 1, "reachable": 1}
    assert reach["glue"] == {"ids": 0 if base.family == SENTENCEPIECE else 2, "reachable": 0}


def test_a_piece_that_cannot_be_reached_is_refused(family, dna_bpe, protein_bpe):
    """Without its merges a piece stays in the vocabulary and is never produced; Llama 3's ignore_merges must not hide it."""
    base, *_ = family
    document = json.loads(dna_bpe.to_str())
    piece = "".join(document["model"]["merges"].pop())
    extended, new, _ = extend(base, Tokenizer.from_str(json.dumps(document)), protein_bpe)
    with pytest.raises(UserError, match=f"1 of {len(new.pieces['dna'])} dna pieces, the first '{piece}', are given by no sequence"):
        compare(base.tokenizer, extended, new, Heldout(), base.family)


def test_heldout_records_that_are_set_aside_are_counted(family, tmp_path):
    base, extended, new = family
    (tmp_path / "dna.fa").write_text(">good\nACGTACGT\n" + "".join(f">bad{i}\nAC-T\n" for i in range(7)) + ">none\n")
    (tmp_path / "text.jsonl").write_text('{"text": "The gene binds ATP."}\n{"text": " "}\n')
    files = Heldout(dna=[tmp_path / "dna.fa"], text=[tmp_path / "text.jsonl"], ways=False)
    modalities = compare(base.tokenizer, extended, new, files, base.family)["modalities"]
    assert modalities["dna"]["heldout_set_aside"] == {"empty sequence": 1, "letter outside dna": 7}
    assert modalities["text"]["heldout_set_aside"] == {"empty text": 1}
    assert sample(files).set_aside == {name: row["heldout_set_aside"] for name, row in modalities.items()}


def test_text_that_changes_is_refused_even_without_files(family):
    base, extended, new = family
    careless = Tokenizer.from_str(extended.to_str())
    careless.add_tokens(["GATTACA"])
    with pytest.raises(UserError, match="lines of text would get other ids than in the base, the first: 'GATTACA"):
        compare(base.tokenizer, careless, new, Heldout(), base.family)


def test_a_change_beside_a_mentioned_tag_is_refused(family):
    base, extended, new = family
    careless = Tokenizer.from_str(extended.to_str())
    careless.normalizer = normalizers.Sequence([careless.normalizer, normalizers.Replace("<dna> opens a span", "<dna> opens the span")])
    with pytest.raises(UserError, match="<dna> opens a span"):
        compare(base.tokenizer, careless, new, Heldout(), base.family)


def test_ways_are_skipped_with_their_reason(family, dna_bpe, protein_bpe, heldout):
    base, extended, new = family
    genes = {"dna": dna_bpe, "protein": protein_bpe}

    def ways(files: Heldout, **more) -> dict:
        return compare(base.tokenizer, extended, new, files, base.family, **more)["ways"]

    assert ways(Heldout(), genes=genes) == {"skipped": "no held-out files were given"}
    if base.family == SENTENCEPIECE:
        assert ways(heldout, genes=genes)["legacy_spm"] == {"skipped": "the base's tokenizer.model is not at hand"}
    assert ways(heldout) == {"skipped": "the gene BPEs are not at hand"}
    assert ways(heldout.model_copy(update={"ways": False}), genes=genes) == {"skipped": "heldout.ways is off"}


def test_the_probe_is_text_alone():
    lines = probe_lines()
    assert len(set(lines)) == len(lines) >= 300
    assert not [line for line in lines if any(span.mapped for span in spans(line))]
    assert sum(bool(CAPITALS.search(line)) for line in lines) > 200
    assert sum(any(tag in line for tag in TAGS) for line in lines) >= 4
    assert not re.search("[\ue000-\uf8ff\U000f0000-\U0010fffd]", "".join(lines))


PARTS = st.lists(
    st.one_of(st.sampled_from(TAGS), st.text(NUCLEOTIDES.lower() + NUCLEOTIDES + "UuE \n", max_size=6), st.sampled_from(["!", "<", "x1"])),
    max_size=8,
)


@given(parts=PARTS)
@settings(max_examples=400, deadline=None)
def test_spans_are_those_that_the_tokenizer_maps(family, parts):
    """The rule in Python and the tokenizer's normalizer agree on which spans are sequences."""
    _, extended, new = family
    text = "".join(parts)
    pieces = {index for found in new.pieces.values() for index in found.values()}
    encoding = extended.encode(text, add_special_tokens=False)
    mapped = {
        position
        for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        if index in pieces
        for position in range(start, end)
    }
    expected = {p for span in spans(text) if span.mapped for p in range(span.start, span.end) if not text[p].isspace()}
    assert mapped == expected


def test_donor_scores_are_those_of_the_sentencepiece_trainer():
    """A model that sentencepiece trained gets back its own scores from the order of its pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([letters("ACGT", 300, i) for i in range(60)]),
        model_writer=model, model_type="bpe", vocab_size=60, add_dummy_prefix=False, minloglevel=2,
    )  # fmt: skip
    proto = pb2.ModelProto()  # type: ignore[attr-defined] # protobuf makes the class at import time
    proto.ParseFromString(model.getvalue())
    trained = [(piece.piece, piece.score) for piece in proto.pieces if piece.type == 1]
    singles = [piece for piece, _ in trained if len(piece) == 1]
    merged = [piece for piece, _ in trained if len(piece) > 1]
    assert len(singles) >= 4
    assert len(merged) > 40
    assert donor([*singles, *merged]) == trained  # our BPEs number letters first


def test_the_merge_appends_only_what_is_missing_and_changes_no_score(sentencepiece_file, dna_bpe, protein_bpe):
    donors = [donor(sorted(bpe.get_vocab(), key=bpe.get_vocab().__getitem__)) for bpe in (dna_bpe, protein_bpe)]
    base = sentencepiece.SentencePieceProcessor(str(sentencepiece_file))
    merged, appended = merge_by_score(sentencepiece_file, donors)
    size = base.get_piece_size()
    assert [merged.id_to_piece(i) for i in range(size)] == [base.id_to_piece(i) for i in range(size)]
    assert list(appended.values()) == list(range(size, merged.get_piece_size()))
    first = dict(donors[1]) | dict(donors[0])  # DNA is merged first and keeps a piece that both have
    assert {piece: merged.get_score(index) for piece, index in appended.items()} == {piece: first[piece] for piece in appended}
    assert set(appended) == set(first) - {base.id_to_piece(i) for i in range(size)}


def test_the_page_shows_the_report_and_loads_nothing(reported, tmp_path):
    *_, report = reported
    report = json.loads(json.dumps(report))
    report["modalities"]["dna"]["example"]["before"][0] = "<script>"
    near = [{"piece": "<dna>", "nearest": [["text:start", 0.5], ["GG", -0.25]]}]
    figures = {"base_norm": 1.5, "new_norm": 1.25, "new_deviation": 0.0123, "neighbours": near}
    report["rows"] = {"tied": True, "rows": 777, "input": figures}
    report["notes"] = ["merges in the <file>'s order"]
    report["initial_loss"] = {
        "dna": {"bits_per_letter": 2.345, "unit": "base", "bound": 2.0, "letters": 3600},
        "text": {"bits_per_byte": 1.234, "base_bits_per_byte": 1.233},
    }
    write_page(report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    row = report["modalities"]["dna"]
    shown = [
        f"{row['letters_per_token_after']:.2f}",
        f"{row['tokens_before']:,}",
        "2.345",
        "1.234",
        "1.233",
        "0.0123",
        "GG −0.25",
        "777",
        row["most_used"][0][0],
    ]
    assert [word for word in shown if word not in page] == []
    assert "&lt;script&gt;" in page
    assert "merges in the &lt;file&gt;" in page
    assert not re.search(r"<script|<link|@import|url\(|src=|https?://", page)
    first = page
    write_page(report, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == first


@pytest.mark.parametrize("more", [{}, {"initial_loss": {"skipped": "no weights"}}])
def test_the_page_of_a_report_without_files_or_model(family, tmp_path, more):
    base, extended, new = family
    report = compare(base.tokenizer, extended, new, Heldout(), base.family) | more
    manifest = {
        "commit": "abc123",
        "recipe": {"seed": 7, "base": "llama", "heldout": {"dna": [], "max_letters": 5}},
        "inputs": {"base": "00ff"},
        "packages": {},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    write_page(report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert [word for word in ("abc123", "seed 7", "00ff", "No held-out sequences were given", "Not compared: ") if word not in page] == []
    assert ("Not measured: no weights" in page) == bool(more)
    assert "New embedding rows" not in page


@pytest.mark.shared
def test_the_original_merge_on_the_real_mistral_vocabulary(shared_data, tmp_path):
    """Real text changes and pieces die under the original merge; nothing does under ours."""
    from tokenizers import models, trainers

    from artefacts.errors import Ledger
    from sequences.readers import read_sequences

    genomes, proteins = shared_data / "genomes", shared_data / "proteins"
    train = {"dna": genomes / "ecoli_K12_MG1655_GCF_000005845.2.fna.gz", "protein": proteins / "ecoli_K12_refseq_proteins.faa"}
    genes = {}
    for alphabet in (DNA, PROTEIN):
        windows = [
            s.letters[i : i + 512] for s in read_sequences(train[alphabet.name], alphabet, Ledger()) for i in range(0, len(s.letters), 512)
        ]
        bpe = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(vocab_size=2048, initial_alphabet=list(alphabet.letters), max_token_length=13, show_progress=False)
        bpe.train_from_iterator(windows[:1500], trainer)
        genes[alphabet.name] = bpe
    path = shared_data / "tokenizers" / "mistral_tokenizer.model.v1"
    base = from_sentencepiece(path, {})
    extended, new, _ = extend(base, genes["dna"], genes["protein"])
    files = Heldout(
        dna=[genomes / "salmonella_LT2_GCF_000006945.1.fna.gz"],
        protein=[proteins / "prokka_sprot_archaea.faa"],
        text=[shared_data / "text" / "openstax_microbiology.jsonl.gz"],
        max_letters=100_000,
    )
    ways = compare(base.tokenizer, extended, new, files, base.family, genes=genes, base_model=path)["ways"]
    ours, legacy = ways["ours"], ways["legacy_spm"]
    assert ours["text"]["lines_changed"] == ours["probe"]["lines_changed"] == ours["unreachable"] == 0
    assert ours["dna"]["agreement"] == ours["protein"]["agreement"] == 1.0
    assert legacy["text"]["lines_changed"] > 0
    assert legacy["probe"]["share_with_capitals_changed"] > 0.2
    assert legacy["unreachable"] > 0
    assert legacy["dna"]["agreement"] < 0.05
    for name in ALPHABETS.keys() - {"rna"}:
        assert ours[name]["letters_per_token"] > legacy[name]["letters_per_token"]


def test_without_files_the_built_in_probe_leaves_nothing_open(family, dna_bpe, protein_bpe, tmp_path):
    """A gene, the proteins and English that come with the program; where our own figure is the worse one, it is red."""
    base, extended, new = family
    own = Heldout(dna=[tmp_path / "mine.fa"])
    assert own.filled().dna == own.dna
    assert own.probed == ["protein", "text"]
    report = compare(base.tokenizer, extended, new, Heldout().filled(), base.family, genes={"dna": dna_bpe, "protein": protein_bpe})
    assert {name: row.get("heldout_letters") for name, row in report["modalities"].items()} == {"dna": 444, "protein": 571, "text": None}
    report["probe"] = Heldout().probed
    write_page(report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Built-in probe</b> for DNA, protein, text." in page
    assert not [word for word in ("No held-out sequences", "Not compared") if word in page]
    for name, title in (("dna", "Bases"), ("protein", "Residues")):
        ours, theirs = (report["ways"][way][name]["letters_per_token"] for way in ("ours", "add_tokens"))
        cells = re.findall(r'<td class="n (\w*)">([\d.]+)</td>', page[page.index(f"{title} per token</td>") :])[:2]
        assert cells == [
            ("good" if ours >= theirs else "bad", f"{ours:.2f}"),
            ("good" if theirs >= ours else "bad", f"{theirs:.2f}"),
        ]
