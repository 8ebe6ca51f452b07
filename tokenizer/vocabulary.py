"""Append gene vocabularies to a base tokenizer: the surgery on `tokenizer.json`, without any model.

New ids start after every id of the base (its reserved special tokens included) in a fixed order: pad, tags, bytes glue
(byte-level bases), DNA pieces, protein pieces. The base's own ids, merges and their order stay as they are.
"""

import json
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers

from artefacts.errors import UserError, ensure
from sequences.alphabets import ALPHABETS, DNA, PROTEIN, TAGS, Alphabet
from tokenizer.base import BYTE_LEVEL, Base
from tokenizer.kmers import MARK, blocks_in, without_mark
from tokenizer.private import PrivateAlphabets, choose, decoder_steps, normalizer, tag_tokens

PAD = "<|gene_pad|>"
"""A pad token of our own: a pad that equals the end-of-text token would hide it from the loss."""


@dataclass(frozen=True)
class NewIds:
    """Explicit ids of everything that was appended; never a tail slice, since embeddings may be padded."""

    pad: int
    tags: dict[str, int]
    glue: dict[str, int]
    """What a private character (byte-level bases) or a k-mer is put together from; no encoding ever ends on one."""
    pieces: dict[str, dict[str, int]]
    """dna / protein -> piece in plain letters -> id, in the gene BPE's own order."""

    @property
    def all(self) -> list[int]:
        ids = [self.pad, *self.tags.values(), *self.glue.values()]
        return ids + [i for pieces in self.pieces.values() for i in pieces.values()]


def extend(base: Base, dna: Tokenizer, protein: Tokenizer) -> tuple[Tokenizer, NewIds, PrivateAlphabets]:
    """Return the extended tokenizer, the new ids and the private alphabets.

    Raises:
        UserError: the base already holds the tags or the pad, or a token that would cut sequences, or is no LLaMA-type
            tokenizer; a gene BPE has pieces outside its alphabet.
    """
    document = json.loads(base.tokenizer.to_str())
    taken = [token for token in (*TAGS, PAD) if base.tokenizer.token_to_id(token) is not None]
    if taken:
        raise UserError(f"the base already has {', '.join(taken)}: it looks extended already; start from the original base")
    if base.tokenizer.decoder is None:
        raise UserError("the base has no decoder, so ids cannot be turned into text; fetch its own tokenizer.json")
    _check_added(document["added_tokens"])
    model = document["model"]
    vocab: dict[str, int] = model["vocab"]
    for token in document["added_tokens"]:
        # special ids outside the model's vocabulary would collide with new ids when the file is read again
        vocab.setdefault(token["content"], token["id"])
    merges = [tuple(merge) if not isinstance(merge, str) else tuple(merge.split(" ")) for merge in model["merges"]]
    next_id = max(vocab.values()) + 1

    def append(token: str) -> int:
        nonlocal next_id
        ensure(token not in vocab, f"{token} is in the base's vocabulary")
        vocab[token] = next_id
        next_id += 1
        return vocab[token]

    pad = append(PAD)
    tags = {tag: append(tag) for tag in TAGS}
    byte_level = base.family == BYTE_LEVEL
    private = choose(_byte_pairs(merges) if byte_level else set(), set("".join(vocab)))
    glue: dict[str, int] = {}
    if byte_level:
        first, second, third = (BYTE_TO_CHARACTER[byte] for byte in private.characters[0].encode()[:3])
        for left, right in ((first, second), (first + second, third)):
            glue[left + right] = append(left + right)
            merges.append((left, right))
    lead = "".join(glue)[-3:]
    written = (lambda text: "".join(BYTE_TO_CHARACTER[byte] for byte in text.encode())) if byte_level else str
    genes = {alphabet: _gene_model(bpe, alphabet) for alphabet, bpe in ((DNA, dna), (PROTEIN, protein))}
    blocks = [private.blocks(alphabet, gene.k) for alphabet, gene in genes.items() if gene.k]
    mark = {MARK: written(private.block)} if blocks else {}
    spelling = {alphabet: {letter: written(one) for letter, one in private.of(alphabet).items()} | mark for alphabet in genes}
    if byte_level:
        merges += [(lead, spelled[-1]) for spelled in dict.fromkeys(one for each in spelling.values() for one in each.values())]

    def spell(alphabet: Alphabet, piece: str) -> str:
        return "".join(spelling[alphabet][letter] for letter in piece)

    for alphabet, gene in genes.items():
        # both alphabets' blocks begin with the one mark
        glue |= {spelled: append(spelled) for joint in gene.joints if (spelled := spell(alphabet, joint)) not in glue}
    pieces: dict[str, dict[str, int]] = {}
    for alphabet, gene in genes.items():
        pieces[alphabet.name] = {without_mark(piece): append(spell(alphabet, piece)) for piece in gene.pieces}
        merges += [tuple(spell(alphabet, side) for side in merge) for merge in gene.merges]
    model["merges"] = [list(merge) for merge in merges]
    extended = Tokenizer.from_str(json.dumps(document))
    steps = normalizer(private, blocks)
    if base.tokenizer.normalizer is not None:
        steps = normalizers.Sequence([base.tokenizer.normalizer, steps])
    extended.normalizer = steps
    if byte_level:
        # A run of private characters is a word of its own, whatever the base's pattern makes of its neighbours.
        # Its first character is spelled out, since a search for one of these skips over text and one for a class does not.
        inside = [*private.characters, *(one.mark for one in blocks[:1])]
        run = Regex(f"(?:{'|'.join(inside)})[{''.join(inside)}]*")
        extended.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(run, "isolated"), base.tokenizer.pre_tokenizer])
    extended.decoder = decoders.Sequence([base.tokenizer.decoder, *decoder_steps(private, blocks)])
    extended.add_special_tokens([PAD])
    extended.add_tokens(tag_tokens())
    new = NewIds(pad, tags, glue, pieces)
    for tag, index in tags.items():
        ensure(extended.token_to_id(tag) == index, f"{tag} moved from {index} to {extended.token_to_id(tag)}")
    return extended, new, private


