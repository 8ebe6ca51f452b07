"""Clusters and nearest neighbours by MMseqs2, where the program `mmseqs` is installed: `clusters=mmseqs`, `search=mmseqs`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from artefacts.errors import UserError
from data_convert.splits.pool import Ints, Space
from sequences.alphabets import DNA, reverse_complement

COVERAGE = 0.8
HOW = {"dna": ("--dbtype", "2", "-k", "11"), "protein": ("--dbtype", "1", "-s", "7.5")}
"""DNA: words of 11 letters, since the usual 15 need a table of 4^15 places, 8 GiB; 13 found no more than 11. Proteins: the most sensitive
search; the usual one finds 58 % of simulated pairs of 50 residues with half of them equal, this 84 %."""
NO_WORDS = "No k-mer could be extracted"
"""What MMseqs2 dies of where all sequences are too short or too ambiguous to be searched."""


def mmseqs_pairs(space: Space, least: float) -> Ints:
    """[pairs, 2] Each node with the representative of its cluster.

    DNA is given on both strands, each a sequence of its own: MMseqs2 does not reliably bring reverse complements
    together (soedinglab/MMseqs2#858). Coverage is 0.8 of the member (`--cov-mode 1`; mode 5 compares lengths only).

    Raises:
        UserError: no `mmseqs` on PATH, or it failed.
    """
    program = shutil.which("mmseqs")
    if program is None:
        raise UserError("clusters=mmseqs: no `mmseqs` on PATH; install MMseqs2 or use clusters=builtin")
    if not len(space):
        return np.zeros((0, 2), dtype=np.int64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "nodes.fasta").open("w", encoding="ascii") as handle:
            for node in range(space.first, space.first + len(space)):
                letters = space.letters(node)
                handle.write(f">{node}\n{letters}\n")
                if space.alphabet is DNA:
                    handle.write(f">{node}r\n{reverse_complement(letters)}\n")
        command = [program, "easy-cluster", "nodes.fasta", "found", "work", "--min-seq-id", str(least), "-c", str(COVERAGE)]
        done = subprocess.run(
            [*command, "--cov-mode", "1", *HOW[space.alphabet.name], "-v", "1"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode and NO_WORDS in done.stdout + done.stderr:
            return np.zeros((0, 2), dtype=np.int64)
        table = folder / "found_cluster.tsv"
        if done.returncode or not table.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise UserError(f"mmseqs easy-cluster failed ({said[0]}); run with clusters=builtin, or mend the installation")
        rows = [line.split("\t") for line in table.read_text(encoding="ascii").splitlines()]
    return np.array([[int(cell.removesuffix("r")) for cell in row[:2]] for row in rows], dtype=np.int64).reshape(-1, 2)


def mmseqs_hits(space: Space, queries: Ints, targets: Ints) -> list[dict[int, float]]:
    """Target -> identity of each query's hits, as `near.hits` gives them: equal letters of the alignment per letter of the shorter.

    Raises:
        UserError: no `mmseqs` on PATH, or it failed.
    """
    program = shutil.which("mmseqs")
    if program is None:
        raise UserError("search=mmseqs: no `mmseqs` on PATH; install MMseqs2 or use search=builtin")
    place = {int(node): row for row, node in enumerate(queries)}
    found: list[dict[int, float]] = [{} for _ in queries]
    for row in np.flatnonzero(np.isin(queries, targets)).tolist():
        found[row][int(queries[row])] = 1.0
    if not len(queries) or not len(targets):
        return found
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, nodes in (("queries", queries), ("targets", targets)):
            lines = [f">{node}\n{space.letters(int(node))}\n" for node in nodes]
            if file == "targets" and space.alphabet is DNA:
                lines += [f">{node}r\n{reverse_complement(space.letters(int(node)))}\n" for node in nodes]
            (folder / f"{file}.fasta").write_text("".join(lines), encoding="ascii")
        kind = "3" if space.alphabet is DNA else "1"
        how = ["-k", "11", "--strand", "1"] if space.alphabet is DNA else ["-s", "7.5"]
        command = [program, "easy-search", "queries.fasta", "targets.fasta", "found.tsv", "work", "-a", "--search-type", kind, *how]
        columns = ["--format-output", "query,target,nident", "-e", "10", "--max-seqs", "20", "--threads", "1", "-v", "1"]
        done = subprocess.run([*command, *columns], cwd=folder, capture_output=True, text=True, errors="replace")
        if done.returncode and NO_WORDS in done.stdout + done.stderr:
            return found
        table = folder / "found.tsv"
        if done.returncode or not table.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise UserError(f"mmseqs easy-search failed ({said[0]}); run with search=builtin, or mend the installation")
        for line in table.read_text(encoding="ascii").splitlines():
            query, target, equal = line.split("\t")
            one, two = int(query), int(target.removesuffix("r"))
            identity = int(equal) / int(min(space.lengths[one - space.first], space.lengths[two - space.first]))
            own = found[place[one]]
            own[two] = max(identity, own.get(two, 0.0))
    return found
