"""Before and after: what the extension changed, the proof that text did not, and the other ways beside it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from artefacts.errors import Ledger, UserError, ensure, say_read
from sequences.alphabets import ALPHABETS
from sequences.spans import TAG, spans
from sequences.texts import read_texts
from tokenizer.base import SENTENCEPIECE, next_id
from tokenizer.private import tag_tokens
from tokenizer.report.heldout import Heldout, cut_sequences
from tokenizer.report.ways import between_tags, changed_lines, compare_ways, encoder, probe_lines, unreachable
from tokenizer.vocabulary import PAD, NewIds

WINDOW = 512
"""Letters per held-out window, as the gene BPEs are trained."""


def compare(
    base: Tokenizer,
    extended: Tokenizer,
    new: NewIds,
    heldout: Heldout,
    family: str,
    *,
    genes: dict[str, Tokenizer] | None = None,
    base_model: Path | None = None,
) -> dict[str, Any]:
    """The report of an extension, without model rows.

    Args:
        genes: dna / protein -> gene BPE on plain letters; needed for `ways`.
        base_model: the base's `tokenizer.model`, for the original merge among the `ways` (SentencePiece bases).

    Returns:
        `text`: lines whose ids changed, none; `reachability`: new ids that no sequence gives; `modalities`: tokens and
        letters before and after, and held-out records that were set aside, by reason; `ways`: ours beside `add_tokens` and
        the original merge.

    Raises:
        UserError: unreadable held-out files; a gene piece that no sequence gives; or a line of text has other ids than in the
            base. That would be a defect of the extension for this base.
    """
    ledgers = {"dna": Ledger(), "protein": Ledger(), "text": Ledger()}
    windows = {}
    for name, files in (("dna", heldout.dna), ("protein", heldout.protein)):
        if found := list(cut_sequences(files, name, heldout.max_letters, WINDOW, ledgers[name])):
            windows[name] = found
    lines = _lines(heldout.text, heldout.max_letters, ledgers["text"])
    for name, ledger in ledgers.items():
        if ledger.read:
            say_read(f"held-out {name}", ledger.as_dict())
    # ours
    report: dict[str, Any] = {
        "family": family,
        "base_vocab": next_id(base),
        "extended_vocab": next_id(extended),
        "text": {"heldout": _text(base, extended, lines), "probe": _text(base, extended, probe_lines())},
        "reachability": _reachability(extended, new),
        "modalities": {name: _sequences(base, extended, new, name, found) for name, found in windows.items()},
    }
    if lines:
        report["modalities"]["text"] = report["text"]["heldout"]
    for name, row in report["modalities"].items():
        row["heldout_set_aside"] = dict(sorted(ledgers[name].reasons.items()))
    # the other ways beside it
    if not heldout.ways:
        report["ways"] = {"skipped": "heldout.ways is off"}
    elif genes is None or not (windows or lines):
        report["ways"] = {"skipped": "no held-out files were given" if genes is not None else "the gene BPEs are not at hand"}
    else:
        plain = {kind: [line for line in found if not _mentions(line)] for kind, found in (("text", lines), ("probe", probe_lines()))}
        report["ways"] = compare_ways(base, extended, new, genes, windows, plain, base_model)
        if base_model is None:
            needed = (
                "the base's tokenizer.model is not at hand" if family == SENTENCEPIECE else "the original merge needs a SentencePiece base"
            )
            report["ways"]["legacy_spm"] = {"skipped": needed}
    return report


def _mentions(line: str) -> bool:
    return TAG.search(line) is not None or PAD in line


def _text(base: Tokenizer, extended: Tokenizer, lines: list[str]) -> dict[str, Any]:
    """Lines without tags must have the base's ids; lines that mention one, the tokens of the base with the tags alone.

    A line that holds a whole span is not text alone, and is left out.
    """
    kept = [line for line in lines if not any(span.mapped for span in spans(line))]
    plain = [line for line in kept if not _mentions(line)]
    tagged = [line for line in kept if _mentions(line)]
    before = encoder(base, "text in the base")(plain)
    figures = changed_lines(plain, before, after := encoder(extended, "text")(plain))
    changed = [line for line, one, two in zip(plain, before, after, strict=True) if one != two]
    if tagged:
        with_tags = Tokenizer.from_str(base.to_str())
        with_tags.add_special_tokens([PAD])
        with_tags.add_special_tokens(tag_tokens())
        # by token, since the tags have other ids there
        wanted, got = ([one.tokens for one in each.encode_batch(tagged, add_special_tokens=False)] for each in (with_tags, extended))
        changed += [line for line, one, two in zip(tagged, wanted, got, strict=True) if one != two]
    if changed:
        raise UserError(
            f"{len(changed)} of {len(kept)} lines of text would get other ids than in the base, the first: {changed[0]!r}. "
            "This base cannot be extended without a change to its text; please report it"
        )
    return figures | {
        "lines_with_a_tag": len(tagged),
        "lines_with_a_span": len(lines) - len(kept),
        "bytes_per_token": sum(len(line.encode()) for line in plain) / max(1, sum(map(len, before))),
    }


def _reachability(extended: Tokenizer, new: NewIds) -> dict[str, Any]:
    """Which new ids an encoding can give: every piece by its own letters inside its tag, put together by its merges.

    Raises:
        UserError: a piece that they do not give.
    """
    document = json.loads(extended.to_str())
    document["model"]["ignore_merges"] = False  # or a piece is found whole (Llama 3), which it is in no longer sequence
    merging = Tokenizer.from_str(json.dumps(document))
    report: dict[str, Any] = {}
    for name, pieces in new.pieces.items():
        dead = unreachable(between_tags(encoder(merging, f"reach {name} pieces")), name, pieces)
        if dead:
            raise UserError(
                f"{len(dead)} of {len(pieces)} {name} pieces, the first '{dead[0]}', are given by no sequence: their ids would stay "
                f"untrained. Train the {name} BPE anew with `llama-gene tokenizer train`"
            )
        report[name] = {"pieces": len(pieces), "reachable": len(pieces) - len(dead), "unreachable": dead[:20]}
    special = {PAD: new.pad, **new.tags}
    found = {token: extended.encode(token, add_special_tokens=False).ids == [index] for token, index in special.items()}
    return report | {
        "tags": {"ids": len(new.tags), "reachable": sum(found[tag] for tag in new.tags)},
        "pad": {"ids": 1, "reachable": int(found[PAD])},
        # first bytes of the private characters; a merge always goes on from them, so no encoding ends on one
        "glue": {"ids": len(new.glue), "reachable": 0},
    }


def _sequences(base: Tokenizer, extended: Tokenizer, new: NewIds, name: str, windows: list[str]) -> dict[str, Any]:
    alphabet = ALPHABETS[name]
    before = encoder(base, f"{name} in the base")(windows)
    after = between_tags(encoder(extended, name))(name, windows)
    pieces = {index: piece for piece, index in new.pieces[name].items()}
    used = Counter(index for ids in after for index in ids)
    ensure(used.keys() <= pieces.keys(), f"ids {used.keys() - pieces.keys()} between {name} tags are no {name} pieces")
    letters = sum(map(len, windows))
    tokens_before, tokens_after = sum(map(len, before)), used.total()
    example = windows[0][:60]
    [example_after] = between_tags(encoder(extended, name))(name, [example])
    return {
        "unit": alphabet.unit,
        "heldout_letters": letters,
        "tokens_before": tokens_before,
        "tokens_after": tokens_after,
        "letters_per_token_before": letters / tokens_before,
        "letters_per_token_after": letters / tokens_after,
        "new_ids": len(pieces),
        "new_ids_used": len(used) / len(pieces),
        "piece_lengths": _lengths(pieces, used),
        "most_used": [[pieces[index], count] for index, count in sorted(used.items(), key=lambda item: (-item[1], item[0]))[:10]],
        "example": {
            "text": alphabet.wrap(example),
            "before": [base.decode([index]) for index in base.encode(example, add_special_tokens=False).ids],
            "after": [pieces[index] for index in example_after],
        },
    }


def _lengths(pieces: dict[int, str], used: Counter[int]) -> list[dict[str, int]]:
    """Per length in letters: pieces in the vocabulary, pieces in use, and tokens of the held-out sequences."""
    there = Counter(map(len, pieces.values()))
    in_use = Counter(len(pieces[index]) for index in used)
    tokens = Counter(dict.fromkeys(there, 0))
    for index, count in used.items():
        tokens[len(pieces[index])] += count
    return [
        {"letters": length, "pieces": there[length], "used": in_use[length], "tokens": tokens[length]}
        for length in range(1, max(there) + 1)
    ]


def _lines(files: list[Path], max_characters: int, ledger: Ledger) -> list[str]:
    lines: list[str] = []
    room = max_characters
    for file in files:
        for document in read_texts(file, ledger):
            for line in document.text.splitlines():
                if room <= 0:
                    return lines
                if line:
                    lines.append(line)
                    room -= len(line)
    return lines
