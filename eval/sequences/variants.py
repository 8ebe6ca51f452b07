"""`eval sequences variants`: how much less likely a variant makes its sequence, delta = log p(alternative) - log p(reference).

Both sides of a pair have the same number of letters: next to an insertion or a deletion the window ends earlier or later in the
genome. With `left` the allele alone is scored, given the letters before it; the token that it ends in is filled up from the genome,
and the sum over all pieces that begin with the allele's letters is taken, so that the fill does not count.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from math import fsum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from artefacts.errors import Ledger, UserError, at
from eval.judge.metrics import Ints, mean_of
from eval.judge.probability import Curves
from eval.sequences.frame import Ask
from eval.sequences.inputs import read_all, set_aside
from eval.sequences.recipe import VariantsRecipe
from eval.sequences.run import Evaluation, Rows, rounded
from sequences.alphabets import ALPHABETS, Alphabet, BadSequence, reverse_complement
from sequences.files import Line, numbered_lines
from sequences.tables import Table, whole_number

VCF = ("chrom", "pos", "id", "ref", "alt")
NAMES = {
    "chrom": ("chrom", "chromosome", "chr", "contig"),
    "pos": ("pos", "position"),
    "ref": ("ref", "reference"),
    "alt": ("alt", "alternate", "alternative"),
}
"""Names of a column in a table, either case."""
SEVERAL = "further alleles of one line"
MOST_SHOWN = 5


class Variant(NamedTuple):
    """One alternative allele."""

    where: str
    chrom: str
    start: int
    """From 0."""
    id: str
    ref: str
    alt: str
    label: str


def variants(recipe: VariantsRecipe, *, overwrite: bool = False) -> None:
    """Write the folder.

    Raises:
        UserError: missing model, genome or variants; a file that is neither VCF nor a table of them; most of them not in the genome.
    """
    job = Evaluation(recipe, "variants", overwrite)
    alphabet = ALPHABETS[recipe.alphabet]
    genome = _genome(recipe)
    known = list(_checked(recipe, genome, alphabet, job.ledger))
    if recipe.window == "left":
        for variant in known:
            if len(variant.ref) != len(variant.alt):
                set_aside(job.ledger, "alleles of unequal length, which window=left cannot compare", variant.where)
        known = [variant for variant in known if len(variant.ref) == len(variant.alt)]
        if not known:
            raise UserError(f"{recipe.variants}: not one variant of two alleles of equal length; ask with window=centred")
    gold = _gold(recipe, known, job.ledger) if recipe.label is not None else None
    strands = 1 + recipe.both_strands
    asks = [ask for variant in known for ask in _asks(recipe, variant, genome[variant.chrom], job.frame.whole, job.frame.spelling.longest)]

    def rows(found: list[list[float]]) -> Rows:
        made: Rows = []
        for place, variant in enumerate(known):
            own = [fsum(values) for values in found[place * 2 * strands : (place + 1) * 2 * strands]]
            ref, alt = (fsum(own[side::2]) / strands for side in (0, 1))
            line = {"chrom": variant.chrom, "pos": variant.start + 1, "id": variant.id, "ref": variant.ref, "alt": variant.alt}
            line |= {"delta": rounded(alt - ref), "log_likelihood_ref": rounded(ref), "log_likelihood_alt": rounded(alt)}
            made.append(line | ({} if recipe.label is None else {"label": variant.label}))
        delta_n = np.array([row["delta"] for row in made])
        shares = {"mean delta": mean_of(delta_n), "share below 0": mean_of((delta_n < 0) + (delta_n == 0) / 2)}
        job.add("all variants", shares, len(made))
        if gold is not None:
            judged, gold_n = gold
            curves = Curves(gold_n, np.stack([delta_n, -delta_n], 1)[judged])
            job.add(f"{gold_n.sum():,} positive of {len(gold_n):,}", {"AUROC": curves.auroc, "AUPRC": curves.auprc}, len(gold_n))
        return made

    sides = "whole windows, the variant in their middle" if recipe.window == "centred" else "the allele behind a window to its left"
    job.note = f"{sides}; {recipe.letters:,} letters{', mean of both strands' if strands == 2 else ''}"
    job.log_likelihoods(asks, rows)


def _gold(recipe: VariantsRecipe, known: Sequence[Variant], ledger: Ledger) -> tuple[Ints, Ints]:
    """Places of the variants with a label of either side, and 1 for each positive one. Raises UserError where a side is empty."""
    judged = [place for place, variant in enumerate(known) if variant.label in (*recipe.positive, *recipe.negative)]
    gold_n = np.array([int(known[place].label in recipe.positive) for place in judged], dtype=np.int64)
    if len(judged) < len(known):
        ledger.notes["labels that are neither positive nor negative"] += len(known) - len(judged)
    if not 0 < gold_n.sum() < len(gold_n):
        found = ", ".join(sorted({variant.label for variant in known})[:MOST_SHOWN])
        raise UserError(
            f"{recipe.variants}: {gold_n.sum()} positive and {len(gold_n) - gold_n.sum()} negative labels in {recipe.label}, and both are "
            f"needed; it holds {found}: say which are which with positive=[...] negative=[...]"
        )
    return np.array(judged), gold_n


def _genome(recipe: VariantsRecipe) -> dict[str, str]:
    ledger, found = Ledger(recipe.max_broken), dict[str, str]()
    for where, record in read_all(recipe.genome, recipe.alphabet, ledger):
        if record.id in found:
            raise UserError(f"{where}: a second record '{record.id}'; a genome has each chromosome once")
        found[record.id] = record.letters
    return found


def _checked(recipe: VariantsRecipe, genome: dict[str, str], alphabet: Alphabet, ledger: Ledger) -> Iterator[Variant]:
    """Variants whose reference allele is the genome's; the others are counted. Raises UserError where too many are not."""
    before = ledger.mark()
    for where, cells, problem in _lines(recipe):
        chrom, pos, name, ref, alt, label = cells
        if problem:
            ledger.read += 1
            ledger.reject(problem, where)
            continue
        alleles = alt.split(",")
        if len(alleles) > 1:
            ledger.notes[SEVERAL] += len(alleles) - 1
        start = (whole_number(pos) or 0) - 1
        for one in alleles:
            ledger.read += 1
            try:
                letters = [alphabet.read(allele) for allele in (ref, one)]
            except BadSequence as bad:
                ledger.reject(f"allele: {bad.reason}", f"{where} ({one})")
                continue
            there = genome.get(chrom, "")[max(start, 0) : max(start, 0) + len(ref)]
            if chrom not in genome:
                reason = "no such chromosome in the genome"
            elif not 0 <= start < len(genome[chrom]):
                reason = "position outside its chromosome"
            elif max(map(len, letters)) > recipe.letters // 2:
                reason = f"an allele of more than half a window ({recipe.letters // 2} letters)"
            elif letters[0] == letters[1]:
                reason = "both alleles are the same"
            elif letters[0] != there:
                ledger.reject("reference allele that is not the genome's", f"{where} ({ref}, the genome has {there})")
                continue
            else:
                ledger.written += 1
                yield Variant(where, chrom, start, name, letters[0], letters[1], label)
                continue
            ledger.reject(reason, where)
    names = ", ".join(list(genome)[:MOST_SHOWN])
    ledger.close(recipe.variants, before, "variant", hint=f"Is {recipe.genome[0]} its genome? That has {names}")


