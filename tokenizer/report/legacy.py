"""The original LLaMA-Gene merge, reproduced with the `sentencepiece` library. For comparison only: nothing is built on it.

Each piece of the donors (DNA first, then protein) that the base does not have is appended with its donor's score
unchanged. In a SentencePiece BPE the score is the priority of the merge, so the three vocabularies interleave: text
changes, sequences no longer segment as their own BPE does, and some pieces can never be produced.

Not supported: byte-level bases (the merge needs a SentencePiece model), and donors with pieces that begin with a blank.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import sentencepiece
import sentencepiece.sentencepiece_model_pb2 as pb2


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
    proto = pb2.ModelProto()  # type: ignore[attr-defined] # protobuf makes the class at import time
    proto.ParseFromString(model.read_bytes())
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
