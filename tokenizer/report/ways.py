"""Three ways to extend a vocabulary, side by side on the same held-out text and sequences.

- ours: private alphabets between tags
- add_tokens: the same pieces by `Tokenizer.add_tokens`, cut out of the text wherever they occur, longest first
- legacy_spm: the original LLaMA-Gene merge (`legacy_spm` below), for SentencePiece bases

A way is asked for the same things: which lines of text get other ids, how many letters a token holds, how many held-out
windows are segmented as the gene BPE alone would, how many of its new ids are in use there, and how many no text of
theirs ever gives. What a model is like at that point is asked in `tokenizer.report.models`.

The original merge is reproduced with the `sentencepiece` library, and nothing is built on it. Each piece of the donors (DNA first, then
protein) that the base does not have is appended with its donor's score unchanged. In a SentencePiece BPE the score is the priority of the
merge, so the three vocabularies interleave: text changes, sequences no longer segment as their own BPE does, and some pieces can never
be produced. Not supported: byte-level bases (the merge needs a SentencePiece model), and donors with pieces that begin with a blank.
"""

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import sentencepiece
import yaml
from tokenizers import AddedToken, Tokenizer
from tqdm import tqdm

from configs import CONFIGS
from sequences.alphabets import ALPHABETS
from tokenizer.kmers import without_mark
from tokenizer.spm import read_proto
from tokenizer.vocabulary import NewIds

CAPITALS = re.compile(r"\b[A-Z]{2,}\b")
"""A word in capitals, which pieces over A–Z are most likely to disturb."""


def probe_lines() -> list[str]:
    """What a careless extension breaks, so that every one is tried without any file: a few hundred lines of gene symbols, capitals,
    code, scripts, blanks, tags mentioned in prose; no span, no private-use character."""
    probe = yaml.safe_load((CONFIGS / "tokenizer" / "probe.yaml").read_text(encoding="utf-8"))
    words = f"{probe['genes']} {probe['words']}".split()
    return [*(frame.format(word, word, word) for word in words for frame in probe["frames"]), *probe["others"]]


def donor(pieces: Iterable[str]) -> list[tuple[str, float]]:
    """Pieces of a gene BPE with the scores that sentencepiece's own trainer would have written.

    The trainer numbers merges in the order in which they were learned, 0, -1, -2 …, and the single letters after them.

    Args:
        pieces: the BPE's pieces in order of their ids.
    """
    ordered = list(pieces)
    merged = [piece for piece in ordered if len(piece) > 1] + [piece for piece in ordered if len(piece) == 1]
    return [(piece, -float(rank)) for rank, piece in enumerate(merged)]


def merge_by_score(model: Path, donors: Iterable[list[tuple[str, float]]]) -> tuple[sentencepiece.SentencePieceProcessor, dict[str, int]]:
    """The merged model and the ids of the pieces that were appended.

    Args:
        model: the base's `tokenizer.model`.
        donors: pieces with scores, in the order in which they are merged.
    """
    proto = read_proto(model)
    present = {piece.piece for piece in proto.pieces}
    appended: dict[str, int] = {}
    for pieces in donors:
        for piece, score in pieces:
            if piece in present:
                continue
            present.add(piece)
            appended[piece] = len(proto.pieces)
            new = proto.pieces.add()
            new.piece, new.score = piece, score
    merged = sentencepiece.SentencePieceProcessor()
    merged.LoadFromSerializedProto(proto.SerializeToString())
    return merged, appended


MOST_LETTERS = 200_000
MOST_LINES = 5_000
BATCH = 1_000

Encode = Callable[[list[str]], list[list[int]]]
"""Texts to ids, no BOS."""
EncodeSequences = Callable[[str, list[str]], list[list[int]]]
"""Modality and sequences in plain letters to ids, tags left out."""


@dataclass(frozen=True)
class Way:
    """One way to extend: how it encodes, and what its ids mean."""

    text: Encode
    sequences: EncodeSequences
    alone: EncodeSequences
    """The same where nothing but the sequence is at hand, not even a blank before it: for single pieces."""
    spelling: Callable[[int], str]
    """Id -> the letters it stands for, the blank marker left out."""
    new: dict[str, dict[str, int]]
    """Modality -> piece -> new id; a piece that both have stands under dna."""
    opening: dict[str, list[int]] = field(default_factory=dict)
    """Modality -> ids that a sequence stands behind."""

    @property
    def ids(self) -> list[int]:
        return [index for pieces in self.new.values() for index in pieces.values()]


