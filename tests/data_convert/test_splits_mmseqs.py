"""MMseqs2 itself, where it is installed: Debian's package mmseqs2 (`.ci/run` installs it)."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
from records_folder import SPLITS, letters, mutated, write_records
from test_splits_search import planted, space

from data_convert.splits.audit import AuditRecipe, audit, clusters
from data_convert.splits.mmseqs import mmseqs_pairs
from data_convert.splits.pool import read_pool
from data_convert.splits.union import Parents
from sequences.alphabets import DNA, PROTEIN, reverse_complement

pytestmark = pytest.mark.skipif(
    shutil.which("mmseqs") is None, reason="needs MMseqs2: no `mmseqs` on PATH (Debian: apt-get install mmseqs2)"
)


@pytest.mark.parametrize(
    ("alphabet", "size", "alike", "least", "share"),
    [(DNA, 70, 0.95, 0.8, 0.98), (DNA, 300, 0.9, 0.8, 0.98), (PROTEIN, 150, 0.7, 0.5, 0.98)],
)
def test_mutated_copies_are_brought_together_on_either_strand(alphabet, size, alike, least, share):
    originals, copies = planted(alphabet, size, alike, 60, 0)
    found, nodes = space(alphabet, originals + copies)
    parents = Parents(len(found))
    parents.join(mmseqs_pairs(found, least))
    roots = parents.roots()
    together = roots[nodes[:60]] == roots[nodes[60:]]
    assert together.mean() >= share
    assert together[1::2].mean() >= share, "DNA copies with odd numbers are on the other strand"
    assert len(np.unique(roots)) >= 60, "and nothing else is joined"


def test_what_cannot_be_searched_is_alone_and_stops_nothing():
    for alphabet, sequences in ((DNA, ["ACGT", "AC", "N" * 60]), (PROTEIN, ["MK", "X" * 40])):
        found, _ = space(alphabet, sequences)
        assert len(mmseqs_pairs(found, 0.8)) == 0


def test_the_audit_takes_its_clusters(tmp_path):
    """Copies of a gene, one of three on the other strand, end in one cluster; and no cluster is left across the sides."""
    rng = random.Random(5)
    rows = []
    for place in range(40):
        gene = letters(rng, "ACGT", 120)
        for copy in range(3):
            dna = mutated(rng, gene, 0.97, "ACGT")
            rows.append(("one", SPLITS[(place + copy) % 3], (reverse_complement(dna) if copy == 1 else dna,), place % 2))
    recipe = AuditRecipe(records=[write_records(tmp_path / "r", rows)], clusters="mmseqs", out=tmp_path / "audit")
    pool = read_pool(tmp_path / "r")
    _, cluster = clusters(pool, recipe)
    ordered = sorted(range(len(rows)), key=lambda number: SPLITS.index(rows[number][1]))  # as the pool has them
    families: dict[int, set] = {}
    for number, found in zip(ordered, cluster[pool.node].tolist(), strict=True):
        families.setdefault(number // 3, set()).add(found)
    assert sorted(map(len, families.values())) == [1] * 40
    assert len(set().union(*families.values())) == 40
    document = audit(recipe)
    assert document["settings"]["clusters"] == "mmseqs"
    assert "MMseqs2 clusters" in document["split"]["rule"]
    assert document["leakage"]["official"]["test against train"]
    assert not any(document["leakage"]["leak_controlled"].values())


def test_what_its_search_still_finds_alike_is_mended_too(tmp_path):
    """With no cluster joined and the built-in measurement blind, MMseqs2's own search leaves nothing at the threshold: the
    built-in one, no longer blind, agrees."""
    rng = random.Random(7)
    rows = []
    for place in range(60):
        gene = letters(rng, "ACGT", 120)
        rows += [("one", SPLITS[(place + copy) % 3], (mutated(rng, gene, 0.97, "ACGT"),), place % 2) for copy in range(3)]
    records = write_records(tmp_path / "r", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_convert.splits.audit.mmseqs_pairs", lambda space, least: np.zeros((0, 2), dtype=np.int64))
        blind = lambda space, queries, targets: (np.zeros(len(queries)), np.full(len(queries), -1))  # noqa: E731
        patch.setattr("data_convert.splits.residual.best_identity", blind)
        audit(AuditRecipe(records=[records], clusters="mmseqs", write_split=tmp_path / "out"))
    left = audit(AuditRecipe(records=[tmp_path / "out"], clusters="mmseqs"))["residual"]["official"][0]
    assert left["sequences"] > 30
    assert left["most"] < 0.8
