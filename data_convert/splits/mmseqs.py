"""Clusters and nearest neighbours by MMseqs2, where the program `mmseqs` is installed: `clusters=mmseqs`, `search=mmseqs`."""

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
    nodes = np.arange(space.first, space.first + len(space))
    options = ["--min-seq-id", str(least), "-c", str(COVERAGE), "--cov-mode", "1", *HOW[space.alphabet.name], "-v", "1"]
    rows = _run("clusters", "easy-cluster", space, {"nodes": nodes}, "nodes", "found", "found_cluster.tsv", options)
    return np.array([[int(cell.removesuffix("r")) for cell in row[:2]] for row in rows], dtype=np.int64).reshape(-1, 2)


def mmseqs_hits(space: Space, queries: Ints, targets: Ints) -> list[dict[int, float]]:
    """Target -> identity of each query's hits, as `near.hits` gives them: equal letters of the alignment per letter of the shorter.

    Raises:
        UserError: no `mmseqs` on PATH, or it failed.
    """
    place = {int(node): row for row, node in enumerate(queries)}
    own = np.isin(queries, targets)
    found: list[dict[int, float]] = [{int(node): 1.0} if known else {} for node, known in zip(queries, own, strict=True)]
    kind, how = ("3", ["-k", "11", "--strand", "1"]) if space.alphabet is DNA else ("1", ["-s", "7.5"])
    columns = ["--format-output", "query,target,nident", "-e", "10", "--max-seqs", "20", "--threads", "1", "-v", "1"]
    files = {"queries": queries, "targets": targets}
    for query, target, equal in _run(
        "search", "easy-search", space, files, "targets", "found.tsv", "found.tsv", ["-a", "--search-type", kind, *how, *columns]
    ):
        one, two = int(query), int(target.removesuffix("r"))
        identity = int(equal) / int(min(space.lengths[one - space.first], space.lengths[two - space.first]))
        mine = found[place[one]]
        mine[two] = max(identity, mine.get(two, 0.0))
    return found


def _run(
    field: str, verb: str, space: Space, files: dict[str, Ints], both: str, out: str, table: str, options: list[str]
) -> list[list[str]]:
    """The rows of the table that one call writes; none where a file has no sequence, or none of them can be searched.

    Args:
        field: of the recipe, for messages.
        files: FASTA files to be written, by name: nodes.
        both: of these, the one that DNA enters on both strands.
    """
    program = shutil.which("mmseqs")
    if program is None:
        raise UserError(f"{field}=mmseqs: no `mmseqs` on PATH; install MMseqs2 or use {field}=builtin")
    if not all(map(len, files.values())):
        return []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, nodes in files.items():
            with (folder / f"{file}.fasta").open("w", encoding="ascii") as handle:
                for node in nodes.tolist():
                    letters = space.letters(node)
                    handle.write(f">{node}\n{letters}\n")
                    if file == both and space.alphabet is DNA:
                        handle.write(f">{node}r\n{reverse_complement(letters)}\n")
        command = [program, verb, *(f"{file}.fasta" for file in files), out, "work", *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        if done.returncode and NO_WORDS in done.stdout + done.stderr:
            return []
        if done.returncode or not (folder / table).is_file():
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise UserError(f"mmseqs {verb} failed ({said[0]}); run with {field}=builtin, or mend the installation")
        return [line.split("\t") for line in (folder / table).read_text(encoding="ascii").splitlines()]
