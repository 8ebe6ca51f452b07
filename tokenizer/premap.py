"""Private characters without the normalizer, for engines that have none: llama.cpp above all (docs/gguf.md).

    premap = read_premap("runs/extended")
    prompt = premap.map("Is this a promoter? <dna>TTGACA</dna>")   # what the normalizer would have made of it
    answer = premap.unmap(output)                                  # private characters back to letters

Encoding `premap.map(text)` with the exported tokenizer (tokenizer/gguf.py) gives the ids that encoding `text` with ours gives.

Not supported: bases with a normalizer of their own (NFC, say), which llama.cpp leaves out as well.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from artefacts.errors import UserError
from sequences.alphabets import ALPHABETS, DNA, PROTEIN, TAGS
from sequences.spans import inside
from tokenizer.kmers import Blocks, blocks_in
from tokenizer.private import read_tokenizer
from tokenizer.spm import START, START_BARE, has_blank_first


@dataclass(frozen=True)
class Premap:
    """What the normalizer of one extended tokenizer does, in plain Python."""

    nucleotides: dict[str, str]
    """Letter -> private character, inside `<dna>` and `<rna>`."""
    residues: dict[str, str]
    """The same inside `<protein>`."""
    special: tuple[str, ...]
    """Tokens that are cut out before a normalizer sees the text, such as `<s>`; spans do not reach across them."""
    leading: str | None
    """SentencePiece bases: an expression for where text gets a blank of its own, written ▁."""
    leading_once: bool = False
    """That blank stands at the start of the whole text only, not behind special tokens too."""
    blocks: tuple[Blocks, ...] = ()
    """Of k-mer vocabularies."""

    def map(self, text: str) -> str:
        """Text -> the text that the normalizer makes of it: private characters inside spans, all else as it was.

        A span is as `sequences.spans` says, where the next special token ends the text. Mapping twice is mapping once, except for
        the leading blank.
        """
        if not self.special:
            return self._segment(text)
        special = re.compile("|".join(re.escape(token) for token in sorted(self.special, key=len, reverse=True)))
        mapped, end = [], 0
        for token in special.finditer(text):
            mapped += [self._segment(text[end : token.start()], end == 0), token[0]]
            end = token.end()
        return "".join([*mapped, self._segment(text[end:], end == 0)])

    def unmap(self, text: str) -> str:
        """Private characters -> upper-case letters, U as T, without the marks of blocks; all else stays."""
        letters = {ord(character): letter for alphabet in (self.nucleotides, self.residues) for letter, character in alphabet.items()}
        return text.translate(letters | {ord(one.mark): "" for one in self.blocks})

    def _segment(self, text: str, first: bool = True) -> str:
        blank = "▁" if self.leading is not None and (first or not self.leading_once) and re.match(self.leading, text) else ""
        for alphabet in ALPHABETS.values():
            private = self.residues if alphabet is PROTEIN else self.nucleotides
            private = private | {synonym: private[letter] for synonym, letter in alphabet.synonyms.items()}
            table = {ord(written): character for letter, character in private.items() for written in (letter, letter.lower())}
            span = rf"(?<={alphabet.open_tag}){inside(alphabet)}(?={alphabet.close_tag}|\Z)"
            text = re.sub(span, lambda letters: letters[0].translate(table), text)  # noqa: B023 - used at once
        for blocks in self.blocks:
            text = blocks.marked(text)
        return blank + text


def read_premap(source: Tokenizer | str | Path) -> Premap:
    """The mapping of an extended tokenizer, or of its folder. (What `export_for_gguf` writes has no rule left to be read.)

    Raises:
        UserError: no tokenizer.json, not extended, exported, or a base with a normalizer of its own.
    """
    where = "this tokenizer" if isinstance(source, Tokenizer) else str(source)
    document = json.loads(read_tokenizer(source).to_str())
    letters = [*DNA.letters, *PROTEIN.letters]
    steps = (document.get("decoder") or {}).get("decoders", [])[-len(letters) :]
    if [step.get("content") for step in steps] != letters or document["normalizer"] is None:
        raise UserError(f"{where}: holds no private alphabets; name a folder written by `llama-gene tokenizer extend`")
    first = document["normalizer"]["normalizers"][0]
    rule = first.get("pattern", {}).get("Regex", "")
    if not rule.startswith(r"\A(?=") and f"{DNA.name}>(" not in rule:
        raise UserError(f"{where}: its base has a {first['type']} normalizer of its own, which llama.cpp would leave out")
    private = [step["pattern"]["String"] for step in steps]
    special = tuple(token["content"] for token in document["added_tokens"] if not token["normalized"] and token["content"] not in TAGS)
    if words := [token["content"] for token in document["added_tokens"] if token["single_word"]]:
        raise UserError(f"{where}: {words[0]} counts as a token only where it is a word of its own, which the map does not know")
    leading = rule if rule.startswith(r"\A") else _leading_once(document)
    return Premap(
        dict(zip(DNA.letters, private[: len(DNA.letters)], strict=True)),
        dict(zip(PROTEIN.letters, private[len(DNA.letters) :], strict=True)),
        special,
        leading,
        leading is not None and leading != rule,
        tuple(blocks_in(document)),
    )


def _leading_once(document: dict[str, Any]) -> str | None:
    """Where the pre-tokenizer puts one blank before the whole text."""
    if has_blank_first(document):
        return START
    splitter = document["pre_tokenizer"] or {}
    return START_BARE if splitter.get("type") == "Metaspace" and splitter["prepend_scheme"] == "first" else None