def _lines(recipe: VariantsRecipe) -> Iterator[tuple[str, list[str], str]]:
    """Place, (chrom, pos, id, ref, alt, label) and problem of each line."""
    table = _table(recipe.variants)
    places = {name: table.place(names) for name, names in NAMES.items()}
    if missing := [name for name, place in places.items() if place is None]:
        raise UserError(
            f"{at(table.path, table.header_line)}: no column {missing[0]}; give VCF, or a table with the columns {', '.join(NAMES)}; "
            f"found: {', '.join(table.names)[:200]}"
        )
    column, _, key = (recipe.label or "").partition("/") if (recipe.label or "").startswith("INFO/") else (recipe.label or "", "", "")
    places |= {"id": table.place(("id", "name")), "label": table.place((column.casefold(),)) if column else None}
    if column and places["label"] is None:
        raise UserError(f"{at(table.path, table.header_line)}: no column '{column}' for the labels; found: {', '.join(table.names)[:200]}")
    for row in table:
        cells = [row.cells[place] if row.cells and place is not None else "" for place in map(places.get, (*VCF, "label"))]
        if key:
            fields = dict(field.partition("=")[::2] for field in cells[-1].split(";"))
            cells[-1] = fields.get(key, "")
        yield at(table.path, row.line), cells, row.problem


def _table(path: Path) -> Table:
    """A VCF below its `##` lines, with or without the line of names; or a table with names."""
    lines = numbered_lines(path)
    first: Line | None = next((line for line in lines if line[1].strip() and not line[1].startswith(b"##")), None)
    if first is None:
        raise UserError(f"{at(path, 1)}: holds no variant; give VCF, or a table with the columns {', '.join(NAMES)}")
    whole = chain([first], lines)
    cells = first[1].decode("utf-8", "replace").rstrip("\n").split("\t")
    if len(cells) < len(VCF) or not cells[1].strip().isdigit():
        return Table(path, whole, delimiter="\t" if first[1].startswith(b"#") else None)
    more = [f"column {number}" for number in range(len(VCF) + 1, len(cells) + 1)]
    return Table(path, whole, delimiter="\t", names=[*VCF, *more])


def _asks(recipe: VariantsRecipe, variant: Variant, chromosome: str, whole: int, longest: int) -> Iterator[Ask]:
    """Reference and alternative; then the same of the other strand."""
    room, reach = max(recipe.letters - recipe.letters % whole, whole), max(len(variant.ref), len(variant.alt))
    low = max(0, variant.start - room - longest)
    around = chromosome[low : variant.start + reach + room + longest]
    ref, alt, start = variant.ref, variant.alt, variant.start - low
    sides: list[tuple[str, str, str, int]] = [(around, ref, alt, start)]
    if recipe.both_strands:
        other = len(around) - start - len(ref)
        sides.append((reverse_complement(around), reverse_complement(ref), reverse_complement(alt), other))
    for letters, one, two, at_ in sides:
        yield from _pair(letters, one, two, at_, room, longest, recipe.window == "left")


def _pair(letters: str, ref: str, alt: str, start: int, room: int, longest: int, left: bool) -> Sequence[Ask]:
    behind = start + len(ref)
    if left:
        begin = max(0, behind - room)
        fill = letters[behind : behind + longest - 1]
        return [Ask(letters[begin:start] + allele + fill, start - begin, start - begin + len(allele)) for allele in (ref, alt)]
    begin = max(0, start - (room - len(ref)) // 2)
    texts = [(letters[begin:start] + allele + letters[behind:])[:room] for allele in (ref, alt)]
    size = min(map(len, texts))
    return [Ask(text[:size]) for text in texts]
