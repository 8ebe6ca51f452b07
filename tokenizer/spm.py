"""SentencePiece bases (Llama 2, Mistral): read a `tokenizer.model` as a `tokenizers` object, and keep blanks and tags apart.

The sentencepiece library is the truth for text; merges are ordered by piece score, because ordering them by id (as
transformers 5 does) differs from it on real text.

Text gets one blank of its own at its very start, and nothing behind a special token, as transformers has it unless it is
told `legacy: true`. Where a `tokenizer.json` lies beside the model, that file says how blanks are handled.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from artefacts.errors import UserError
from sequences.alphabets import TAGS

BLANK = "▁"
START = rf"\A(?=[\s\S])(?!{'|'.join(TAGS)})"
"""Where older files put a blank: before any stretch of text between special tokens, leading blanks included. Their Prepend("▁")
normalizer would turn the tags themselves into ▁</dna>, which is never found."""
START_BARE = rf"{START}(?![ {BLANK}])"
"""The same for Metaspace's `always`, which skips text that begins with a blank and would put one behind every tag."""
PROBES = [
    "The gene BRCA1 (17q21.31) is 81 kb long.",
    "GATTACA CAT TATA",
    " one blank in front",
    "  two  blanks   and more    inside ",
    "tab\tand\nbreak\r\n\n  indented:\n    x = [1, 2]",
    "naïve 基因 🧬 ﬁ Å",
    " ",
    "▁",
    "",
]
"""Plain text on which two ways of normalising would part."""


@dataclass(frozen=True)
class Model:
    """What a SentencePiece model file holds."""

    path: Path
    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    """Best score first."""
    unknown: str
    control: list[str]
    """Spelled in text by special tokens only."""
    user_defined: list[str]
    """Cut out of text wherever they occur."""
    blank_first: bool
    """Text gets one blank of its own."""


def read_proto(path: Path) -> Any:
    """A SentencePiece model as it is stored. Raises UserError where it is none."""
    import sentencepiece.sentencepiece_model_pb2 as pb2
    from google.protobuf.message import DecodeError

    proto = pb2.ModelProto()  # type: ignore[attr-defined] # protobuf makes the class at import time
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError:
        raise UserError(f"{path}: not a SentencePiece model; name the base's own tokenizer.model") from None
    return proto


def read_model(path: Path) -> Model:
    """Read a SentencePiece BPE model with byte fallback.

    Raises:
        UserError: not a SentencePiece file, not BPE, no byte fallback, or a normalisation that cannot be carried over.
    """
    proto = read_proto(path)
    trainer, rules = proto.trainer_spec, proto.normalizer_spec
    if not proto.pieces or trainer.model_type != 2 or not trainer.byte_fallback:
        raise UserError(f"{path}: LLaMA-type SentencePiece models are BPE with byte fallback; this one is not")
    if rules.precompiled_charsmap or rules.remove_extra_whitespaces:
        raise UserError(f"{path}: normalisation '{rules.name}' changes text; only identity normalisation can be carried over")
    if trainer.treat_whitespace_as_suffix:
        raise UserError(f"{path}: blanks stand behind words (treat_whitespace_as_suffix); LLaMA-type models have them before")
    user_defined = [piece.piece for piece in proto.pieces if piece.type == 4]
    if blanks := [piece for piece in user_defined if BLANK in piece or " " in piece]:
        raise UserError(f"{path}: the user-defined piece '{blanks[0]}' holds a blank, which cannot be carried over; give another base")
    vocab = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == 1}
    return Model(
        path,
        vocab,
        _merges_by_score(vocab, scores),
        next(piece.piece for piece in proto.pieces if piece.type == 2),
        [piece.piece for piece in proto.pieces if piece.type in (2, 3)],
        user_defined,
        rules.add_dummy_prefix,
    )


def build(model: Model) -> Tokenizer:
    """The `tokenizers` equivalent of a model, without a post-processor."""
    tokenizer = Tokenizer(models.BPE(model.vocab, model.merges, unk_token=model.unknown, fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = blank_first() if model.blank_first else _metaspace("never")
    steps: list[decoders.Decoder] = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(content=" ", left=1)] if model.blank_first else steps)
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in model.control])
    tokenizer.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in model.user_defined])
    return tokenizer


def blank_first() -> pre_tokenizers.PreTokenizer:
    """One blank before the whole text, leading blanks included, as sentencepiece puts it; none behind tags or special tokens.

    Metaspace's `first` alone skips text that begins with a blank. So blanks become ▁ beforehand, and the one that is put in
    front is a plain blank until the last step.
    """
    return pre_tokenizers.Sequence([_metaspace("never"), _metaspace("first", " "), _metaspace("never")])


def has_blank_first(document: dict[str, Any]) -> bool:
    """Whether a tokenizer's JSON has the pre-tokenizer that `blank_first` makes."""
    steps = (document.get("pre_tokenizer") or {}).get("pretokenizers", [])
    return [(step.get("replacement"), step.get("prepend_scheme")) for step in steps] == [(BLANK, "never"), (" ", "first"), (BLANK, "never")]


def check_text(tokenizer: Tokenizer, model: Model) -> list[str]:
    """Compare with the sentencepiece library on plain text.

    Returns:
        What the reader of the extension report should know.

    Raises:
        UserError: text gets other ids.
    """
    library = sentencepiece.SentencePieceProcessor(str(model.path))

    def differs(text: str) -> bool:
        return bool(tokenizer.encode(text, add_special_tokens=False).ids != library.encode(text))

    inside = [text for piece in model.user_defined for text in (f"x{piece}y", f"x {piece} y")]
    if changed := [text for text in PROBES + inside if differs(text)]:
        raise UserError(f"{model.path}: {changed[0]!r} has other ids than in the sentencepiece library; this model cannot be carried over")
    if at_start := [piece for piece in model.user_defined if differs(piece)]:
        return [f"text that begins with {at_start[0]!r} (a user-defined piece) has no blank of its own; the sentencepiece library puts one"]
    return []


