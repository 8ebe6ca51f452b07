"""Read a base tokenizer of either LLaMA family into one `tokenizers` object, and tell the families apart.

- byte-level (Llama 3 and everything tiktoken-derived): a `tokenizer.json` with byte-level BPE.
- SentencePiece (Llama 2, Mistral): a `tokenizer.model`. The sentencepiece library is the truth; merges are ordered by
  piece score, because ordering them by id (as transformers 5 does) differs from it on real text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from artefacts.errors import UserError
from tokenizer.alphabets import TAGS

BYTE_LEVEL = "byte-level"
SENTENCEPIECE = "sentencepiece"


@dataclass
class Base:
    """A base tokenizer and what must be carried over from its configuration."""

    tokenizer: Tokenizer
    family: str
    config: dict[str, Any] = field(default_factory=dict)
    """bos_token, eos_token, chat_template and model_max_length, where known."""


def read_base(path: str | Path) -> Base:
    """Load a base tokenizer from a folder, a `tokenizer.json`, a `tokenizer.model`, or a hub id.

    Raises:
        UserError: nothing there, or a tokenizer that is not BPE of one of the two families.
    """
    path = Path(path)
    if not path.exists():
        path = _download(str(path))
    if path.is_file():
        return _from_json(path, {}) if path.suffix == ".json" else from_sentencepiece(path, {})
    config_path = path / "tokenizer_config.json"
    config = json.loads(config_path.read_text(encoding="utf-8")) if config_path.is_file() else {}
    if (path / "chat_template.jinja").is_file():
        config["chat_template"] = (path / "chat_template.jinja").read_text(encoding="utf-8")
    if (model := sentencepiece_file(path)) is not None:
        return from_sentencepiece(model, config)
    if (path / "tokenizer.json").is_file():
        return _from_json(path / "tokenizer.json", config)
    raise UserError(f"{path}: neither tokenizer.json nor a .model file; give a LLaMA-type tokenizer or model folder")


def sentencepiece_file(path: Path) -> Path | None:
    """The SentencePiece model that `path` is or holds, if any. Raises UserError when a folder holds several."""
    if path.is_file():
        return path if path.suffix != ".json" else None
    found = sorted(path.glob("*.model"))
    if len(found) > 1:
        raise UserError(f"{path}: several .model files ({', '.join(file.name for file in found)}); name one of them")
    return found[0] if found else None


def _download(name: str) -> Path:
    """A hub id to a local folder with the tokenizer's files only."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["tokenizer*", "special_tokens_map.json", "chat_template.jinja"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"{name}: no such file or folder, and not to be had from the hub ({type(error).__name__})") from None


def _from_json(path: Path, config: dict[str, Any]) -> Base:
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("model", {}).get("type") != "BPE":
        raise UserError(f"{path}: a {document.get('model', {}).get('type')} tokenizer; LLaMA-type bases are BPE")
    tokenizer = Tokenizer.from_file(str(path))
    if "ByteLevel" not in json.dumps(document.get("pre_tokenizer")):
        raise UserError(f"{path}: not byte-level. For a SentencePiece base give its tokenizer.model, which holds the true merge order")
    return Base(tokenizer, BYTE_LEVEL, _kept(config))


def from_sentencepiece(path: Path, config: dict[str, Any]) -> Base:
    """Build the `tokenizers` equivalent of a SentencePiece BPE model with byte fallback (Llama 2, Mistral).

    Raises:
        UserError: not a SentencePiece file, not BPE, no byte fallback, or a text-changing normalisation.
    """
    import sentencepiece.sentencepiece_model_pb2 as pb2
    from google.protobuf.message import DecodeError

    proto = pb2.ModelProto()  # type: ignore[attr-defined] # protobuf makes the class at import time
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError:
        raise UserError(f"{path}: not a SentencePiece model") from None
    trainer, rules = proto.trainer_spec, proto.normalizer_spec
    if not proto.pieces or trainer.model_type != 2 or not trainer.byte_fallback:
        raise UserError(f"{path}: LLaMA-type SentencePiece models are BPE with byte fallback; this one is not")
    if rules.precompiled_charsmap or rules.remove_extra_whitespaces:
        raise UserError(f"{path}: normalisation '{rules.name}' changes text; only identity normalisation can be carried over")
    vocab = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == 1}
    unknown = next(piece.piece for piece in proto.pieces if piece.type == 2)
    tokenizer = Tokenizer(models.BPE(vocab, _merges_by_score(vocab, scores), unk_token=unknown, fuse_unk=True, byte_fallback=True))
    # sentencepiece puts one blank before any text, leading blanks included. A Prepend("▁") normalizer would turn the tags
    # themselves into ▁</dna>, which is never found, and Metaspace's own prefix skips text that begins with a blank.
    tokenizer.normalizer = normalizers.Replace(Regex(rf"\A(?=[\s\S])(?!{'|'.join(TAGS)})"), "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    control = [piece.piece for piece in proto.pieces if piece.type in (2, 3)]
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in control])
    kept = _kept(config)
    kept.setdefault("bos_token", "<s>")
    kept.setdefault("eos_token", "</s>")
    for role in ("bos_token", "eos_token"):
        if kept[role] not in vocab:
            raise UserError(f"{path}: {role} '{kept[role]}' is no piece of the model")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{kept['bos_token']} $A", special_tokens=[(kept["bos_token"], vocab[kept["bos_token"]])]
    )
    return Base(tokenizer, SENTENCEPIECE, kept)


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


def _kept(config: dict[str, Any]) -> dict[str, Any]:
    def content(token: Any) -> Any:
        return token["content"] if isinstance(token, dict) else token

    kept = {name: content(config[name]) for name in ("bos_token", "eos_token", "pad_token") if config.get(name)}
    return kept | {name: config[name] for name in ("chat_template", "model_max_length") if config.get(name)}