def _check_added(added: list[dict[str, Any]]) -> None:
    """Raise UserError when a token of the base is spelled in letters of a sequence.

    Added tokens are cut out of a text before the normalizer maps its letters, so such a one would cut sequences up.
    """
    for token in added:
        letters = "".join(token["content"].split())
        for alphabet in ALPHABETS.values():
            if letters and not token["normalized"] and alphabet.first_foreign(letters) < 0:
                raise UserError(
                    f"the base has the added token '{token['content']}', spelled in {alphabet.name} letters, which would cut sequences "
                    "wherever it occurs in them; take it out of the base's added tokens, or start from another base"
                )


@dataclass(frozen=True)
class GeneModel:
    """A gene vocabulary in plain letters, as `tokenizer train` writes it."""

    pieces: list[str]
    """In the order of their ids; k-mers with their mark."""
    joints: list[str]
    """What a k-mer is put together from: the mark and fewer than k letters."""
    merges: list[list[str]]
    k: int
    """0 where nothing is cut in blocks."""


def _gene_model(gene: Tokenizer, alphabet: Alphabet) -> GeneModel:
    document = json.loads(gene.to_str())
    model = document["model"]
    if model["type"] != "BPE":
        raise UserError(f"the {alphabet.name} BPE is a {model['type']} tokenizer; train one with `llama-gene tokenizer train`")
    k = max((one.k for one in blocks_in(document)), default=0)
    for piece in model["vocab"]:
        if any(letter not in alphabet.letters for letter in (without_mark(piece) if k else piece)):
            raise UserError(
                f"gene BPE piece '{piece}' has letters outside the {alphabet.name} alphabet; train it with `llama-gene tokenizer train`"
            )
    missing = [letter for letter in alphabet.letters if letter not in model["vocab"]]
    if missing:
        raise UserError(f"the {alphabet.name} BPE has no piece for {''.join(missing)}; those letters would be lost")
    merges = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]]
    ordered = sorted(model["vocab"], key=model["vocab"].__getitem__)
    joints = {piece: None for piece in ordered if MARK in piece and len(piece) <= k}
    return GeneModel([piece for piece in ordered if piece not in joints], [*joints], merges, k)


ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
BYTE_TO_CHARACTER = dict(zip(sorted(range(256), key=lambda byte: chr(byte) not in ALPHABET), ALPHABET, strict=True))
"""GPT-2's reversible table, which every byte-level BPE uses: printable bytes are themselves, and the others come behind all of them."""
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}


def _byte_pairs(merges: list[Any]) -> set[bytes]:
    """The two-byte strings that the base joins first. Longer merges over other bytes cannot start without one of them."""
    pairs = set()
    for left, right in merges:
        if len(left) == len(right) == 1:
            pairs.add(bytes((CHARACTER_TO_BYTE[left], CHARACTER_TO_BYTE[right])))
    return pairs