def text_notes(tokenizer: Tokenizer, model: Model) -> list[str]:
    """Where a `tokenizer.json` handles blanks otherwise than the model beside it: what the report should say."""
    library = sentencepiece.SentencePieceProcessor(str(model.path))
    changed = [text for text in PROBES if tokenizer.encode(text, add_special_tokens=False).ids != library.encode(text)]
    if not changed:
        return []
    return [
        f"{len(changed)} of {len(PROBES)} plain probes, the first {changed[0]!r}, have other ids than in the sentencepiece library: "
        "tokenizer.json handles blanks otherwise than tokenizer.model, and is followed"
    ]


def with_merges(document: dict[str, Any], model: Model, path: Path) -> dict[str, Any]:
    """A `tokenizer.json` with the merge order of the model beside it.

    Raises:
        UserError: the two hold other pieces.
    """
    vocab = document["model"]["vocab"]
    others = [piece for piece, index in model.vocab.items() if vocab.get(piece) != index]
    added = {token["id"] for token in document["added_tokens"]}
    others = [piece for piece in others if model.vocab[piece] not in added]  # renamed reserved pieces
    if others:
        raise UserError(f"{path}: '{others[0]}' of {model.path.name} has another id here; remove the file that is not the base's own")
    order = {merge: rank for rank, merge in enumerate(model.merges)}
    kept = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in document["model"]["merges"]]
    own = [merge for merge in kept if merge not in order]  # of pieces that were added behind the model's
    own = [merge for merge in own if "".join(merge) not in model.vocab]
    return document | {"model": document["model"] | {"merges": [list(merge) for merge in [*model.merges, *own]]}}


def with_free_tags(original: Tokenizer, path: Path) -> Tokenizer:
    """The same tokenizer with its handling of blanks moved to where tags are still found.

    Before 2024 such files write blanks as ▁ in the normalizer (`Prepend`, `Replace`): tags would become ▁</dna> and blanks
    inside a span would end it. Later ones use the Metaspace pre-tokenizer; its `always` puts a ▁ behind every tag, its `first`
    stays as it is. Added tokens are found in the text as it stands, never in what a normalizer makes of it.

    Raises:
        UserError: another kind of normalisation, or one for which ids would change.
    """
    document = json.loads(original.to_str())
    normalizer, splitter = document["normalizer"], document["pre_tokenizer"] or {}
    steps = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else [normalizer] if normalizer else []
    kinds = [step["type"] for step in steps]
    for token in document["added_tokens"]:
        token["normalized"] = False
    before = Tokenizer.from_str(json.dumps(document))
    tokenizer = Tokenizer.from_str(json.dumps(document))
    if sorted(kinds) in (["Prepend", "Replace"], ["Replace"]) and not splitter and steps[-1].get("content") == BLANK:
        tokenizer.normalizer = normalizers.Replace(Regex(START), BLANK) if "Prepend" in kinds else None
        tokenizer.pre_tokenizer = _metaspace("never")
    elif not steps and splitter.get("type") == "Metaspace" and splitter["prepend_scheme"] == "always":
        tokenizer.normalizer = normalizers.Replace(Regex(START_BARE), BLANK)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="never", split=splitter["split"])
    elif not (not steps and has_blank_first(document)) and (
        splitter.get("type") != "Metaspace" or (steps and steps[0].get("pattern") not in ({"Regex": START}, {"Regex": START_BARE}))
    ):
        names = " + ".join(kinds) or "none"
        raise UserError(
            f"{path}: normalizer {names} with pre-tokenizer {splitter.get('type', 'none')} is not known of LLaMA-type tokenizers; "
            "give the base's tokenizer.model alone"
        )
    special = [token["content"] for token in document["added_tokens"]]
    for probe in PROBES + [text for token in special for text in (f"{token}x", f"x{token} x", f"x {token}\n{token}")]:
        if tokenizer.encode(probe).ids != before.encode(probe).ids:
            raise UserError(f"{path}: {probe!r} would get other ids than before; give the base's tokenizer.model alone")
    return tokenizer


def check_merges(tokenizer: Tokenizer, path: Path) -> None:
    """Raise UserError when pieces cannot be reached by any merge: the file was made from the vocabulary alone."""
    model = json.loads(tokenizer.to_str())["model"]
    reached = {"".join(merge if isinstance(merge, list) else merge.split(" ")) for merge in model["merges"]}
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    plain = [piece for piece in model["vocab"] if len(piece) > 1 and piece not in added and not re.fullmatch("<0x..>", piece)]
    lost = [piece for piece in plain if piece not in reached]
    if lost:
        raise UserError(f"{path}: {len(lost)} pieces, the first '{lost[0]}', have no merge; put its tokenizer.model beside it")


def _metaspace(scheme: str, blank: str = BLANK) -> pre_tokenizers.Metaspace:
    return pre_tokenizers.Metaspace(replacement=blank, prepend_scheme=scheme, split=False)  # type: ignore[arg-type,unused-ignore]


def _merges_by_score(vocab: dict[str, int], scores: dict[str, float]) -> list[tuple[str, str]]:
    """All merges, best score first; among equal scores the longest left side first.

    sentencepiece breaks ties by position, leftmost first, so a run such as sixteen blanks (all whose pieces share one
    score) grows from the left. The longest-left order reproduces that: 0 of 23,440 real lines differ, against 378 by id.
    """
    merges = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocab and right in vocab:
                merges.append((-score, -len(left), left, right))
    return [(left, right) for *_, left, right in sorted(merges)]
