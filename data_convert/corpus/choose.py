"""Which pieces of the converted parts stand in the shards, and in which order: duplicates, budgets, mixture.

Everything follows from the parts and the seed. Memory: about 40 bytes per document, never the documents themselves.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artefacts.errors import Ledger, UserError
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.parts import BEGINS, HELD_OUT, SKETCHES, SPECIAL, read_rows
from data_convert.corpus.plan import Part, file_fingerprint
from data_convert.corpus.shards import COUNTS, SPLITS
from data_convert.corpus.sketch import FEWEST, mostly_seen
from tokenizer.conversations import SPELLS_CONTROL

DOCUMENTS_AT_ONCE = 8_000_000
"""Digests sorted at once; more are sorted in several goes."""
DUPLICATE, NEAR = "exact duplicate", "near duplicate"
UNJUDGED = "too short to be compared with others"
Numbers = NDArray[np.int64]


class Index:
    """All converted parts as one row of pieces and one of fragments."""

    def __init__(self, parts: Sequence[Part], folders: Sequence[Path]) -> None:
        self.parts, self.folders = parts, folders
        self.counts = [json.loads((folder / COUNTS).read_text(encoding="utf-8")) for folder in folders]
        self.pieces = _starts([count["pieces"] for count in self.counts])
        """[parts + 1] Number of each part's first piece."""
        self.fragments = _starts([count["fragments"] for count in self.counts])

    def rows(self, part: int) -> NDArray[np.void]:
        return read_rows(self.folders[part], "pieces")

    def ids(self, pieces: Numbers) -> list[str]:
        """Ids of pieces by their numbers."""
        found = []
        for piece, part in zip(pieces, np.searchsorted(self.pieces, pieces, "right") - 1, strict=True):
            with (self.folders[part] / "ids").open(encoding="utf-8", newline="\n") as handle:
                found.append(next(islice(handle, int(piece - self.pieces[part]), None)).rstrip("\n"))
        return found


def _starts(counts: Sequence[int]) -> Numbers:
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64)


def kept_pieces(index: Index, sources: Sequence[Source]) -> tuple[NDArray[np.bool_], list[dict[str, Any]]]:
    """Whether each piece stays, and per part the ledger of its documents with the duplicates taken from it.

    Of equal documents (DNA: on either strand) a held-out one stays, else the one of the first part; of near duplicates too.
    """
    documents = [int(((index.rows(part)["flags"] & BEGINS) > 0).sum()) for part in range(len(index.parts))]
    starts = _starts(documents)
    dropped = {DUPLICATE: _duplicates(index, starts)}
    dropped[NEAR], unjudged = _near_duplicates(index, sources, starts, dropped[DUPLICATE])
    kept, ledgers = np.ones(int(index.pieces[-1]), dtype=bool), []
    for part, count in enumerate(index.counts):
        ledger = count["documents"]
        if unjudged[part]:
            ledger.setdefault("notes", {})[UNJUDGED] = unjudged[part]
        for reason, of_all in dropped.items():
            of_part = of_all[starts[part] : starts[part + 1]]
            if number := int(of_part.sum()):
                owner = np.cumsum((index.rows(part)["flags"] & BEGINS) > 0) - 1
                kept[index.pieces[part] : index.pieces[part + 1]] &= ~of_part[owner]
                ledger["written"] -= number
                ledger["rejected"] += number
                ledger["reasons"][reason] = number
                count["letters"][reason] = int(index.rows(part)["letters"][of_part[owner]].sum())
                begins = np.flatnonzero(index.rows(part)["flags"] & BEGINS)
                ledger["examples"][reason] = index.ids(index.pieces[part] + begins[of_part][:5])
        ledgers.append(ledger)
    return kept, ledgers


def _near_duplicates(
    index: Index, sources: Sequence[Source], starts: Numbers, exact: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], list[int]]:
    """[documents] True for those that stand, for the most part, in others of their source; and per part how many cannot be judged."""
    dropped, unjudged = np.zeros(int(starts[-1]), dtype=bool), [0] * len(index.parts)
    for number, source in enumerate(sources):
        parts = [place for place, part in enumerate(index.parts) if part.source == number]
        if source.near_duplicates is None or not parts:
            continue
        files = [[index.folders[part] / name for part in parts] for name in SKETCHES]
        hashes, sizes = (
            np.concatenate([np.fromfile(file, dtype=kind) for file in of_name]) for of_name, kind in zip(files, ("<u8", "<u4"), strict=True)
        )
        rows = [index.rows(part)["flags"] for part in parts]
        held_out = np.concatenate([(flags[(flags & BEGINS) > 0] & HELD_OUT) > 0 for flags in rows])
        places = np.concatenate([np.arange(starts[part], starts[part + 1]) for part in parts])
        order = np.argsort(~held_out, kind="stable")
        dropped[places] = mostly_seen(hashes, sizes, order[~exact[places[order]]], source.near_duplicates)
        short = places[(sizes < FEWEST) & ~exact[places]]
        for part in parts:
            unjudged[part] = int(((short >= starts[part]) & (short < starts[part + 1])).sum())
    return dropped, unjudged