Ways = dict[str, Callable[[], Way]]
"""Ways by name, each made when it is called: a vocabulary with tens of thousands of new pieces takes memory."""


def encoder(tokenizer: Tokenizer, desc: str) -> Encode:
    """Encode in batches under a progress bar, which shows in a terminal only."""

    def encode(texts: list[str]) -> list[list[int]]:
        starts = tqdm(range(0, len(texts), BATCH), desc=desc, disable=None, leave=False)
        return [one.ids for start in starts for one in tokenizer.encode_batch_fast(texts[start : start + BATCH], add_special_tokens=False)]

    return encode


def between_tags(encode: Encode) -> EncodeSequences:
    """Sequences are put between tags, and the two ids of the tags are left out."""

    def sequences(name: str, found: list[str]) -> list[list[int]]:
        alphabet = ALPHABETS[name]
        return [ids[1:-1] for ids in encode([f"{alphabet.open_tag}{letters}{alphabet.close_tag}" for letters in found])]

    return sequences


def ways_to_extend(base: Tokenizer, extended: Tokenizer, new: NewIds, model: Path | None) -> Ways:
    """Ours, `add_tokens`, and the original merge where the base's `tokenizer.model` is given."""
    ways: Ways = {"ours": lambda: ours(extended, new), "add_tokens": lambda: add_tokens(base, new)}
    if model is not None:
        ways["legacy_spm"] = lambda: legacy_spm(model, new)
    return ways


def compare_ways(
    base: Tokenizer,
    extended: Tokenizer,
    new: NewIds,
    genes: dict[str, Tokenizer],
    windows: dict[str, list[str]],
    lines: dict[str, list[str]],
    model: Path | None,
) -> dict[str, Any]:
    """Figures of every way on at most MOST_LINES lines and MOST_LETTERS letters per modality.

    Args:
        genes: dna / protein -> the gene BPE on plain letters, whose segmentation is the one wanted.
        windows: dna / protein -> held-out sequences in plain letters.
        lines: kind (text: held-out files, probe: the built-in lines) -> lines without tags.
        model: the base's `tokenizer.model`; None leaves the original merge out.
    """
    lines = {kind: found[:MOST_LINES] for kind, found in lines.items()}
    windows = {name: _first(sequences) for name, sequences in windows.items()}
    wanted = {name: _own_pieces(genes[name], sequences) for name, sequences in windows.items()}
    report: dict[str, Any] = {}
    for name, make in tqdm(ways_to_extend(base, extended, new, model).items(), desc="ways to extend", disable=None):
        # text before the original merge is the sentencepiece library's own, as it is after
        before = sentencepiece.SentencePieceProcessor(str(model)).encode if name == "legacy_spm" else encoder(base, "base")
        report[name] = _figures(make(), before, windows, lines, wanted)
    return report


def changed_lines(lines: list[str], before: list[list[int]], after: list[list[int]]) -> dict[str, Any]:
    """How many lines got other ids, also among those with a word in capitals."""
    changed = [one != two for one, two in zip(before, after, strict=True)]
    capitals = [bool(CAPITALS.search(line)) for line in lines]
    both = sum(one and two for one, two in zip(changed, capitals, strict=True))
    return {
        "lines": len(lines),
        "lines_changed": sum(changed),
        "share_changed": sum(changed) / max(1, len(lines)),
        "lines_with_capitals": sum(capitals),
        "lines_with_capitals_changed": both,
        "share_with_capitals_changed": both / max(1, sum(capitals)),
    }


def unreachable(encode: EncodeSequences, name: str, pieces: dict[str, int]) -> list[str]:
    """Pieces whose own letters do not give exactly their id."""
    got = encode(name, list(pieces))
    return [piece for (piece, index), ids in zip(pieces.items(), got, strict=True) if ids != [index]]


