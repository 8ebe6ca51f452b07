"""Export an extended model for llama.cpp's converter: `llama-gene tokenizer gguf` (docs/gguf.md)."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from artefacts.command import path_exists
from artefacts.errors import UserError
from artefacts.folder import MANIFEST, check_absent, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from sequences.alphabets import TAGS
from tokenizer.premap import Premap, read_premap
from tokenizer.private import read_tokenizer
from tokenizer.spm import read_proto


class Gguf(Recipe):
    """Write a folder that llama.cpp's converter reads; text is mapped before it is encoded (docs/gguf.md)."""

    model: Path
    """Folder written by `tokenizer extend`, or a model tuned from it."""
    out: Path
    sentencepiece_model: Path | None = None
    """SentencePiece bases only: the base's own tokenizer.model, which holds the scores; null takes the one in the folder."""


def export_for_gguf(recipe: Gguf, *, overwrite: bool = False) -> None:
    """Write a folder that llama.cpp's `convert_hf_to_gguf.py` reads: everything of the model's, its tokenizer without normalizer.

    Tags are plain added tokens there, so that llama.cpp finds them in any text and shows them in its output. Text must be
    mapped by `Premap.map` before it is encoded.

    Raises:
        UserError: see `read_premap`; the `tokenizer.model` is missing or another one; a gene BPE that scores cannot express.
    """
    source, out = recipe.model, recipe.out
    check_absent(out, overwrite)
    mapping = read_premap(source)
    document = json.loads(read_tokenizer(source).to_str())
    if mapping.leading_once:  # Premap writes that blank
        document["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}
    proto = None
    if document["model"].get("byte_fallback"):
        model = recipe.sentencepiece_model or source / "tokenizer.model"
        path_exists(model, "file", "a SentencePiece base needs its own tokenizer.model, which holds the scores")
        proto = _with_gene_pieces(model, document, mapping)
    tags = {token["id"]: token for token in document["added_tokens"] if token["content"] in TAGS}
    for tag in tags.values():
        tag.update(special=False, normalized=False)
    document["normalizer"] = None
    with new_folder(out, overwrite=overwrite) as folder:
        written = {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", MANIFEST}
        for file in source.iterdir():
            if file.is_file() and file.name not in written:
                _link_or_copy(file, folder / file.name)
        (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
        if proto is not None:
            (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
            # the converter takes what is no plain piece from here, not from the .model file
            config["added_tokens_decoder"] = {
                str(token["id"]): {name: value for name, value in token.items() if name != "id"} for token in document["added_tokens"]
            }
            config["add_prefix_space"] = False  # Premap writes the leading blank, or llama.cpp would put one behind every tag
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        inputs = {"tokenizer": fingerprint(source / "tokenizer.json")}
        write_manifest(
            folder, "for-gguf", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts={"vocabulary": len(document["model"]["vocab"])}
        )


def _with_gene_pieces(path: Path, document: dict[str, Any], mapping: Premap) -> Any:
    """The base's SentencePiece model with pad, tags and gene pieces behind its own.

    SentencePiece joins any two neighbours that spell a piece, best score first; a BPE joins the pairs of its merge list.
    The two agree where each piece is made by one merge and encodes to itself: then the letters of a piece, taken alone,
    stand as that merge's two sides just before it, so no other pair of neighbours can spell it.
    """
    proto = read_proto(path)
    vocab: dict[str, int] = document["model"]["vocab"]
    if any(vocab.get(piece.piece) != index for index, piece in enumerate(proto.pieces)):
        raise UserError(f"{path}: not the model that this tokenizer was extended from; its pieces have other ids")
    _check_order(document["model"]["merges"], {piece.piece: piece.score for piece in proto.pieces}, path)
    private = {*mapping.nucleotides.values(), *mapping.residues.values(), *(one.mark for one in mapping.blocks)}
    special = {token["content"] for token in document["added_tokens"] if token["special"] and token["content"] not in TAGS}
    ranks: dict[str, int] = {}
    for left, right in document["model"]["merges"]:
        if left[0] in private:
            if left + right in ranks:
                raise UserError(
                    f"two merges make the gene piece '{mapping.unmap(left + right)}'; SentencePiece scores cannot tell them apart"
                )
            ranks[left + right] = len(ranks)
    plain = Tokenizer.from_str(json.dumps(document | {"normalizer": None, "added_tokens": []}))
    for piece, tokens in zip(ranks, plain.encode_batch(list(ranks), add_special_tokens=False), strict=True):
        if tokens.tokens != [piece]:
            raise UserError(f"the gene piece '{mapping.unmap(piece)}' is never reached by its own merges; train the gene BPE anew")
    kinds = proto.SentencePiece
    for token, index in sorted(vocab.items(), key=lambda item: item[1])[len(proto.pieces) :]:
        if index != len(proto.pieces):
            raise UserError(f"{path}: the tokenizer has no id {len(proto.pieces)}; a SentencePiece model cannot hold a gap among its ids")
        kind = kinds.NORMAL if token[0] in private else kinds.CONTROL if token in special else kinds.USER_DEFINED
        # any scores in merge order do: no piece of the base shares a character with these, so they never compete
        score = -1.0 - ranks.get(token, len(ranks)) if kind == kinds.NORMAL else 0.0
        proto.pieces.add(piece=token, score=score, type=kind)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    proto.normalizer_spec.add_dummy_prefix = False  # Premap writes it
    return proto


def _check_order(merges: list[list[str]], scores: dict[str, float], path: Path) -> None:
    """Raises UserError when the tokenizer merges the base's pieces in another order than their scores say."""
    best = float("inf")
    for left, right in merges:
        score = scores.get(left + right)
        if score is None:
            return  # the gene pieces follow
        if score > best:
            raise UserError(
                f"{path}: its scores order '{left + right}' otherwise than the tokenizer's merges; extend the base from this file"
            )
        best = score


def _link_or_copy(file: Path, to: Path) -> None:
    """Weights are large and never edited: a hard link where the file system has them. Hub caches hold symbolic links."""
    if file.suffix == ".safetensors":
        try:
            os.link(file.resolve(), to)
            return
        except OSError:
            pass  # another file system, or one without links
    shutil.copyfile(file, to)