def _duplicates(index: Index, starts: Numbers) -> NDArray[np.bool_]:
    """[documents] True for those that are dropped.

    8 bytes of a digest: among fifty million documents two differ with equal digests once in ten thousand runs.
    """
    dropped = np.zeros(int(starts[-1]), dtype=bool)
    goes = 1 + int(starts[-1]) // DOCUMENTS_AT_ONCE
    for go in range(goes):
        digests, places, sides = [], [], []
        for part in range(len(index.parts)):
            rows = index.rows(part)
            rows = rows[(rows["flags"] & BEGINS) > 0]
            mine = np.flatnonzero(rows["digest"] % np.uint64(goes) == go)
            digests.append(rows["digest"][mine])
            sides.append((rows["flags"][mine] & HELD_OUT) == 0)
            places.append(mine + starts[part])
        digest, side, place = np.concatenate(digests), np.concatenate(sides), np.concatenate(places)
        order = np.lexsort((place, side, digest))
        again = order[1:][digest[order][1:] == digest[order][:-1]]
        dropped[place[again]] = True
    return dropped


@dataclass(frozen=True)
class Choice:
    """What stands in the shards."""

    sources: list[dict[str, Any]]
    """Per source: ledgers of records and of documents; where the letters of its documents (other strands among them) went; and
    per split the ledger of what was drawn, with what was left out by a budget."""
    fragments: dict[str, Numbers]
    """Split -> numbers of fragments, in the order of the shards."""
    inputs: dict[str, str]
    """File -> fingerprint of its content."""


def choose(recipe: PackRecipe, index: Index) -> Choice:
    """Drop duplicates, draw what the budgets and shares ask for, and put it in a seeded order.

    Raises:
        UserError: a file without one usable record, or with more broken ones than `max_broken`; no training document left.
    """
    kept, ledgers = kept_pieces(index, recipe.sources)
    reports: list[dict[str, Any]] = []
    pools: list[dict[str, dict[str, NDArray[Any]]]] = []
    for number, source in enumerate(recipe.sources):
        mine = [place for place, part in enumerate(index.parts) if part.source == number]
        reports.append(
            {
                "modality": source.modality,
                "records": _records(index, mine, recipe.max_broken),
                **({"kind": source.regions, "regions": _regions(index, mine)} if source.regions else {}),
                **({"kind": "cds", "regions": _regions(index, mine)} if source.modality == "mixed" else {}),
                "documents": Ledger.merged(ledgers[place] for place in mine).as_dict(),
                "letters": dict(sum((Counter(index.counts[place]["letters"]) for place in mine), Counter[str]())),
            }
        )
        pools.append({split: _pool(index, mine, kept, split) for split in SPLITS})
    budgets = _budgets(recipe, [int(pool["train"]["tokens"].sum()) for pool in pools])
    fragments: dict[str, Numbers] = {}
    for side, split in enumerate(SPLITS):
        chosen = []
        for number, source in enumerate(recipe.sources):
            limit, repeats = (budgets[number], source.max_repeats) if split == "train" else (source.max_heldout_tokens, 1)
            taken, report = _draw(index, pools[number][split], limit, repeats, [recipe.seed, number, side])
            report["letters"][f"packed_{split}"] = report["letters"].pop("packed")
            if limit is not None and split == "train" and recipe.sources[0].share is not None:
                report["asked_tokens"] = limit
            letters = reports[number]["letters"]
            for reason, found in report.pop("letters").items():
                if found:
                    letters[reason] = letters.get(reason, 0) + found
            reports[number][split] = report
            chosen.append(taken)
        every = np.concatenate(chosen)
        fragments[split] = every[np.random.default_rng([recipe.seed, side]).permutation(len(every))]
    if not len(fragments["train"]):
        raise UserError(f"{recipe.out}: no training document is left; lower heldout_share, or raise max_tokens or max_n_share")
    return Choice(reports, fragments, _inputs(index))