def _figures(
    way: Way, before: Encode, windows: dict[str, list[str]], lines: dict[str, list[str]], wanted: dict[str, list[list[str]]]
) -> dict[str, Any]:
    report: dict[str, Any] = {kind: changed_lines(found, before(found), way.text(found)) for kind, found in lines.items()}
    for name, sequences in windows.items():
        encoded = way.sequences(name, sequences)
        spelled = [[piece for index in ids if (piece := way.spelling(index))] for ids in encoded]
        letters, tokens = sum(map(len, sequences)), sum(map(len, encoded))
        used = {index for ids in encoded for index in ids} & set(way.new[name].values())
        report[name] = {
            "windows": len(sequences),
            "letters": letters,
            "tokens": tokens,
            "letters_per_token": letters / tokens,
            "agreement": sum(one == two for one, two in zip(spelled, wanted[name], strict=True)) / len(sequences),
            "new_ids": len(way.new[name]),
            "new_ids_used": len(used) / max(1, len(way.new[name])),
        }
    new_ids = len(way.ids)
    dead = [piece for name, pieces in way.new.items() for piece in unreachable(way.alone, name, pieces)]
    return report | {
        "new_ids": new_ids,
        "unreachable": len(dead),
        "unreachable_share": len(dead) / max(1, new_ids),
        "unreachable_first": dead[:20],
    }


def ours(extended: Tokenizer, new: NewIds) -> Way:
    spelling = {index: piece for pieces in new.pieces.values() for piece, index in pieces.items()}
    encode = encoder(extended, "ours")
    sequences = between_tags(encode)
    # an id that is no gene piece would be a defect, and then it must not look like agreement
    opening = {name: [new.tags[alphabet.open_tag]] for name, alphabet in ALPHABETS.items()}
    return Way(encode, sequences, sequences, lambda index: spelling.get(index, f"id {index}"), new.pieces, opening)


def add_tokens(base: Tokenizer, new: NewIds) -> Way:
    """Pieces that the base has already are left to it, as `add_tokens` users do: an added `A` would cut up every word."""
    added = Tokenizer.from_str(base.to_str())
    vocab = base.get_vocab()
    own: dict[str, dict[str, int]] = {}
    for name, pieces in new.pieces.items():
        fresh = [piece for piece in pieces if piece not in vocab]
        # not normalized: a SentencePiece base would put its blank before the piece and find it at the start of a text only
        added.add_tokens([AddedToken(piece, normalized=False) for piece in fresh])
        own[name] = {piece: index for piece in fresh if (index := added.token_to_id(piece)) is not None}
        vocab |= own[name]
    encode = encoder(added, "add_tokens")

    def spelling(index: int) -> str:
        return (added.id_to_token(index) or "").replace("▁", "")

    return Way(encode, lambda _, found: encode(found), _behind_a_line_end(encode), spelling, own)


def legacy_spm(model: Path, new: NewIds) -> Way:
    merged, appended = merge_by_score(model, [donor(pieces) for pieces in new.pieces.values()])
    own: dict[str, dict[str, int]] = {}
    for name, pieces in new.pieces.items():
        own[name] = {piece: appended.pop(piece) for piece in pieces if piece in appended}

    def encode(texts: list[str]) -> list[list[int]]:
        return cast(list[list[int]], merged.encode(texts))

    def spelling(index: int) -> str:
        return cast(str, merged.id_to_piece(index)).replace("▁", "")

    return Way(encode, lambda _, found: encode(found), _behind_a_line_end(encode), spelling, own)


def _behind_a_line_end(encode: Encode) -> EncodeSequences:
    """A line end keeps the blank that SentencePiece puts before any text away from the piece."""
    [before] = encode(["\n"])

    def alone(_: str, pieces: list[str]) -> list[list[int]]:
        found = encode([f"\n{piece}" for piece in pieces])
        return [ids[len(before) :] if ids[: len(before)] == before else ids for ids in found]

    return alone


def _own_pieces(gene: Tokenizer, sequences: list[str]) -> list[list[str]]:
    """The segmentation of the gene BPE alone."""
    piece = {index: without_mark(piece) for piece, index in gene.get_vocab().items()}
    # by id: encode_batch_fast leaves `tokens` empty
    return [[piece[index] for index in ids] for ids in encoder(gene, "gene BPE")(sequences)]


def _first(sequences: list[str]) -> list[str]:
    """As many whole sequences as fit into MOST_LETTERS, at least one."""
    ends = itertools.accumulate(map(len, sequences))
    return [sequence for sequence, end in zip(sequences, ends, strict=True) if end <= MOST_LETTERS] or sequences[:1]
