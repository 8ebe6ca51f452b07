"""Corpora -> packed token shards: `llama-gene convert pack`.

Three steps: every part of the corpus is converted by itself (plan.py, parts.py), the parts are compared and drawn from
(choose.py), and what is chosen is packed into blocks, shard by shard (blocks.py). Parts and shards are finished or
absent, under `OUT.parts` until the end: a run that was cut short goes on from there when the command is given again, and
gives the same bytes, as it does for any number of workers or array tasks.

Blocks hold whole documents of one modality, packed best-fit-decreasing, then padded. Choose windows that fill a block
well: the padding share is in the manifest, and a share above a tenth is said aloud.
"""

import hashlib
import itertools
import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.children import cores
from artefacts.errors import SET_ASIDE, Ledger, UserError, say_read
from artefacts.folder import SEAL, check_absent, discard, fingerprint, new_file, new_folder, sound, write_manifest
from data_convert.corpus.blocks import ShardJob, write_shard
from data_convert.corpus.choose import Choice, Index, choose
from data_convert.corpus.crew import run_jobs
from data_convert.corpus.exclude import read_excluded
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.parts import check_encoder, convert_part, finished, read_rows
from data_convert.corpus.plan import Part, plan
from data_convert.corpus.shards import COUNTS, SPLITS, STAGE, tokenizer_fingerprint

__all__ = ["PackRecipe", "Source", "pack"]

log = logging.getLogger(__name__)
MUCH_PADDING = 0.1
FEW_BLOCKS = 20
WORTH_A_WORKER = 32 << 20
"""Bytes of input below which starting another process takes longer than it saves."""
TOKENS_WORTH_A_WORKER = 16 << 20
"""The same for packing what is converted."""