def _pool(index: Index, parts: Sequence[int], kept: NDArray[np.bool_], split: str) -> dict[str, NDArray[Any]]:
    """Pieces of one source and split that could be taken, by column; `first` is the number of each piece's first fragment."""
    tables = []
    for part in parts:
        rows = index.rows(part)
        side = (rows["flags"] & HELD_OUT > 0) == (split == "heldout")
        mine = np.flatnonzero(side & kept[index.pieces[part] : index.pieces[part + 1]])
        table = {name: rows[name][mine].astype(np.int64) for name in ("first", "tokens", "fragments", "letters", "flags")}
        tables.append({**table, "piece": mine + index.pieces[part], "first": table["first"] + index.fragments[part]})
    pool = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    return {"special": (pool.pop("flags") & SPECIAL) > 0, **pool}


def _budgets(recipe: PackRecipe, available: list[int]) -> list[int | None]:
    """Training tokens of each source: by its share, and at most max_tokens; None takes every document once."""
    if recipe.sources[0].share is None:
        return [source.max_tokens for source in recipe.sources]
    shares = [source.share or 0.0 for source in recipe.sources]
    repeated = [tokens * source.max_repeats for source, tokens in zip(recipe.sources, available, strict=True)]
    most = [min(tokens, source.max_tokens or tokens) for source, tokens in zip(recipe.sources, repeated, strict=True)]
    total = recipe.total_tokens or min(tokens * sum(shares) / share for tokens, share in zip(most, shares, strict=True))
    wanted = [math.floor(total * share / sum(shares)) for share in shares]
    return [min(tokens, source.max_tokens or tokens) for tokens, source in zip(wanted, recipe.sources, strict=True)]


def _draw(index: Index, pool: dict[str, NDArray[Any]], limit: int | None, repeats: int, seed: list[int]) -> tuple[Numbers, dict[str, Any]]:
    """Fragments of pieces drawn until the next would not fit, in as many rounds as allowed; and the ledger of the first round."""
    ledger, taken, tokens, repeated = Ledger(), [np.zeros(0, dtype=np.int64)], 0, 0
    for turn in range(repeats if limit is not None else 1):
        order = np.random.default_rng([*seed, turn]).permutation(len(pool["piece"]))
        if limit is not None:
            order = order[: int(np.searchsorted(np.cumsum(pool["tokens"][order]), limit - tokens, "right"))]
        special = order[pool["special"][order]]
        tokens += int(pool["tokens"][order].sum())
        taken.append(_ranges(pool["first"][order], pool["fragments"][order]))
        if turn:
            repeated += len(order) - len(special)
        else:
            ledger.read, ledger.written = len(order), len(order) - len(special)
            spelt, lost = int(pool["letters"][order].sum()), int(pool["letters"][special].sum())
            letters = {SPELLS_CONTROL: lost, "left_out_by_budget": int(pool["letters"].sum()) - spelt, "packed": spelt - lost}
            if len(special):
                ledger.reasons[SPELLS_CONTROL] = len(special)
                ledger.examples[SPELLS_CONTROL] = index.ids(pool["piece"][np.sort(special)[:5]])
        if len(order) < len(pool["piece"]) or not tokens:
            break
    report = {**ledger.as_dict(), "left_out_by_budget": len(pool["piece"]) - ledger.read, "tokens": tokens, "letters": letters}
    return np.concatenate(taken), report | ({"repeated": repeated} if repeats > 1 else {})


def _ranges(first: Numbers, counts: Numbers) -> Numbers:
    """first[0], first[0] + 1, ... (counts[0] of them), first[1], ..."""
    ends = np.cumsum(counts)
    return np.repeat(first - (ends - counts), counts) + np.arange(int(ends[-1]) if len(ends) else 0)


def _records(index: Index, parts: Sequence[int], max_broken: float) -> dict[str, Any]:
    """File -> ledger of its records."""
    files: dict[str, list[dict[str, Any]]] = {}
    for place in parts:
        files.setdefault(str(index.parts[place].file), []).append(index.counts[place]["records"])
    ledgers = {file: Ledger.merged(found, max_broken) for file, found in files.items()}
    for file, ledger in ledgers.items():
        ledger.close(file, Ledger(), hint="Mend the file or remove it from the recipe")
    return {file: ledger.as_dict() for file, ledger in ledgers.items()}


def _regions(index: Index, parts: Sequence[int]) -> dict[str, Any]:
    """Annotation -> ledger of its regions: annotated, used, set aside."""
    found = {str(index.parts[place].annotation or index.parts[place].file): index.counts[place]["regions"] for place in parts}
    return {file: ledger for file, ledger in found.items() if ledger["read"]}


def _inputs(index: Index) -> dict[str, str]:
    hashes: dict[str, list[str]] = {}
    for part, count in zip(index.parts, index.counts, strict=True):
        hashes.setdefault(str(part.file), []).append(count["sha256"])
    return {file: file_fingerprint(Path(file), found) for file, found in sorted(hashes.items())}
