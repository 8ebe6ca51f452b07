"""Text -> token ids for whole corpora: the ids that the tokenizer itself gives, each word encoded once and then looked up.

    encoder = read_word_encoder(tokenizer)  # None where the tokenizer is not known to keep words apart
    ids = encoder.encode_many(["The gene is", ...])

A text is cut where no token can reach over: before a blank behind something visible, and behind a run of a-z or of digits
that another ASCII character ends. The tokenizer encodes every new word, and a table keeps its ids. That no token reaches
over these places is known

- byte-level: of the patterns in PATTERNS, which cut there themselves, never look back, and look ahead behind white space only;
- SentencePiece, where blanks are spelled `▁`: if no merge makes a piece that spans such a place.

Texts in which something else could reach over (added tokens, private characters, a `▁` of their own) go to the tokenizer whole.
"""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tokenizer.encoders import text_tokenizer
from tokenizer.patterns import LLAMA3

BLANK = "▁"
PATTERNS = (LLAMA3, LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"))
"""Split patterns that keep words apart: Llama 3, Qwen 2. GPT-2's, built into `ByteLevel(use_regex=True)`, does too, alone and behind
single digits (SmolLM2)."""
WORD = re.compile(
    r"(?!\Z)\s*+[^\sA-Za-z0-9]*+(?:[A-Za-z]++(?![^\x00-\x7f])|[0-9]++(?![^\x00-\x7f])|(?<=\S)(?= |\Z))"
    r"|\s*+\S++(?:[^\S ]\s*+\S++)*+(?:\s++\Z)?+"
    r"|\s++\Z"
)
"""White space, signs, and letters or digits; where that does not end at a place that nothing reaches over, all up to one that does."""
REACHES_OVER = re.compile(rf"[A-Za-z][\x00-@\[-`{{-\x7f]|[0-9][\x00-/:-\x7f]|[^{BLANK}]{BLANK}")
"""What no piece of a SentencePiece model may hold."""
PRIVATE_RUN = r"\(\?:[|\U000f0000-\U0010ffff]+\)\[[\U000f0000-\U0010ffff]+\]\*"
HEAD = "a"
"""Begins the text that new words are encoded in."""
AFTER_LETTER, AFTER_DIGIT = " a", " 0"
"""What stands before a word there: a word that begins with a letter was cut off behind a digit. Their ids are taken off again."""
MOST_WORDS = 1 << 18
"""Words in the table, about 60 MB; then it begins anew."""
LONGEST_TEXT = 1 << 16
"""Characters of new words that are encoded as one text."""


class WordEncoder:
    """A tokenizer with a table of the words it has met. Not for several threads at once."""

    def __init__(self, tokenizer: Tokenizer, plain: Tokenizer, spelt: NDArray[np.int64], whole: re.Pattern[str]) -> None:
        """
        Args:
            plain: encodes words; the same as `tokenizer` where `whole` is not found.
            spelt: [ids] bytes of text that each id stands for.
            whole: texts in which this is found are encoded by `tokenizer`, without the table.
        """
        self._tokenizer, self._plain, self.spelt, self._whole = tokenizer, plain, spelt, whole
        self._head = len(self._encode(HEAD))
        self._forget()

    def encode_many(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """Ids of each text, without special tokens at its ends."""
        if len(self._words) > MOST_WORDS:
            self._forget()
        numbers, ends, whole = list[int](), list[int](), list[int]()
        for place, text in enumerate(texts):
            if self._whole.search(text) or not (words := WORD.findall(text)):
                whole.append(place)
            else:
                words[0] = "\0" + words[0]  # nothing stands before the first one
                numbers.extend(map(self._words.__getitem__, words))
            ends.append(len(numbers))
        self._encode_new()
        found = self._looked_up(np.array(numbers, dtype=np.int64), np.array(ends, dtype=np.int64))
        encodings = self._tokenizer.encode_batch_fast([texts[place] for place in whole], add_special_tokens=False)
        for place, encoding in zip(whole, encodings, strict=True):
            found[place] = np.array(encoding.ids, dtype=np.uint32)
        return found

    def _encode(self, words: str) -> list[int]:
        return self._plain.encode_batch_fast([words], add_special_tokens=False)[0].ids

    def _forget(self) -> None:
        self._words = _Numbers()
        self._starts = np.zeros(1, dtype=np.int64)
        """[words + 1] Where each word's ids begin in `_ids`."""
        self._ids = np.zeros(0, dtype=np.uint32)

    def _looked_up(self, numbers: NDArray[np.int64], ends: NDArray[np.int64]) -> list[NDArray[np.uint32]]:
        sizes = self._starts[numbers + 1] - self._starts[numbers]
        upto = np.concatenate(([0], np.cumsum(sizes)))
        places = np.repeat(self._starts[numbers] - upto[:-1], sizes) + np.arange(upto[-1])
        return np.split(self._ids[places], upto[ends])[: len(ends)]

    def _encode_new(self) -> None:
        new = self._words.new
        if not new:
            return
        ids, sizes, together, length = list[NDArray[np.uint32]](), list[NDArray[np.int64]](), list[str](), 0

        def take(found: tuple[NDArray[np.uint32], NDArray[np.int64]]) -> None:
            ids.append(found[0])
            sizes.append(found[1])

        for word in new:
            apart = word[0] == "\0" or word[-1].isspace()  # what stands before or behind it would change it
            if together and (apart or length > LONGEST_TEXT):
                take(self._joined(together))
                together, length = [], 0
            if apart:
                take(self._alone(word))
            else:
                together.append(word)
                length += len(word)
        if together:
            take(self._joined(together))
        self._starts = np.concatenate((self._starts, self._starts[-1] + np.cumsum(np.concatenate(sizes))))
        self._ids = np.concatenate((self._ids, *ids))
        new.clear()

    def _alone(self, word: str) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        before = "" if word[0] == "\0" else HEAD + (AFTER_DIGIT if word[0].isalpha() else AFTER_LETTER)
        taken = len(self._encode(before)) if before else 0
        ids = np.array(self._encode(before + word.removeprefix("\0"))[taken:], dtype=np.uint32)
        return ids, np.array([len(ids)])

    def _joined(self, words: list[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Ids of all words and the number of each one's, from one text that has them: the bytes that ids spell tell where each begins."""
        led = [(AFTER_DIGIT if word[0].isalpha() else AFTER_LETTER) + word for word in words]
        ids = np.array(self._encode(HEAD + "".join(led))[self._head :], dtype=np.uint32)
        bytes_upto = np.cumsum(self.spelt[ids])
        wanted = np.cumsum([[len(AFTER_LETTER), len(word.encode())] for word in words])
        last = np.searchsorted(bytes_upto, wanted)
        if bytes_upto[-1] != wanted[-1] or (bytes_upto[last] != wanted).any():
            raise RuntimeError(f"a token reaches over the end of a word, which was thought impossible; among {words[:3]}")
        sizes = np.diff(last, prepend=-1)
        return ids[np.repeat(np.tile([False, True], len(words)), sizes)], sizes[1::2]


class _Numbers(dict[str, int]):
    """Word -> number; a word not met before gets the next one, and is put on the list `new`."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self.new.append(word)
        return number


def read_word_encoder(tokenizer: Tokenizer) -> WordEncoder | None:
    """The fast way for a tokenizer, extended or not; None where its words are not known to be apart."""
    plain = text_tokenizer(tokenizer)
    document = json.loads(plain.to_str())
    if document["model"]["type"] != "BPE" or document["model"].get("dropout"):
        return None
    if any(token["normalized"] and not token["content"].startswith("<") for token in document["added_tokens"]):
        return None
    if _byte_level_apart(document):
        spelt = _spelt_bytes(tokenizer, lambda token: len(token))  # one character per byte
    elif _sentencepiece_apart(document):
        spelt = _spelt_bytes(tokenizer, lambda token: 1 if re.fullmatch("<0x..>", token) else len(token.replace(BLANK, " ").encode()))
    else:
        return None
    added = _any_of(token["content"] for token in document["added_tokens"])
    return WordEncoder(tokenizer, plain, spelt, re.compile(rf"[\0{BLANK}\U000f0000-\U0010ffff]{added}"))


def _spelt_bytes(tokenizer: Tokenizer, size: Any) -> NDArray[np.int64]:
    """[ids] Bytes of text that each token of the model stands for; 0 for added ones."""
    spelt = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=np.int64)
    for token, number in tokenizer.get_vocab(with_added_tokens=False).items():
        spelt[number] = size(token)
    return spelt


def _any_of(contents: Iterable[str]) -> str:
    """Alternatives of a pattern, grouped by their first two characters: there may be a thousand, and texts are full of [ and <."""
    groups = groupby(sorted(contents), key=lambda content: content[:2])
    return "".join(f"|{re.escape(two)}(?:{'|'.join(re.escape(content[2:]) for content in group)})" for two, group in groups)


def _byte_level_apart(document: dict[str, Any]) -> bool:
    steps = _steps(document["pre_tokenizer"], "pretokenizers")
    if document["normalizer"] is not None or not steps or steps[-1]["type"] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return False
    splits = [step for step in steps[:-1] if not _private_run(step)]
    if steps[-1]["use_regex"]:
        return all(step["type"] == "Digits" and step["individual_digits"] for step in splits)
    return len(splits) == 1 and splits[0]["type"] == "Split" and splits[0]["pattern"].get("Regex") in PATTERNS


def _private_run(step: dict[str, Any]) -> bool:
    """A split at runs of private characters, which `whole` keeps away."""
    return step["type"] == "Split" and re.fullmatch(PRIVATE_RUN, step["pattern"].get("Regex", "")) is not None


def _sentencepiece_apart(document: dict[str, Any]) -> bool:
    model = document["model"]
    if model["ignore_merges"] or not model["byte_fallback"] or BLANK not in model["vocab"]:
        return False
    for step in _steps(document["pre_tokenizer"], "pretokenizers"):
        if step["type"] != "Metaspace" or step["split"] or step["replacement"] not in (BLANK, " "):
            return False
    for step in _steps(document["normalizer"], "normalizers"):
        blank = step["type"] == "Replace" and step["pattern"] == {"String": " "} and step["content"] == BLANK
        start = step["type"] == "Replace" and step["pattern"].get("Regex", "").startswith("\\A")
        if not (blank or start or step == {"type": "Prepend", "prepend": BLANK}):
            return False
    merged = (merge.replace(" ", "") if isinstance(merge, str) else "".join(merge) for merge in model["merges"])
    return not any(map(REACHES_OVER.search, merged))


def _steps(step: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if step is None:
        return []
    return [one for part in step[inner] for one in _steps(part, inner)] if step["type"] == "Sequence" else [step]