def pack(recipe: PackRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Write `train/` and, where documents are held out, `heldout/` (format: shards.py). Returns the manifest's counts.

    The same recipe over the same files gives the same bytes. Workers are spawned: a script that calls this with several
    must do so under `if __name__ == "__main__":`. With `part: K/N` only parts are converted, and their number
    is returned.

    Raises:
        UserError: missing or unusable files, a tokenizer that was not extended, no training document left, or parts that
            are missing with `part: merge`.
    """
    check_absent(recipe.out, overwrite)
    work = recipe.out.with_name(recipe.out.name + ".parts")
    parts = plan(recipe)
    encoder = check_encoder(recipe)
    excluded = read_excluded(tuple(recipe.exclude), recipe.max_broken)[1]
    folders = [work / "parts" / f"{part.number:05d}" for part in parts]
    index, of = recipe.share_of_parts
    mine = [part for part in parts if part.number % of == index - 1]
    missing = [part for part in mine if not finished(folders[part.number], part)]
    if recipe.part == "merge" and missing:
        names = ", ".join(f"{part.number} ({part})" for part in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"{work}: {len(missing)} of {len(parts)} parts are missing: {names}; convert them, or give the command without part"
        )
    run_jobs(
        convert_part, [(recipe, part, folders[part.number]) for part in missing], _workers(recipe, missing), "convert parts", recipe.engine
    )
    if recipe.part not in (None, "merge"):
        return {"parts": len(mine), "converted": len(missing), "of": len(parts)}
    index_of_parts = Index(parts, folders)
    choice = choose(recipe, index_of_parts)
    annexed = [*recipe.exclude, *(part.annotation for part in parts if part.annotation)]
    inputs = {"tokenizer": tokenizer_fingerprint(recipe.tokenizer), **{str(file): fingerprint(file) for file in annexed}}
    shards = _write_shards(recipe, index_of_parts, choice, work, encoder.pad)
    counts: dict[str, Any] = {"sources": choice.sources, "files": list(_file_numbers(parts))}
    if excluded:
        counts["excluded"] = {file: ledger.as_dict() for file, ledger in excluded.items()}
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        for split in SPLITS:
            for shard in shards[split]:
                # linked, not moved: what stops here must not lose finished shards
                shutil.copytree(shard, folder / split / shard.name, copy_function=_link, ignore=shutil.ignore_patterns(SEAL))
            counts[split] = _counts(recipe, split, shards[split])
        _list_set_aside(folder, folders, excluded)
        write_manifest(folder, STAGE, recipe=recipe.model_dump(mode="json"), inputs=inputs | choice.inputs, counts=counts)
        if recipe.verify:
            from data_convert.corpus.verify import verify

            counts["verified"] = verify(recipe, folder, counts)
            write_manifest(folder, STAGE, recipe=recipe.model_dump(mode="json"), inputs=inputs | choice.inputs, counts=counts)
    discard(work, recipe.out)
    _say(recipe, counts, excluded)
    return counts


def _say(recipe: PackRecipe, counts: dict[str, Any], excluded: dict[str, Ledger]) -> None:
    """What was read, file by file, and what became of the documents."""
    for file, ledger in excluded.items():
        say_read(f"excluded by {file}", ledger.as_dict())
    for source in counts["sources"]:
        for file, ledger in source["records"].items():
            say_read(file, ledger)
        for file, ledger in source.get("regions", {}).items():
            say_read(f"{file}: {source['kind']}", ledger)
        say_read(f"{source['modality']} documents", source["documents"])
    if (recipe.out / SET_ASIDE).is_file():
        print(f"set aside: {recipe.out / SET_ASIDE}", file=sys.stderr)


def _list_set_aside(folder: Path, parts: Sequence[Path], excluded: dict[str, Ledger]) -> None:
    """Every place that a part or a file of benchmark sequences set aside, in one list, if there are any."""
    lines = [f"{place}\t{reason}\n" for ledger in excluded.values() for place, reason in ledger.listed()]
    lines += [line for part in parts for line in (part / SET_ASIDE).read_text(encoding="utf-8").splitlines(keepends=True)]
    if lines:
        (folder / SET_ASIDE).write_text("".join(["place\treason\n", *lines]), encoding="utf-8")


def _write_shards(recipe: PackRecipe, index: Index, choice: Choice, work: Path, pad: int) -> dict[str, list[Path]]:
    """Write the shards that are not there yet. Returns the folders of all, per split."""
    tokens = np.concatenate([read_rows(folder, "fragments")["tokens"] for folder in index.folders])
    numbers_of_files = _file_numbers(index.parts)
    files = [numbers_of_files[str(part.file)] for part in index.parts]
    modalities: list[str] = [recipe.sources[part.source].modality for part in index.parts]
    weighted = any(source.weighted for source in recipe.sources)
    jobs: dict[str, list[ShardJob]] = {}
    for side, split in enumerate(SPLITS):
        numbers = choice.fragments[split].astype("<i8", copy=False)
        settings = [[part.key for part in index.parts], recipe.block_tokens, recipe.shard_blocks, recipe.seed, pad]
        key = hashlib.sha256(json.dumps(settings).encode() + numbers.tobytes()).hexdigest()[:16]
        folder = work / "shards" / f"{split}-{key}"
        order = folder / "order"
        with new_file(order, overwrite=True) as file:
            numbers.tofile(file)
        size = recipe.shard_blocks * recipe.block_tokens
        number_of_shard = (np.cumsum(tokens[numbers], dtype=np.int64) - 1) // size if len(numbers) else numbers
        cuts = [0, *(np.flatnonzero(np.diff(number_of_shard)) + 1).tolist(), len(numbers)] if len(numbers) else []
        jobs[split] = [
            ShardJob(
                folder / f"{number:05d}", order, start, stop, list(index.folders), modalities,
                index.fragments, index.pieces, files, recipe.block_tokens, pad, [recipe.seed, side, number], weighted,
            )
            for number, (start, stop) in enumerate(itertools.pairwise(cuts))
        ]  # fmt: skip
    missing = [job for of_split in jobs.values() for job in of_split if not sound(job.folder)]
    worth = 1 + sum(int(tokens[choice.fragments[split]].sum(dtype=np.int64)) for split in SPLITS) // TOKENS_WORTH_A_WORKER
    run_jobs(write_shard, missing, min(_workers(recipe, index.parts), worth), "write shards", recipe.engine)
    return {split: [job.folder for job in of_split] for split, of_split in jobs.items()}


def _file_numbers(parts: Sequence[Part]) -> dict[str, int]:
    """Files in the order of the parts -> number."""
    return {file: number for number, file in enumerate(dict.fromkeys(str(part.file) for part in parts))}


def _counts(recipe: PackRecipe, split: str, shards: list[Path]) -> dict[str, dict[str, int | float]]:
    """Per modality of a split: fragments, tokens (padding not counted), letters, blocks, padding_share."""
    names = dict.fromkeys(source.modality for source in recipe.sources)
    total: dict[str, dict[str, int | float]] = {name: {"fragments": 0, "tokens": 0, "letters": 0, "blocks": 0} for name in names}
    for shard in shards:
        for modality, counts in json.loads((shard / COUNTS).read_text(encoding="utf-8")).items():
            for name, count in counts.items():
                total[modality][name] += count
    for modality, counts in total.items():
        room = counts["blocks"] * recipe.block_tokens
        counts["padding_share"] = round(1 - counts["tokens"] / room, 4) if room else 0.0
        if counts["padding_share"] > MUCH_PADDING and counts["blocks"] > FEW_BLOCKS:
            log.warning("%s", _advice(f"{split} {modality}", counts, recipe.block_tokens))
    return total


def _advice(name: str, counts: dict[str, int | float], block_tokens: int) -> str:
    usual = int(counts["tokens"] / counts["fragments"])
    longer = 0.97 * block_tokens / (block_tokens // usual * usual)  # 3 % room, since windows differ in tokens
    return (
        f"{name}: {100 * counts['padding_share']:.0f} % of the blocks is padding. A document has about {usual} tokens, a block "
        f"{block_tokens}; a window {longer:.2f} times as long would fill it better"
    )


def _workers(recipe: PackRecipe, parts: Sequence[Part]) -> int:
    if recipe.workers is not None:
        return recipe.workers
    worth = sum(part.stop - part.start for part in parts) // WORTH_A_WORKER
    return max(1, min(cores(), worth))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
