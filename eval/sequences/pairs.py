"""`eval sequences pairs`: is a protein likelier after its own gene than after another one, and after a gene than another protein?

A row is `[begin] <dna> gene </dna> words <protein> residues`, as mixed documents hold them; the residues are scored. Genes are sorted by
length, and each one's other is the next, so that length says nothing. Two proteins after one gene are compared by residue.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer

from artefacts.errors import Ledger, UserError
from data_convert.corpus.documents import Document
from data_convert.corpus.pack_recipe import Source
from data_convert.corpus.words import mixed_documents
from eval.ask.subjects import located
from eval.judge.metrics import mean_of
from eval.sequences.frame import Window
from eval.sequences.inputs import set_aside
from eval.sequences.recipe import PairsRecipe
from eval.sequences.run import NATS_TO_BITS, Evaluation, Rows, rounded
from sequences.alphabets import DNA, PROTEIN
from sequences.spans import sequences

Pair = tuple[str, str, str]
"""Id, gene and protein."""


def pairs(recipe: PairsRecipe, *, overwrite: bool = False) -> None:
    """Write the folder.

    Raises:
        UserError: missing model, files that are not GenBank or hold fewer than two genes that fit, existing output.
    """
    from eval.sequences.likelihood import Reader  # torch, once the inputs are known to be sound

    job = Evaluation(recipe, "pairs", overwrite)
    found = _genes(recipe, job)
    frame = replace(job.frame, head=job.frame.head[:-1], room=job.frame.room + 1)  # a row begins with DNA, not with a protein
    tokenizer = Tokenizer.from_file(str(located(recipe.model) / "tokenizer.json"))
    opened = tokenizer.get_vocab()[PROTEIN.open_tag]

    def window(place: int, gene: str, protein: str) -> Window:
        ids = tokenizer.encode(f"{DNA.wrap(gene)}{recipe.between}{PROTEIN.wrap(protein)}", add_special_tokens=False).ids
        return Window(place, np.array(ids[:-1], dtype=np.uint32), ids.index(opened) + 1, False, 0)

    def kept(pairs: Sequence[Pair], others: Sequence[Pair], reason: str) -> list[Pair]:
        """Those whose protein fits into a window behind the gene of the other."""
        long = sorted({mine[0] for mine, other in zip(pairs, others, strict=True) if len(window(0, other[1], mine[2])) > frame.room})
        for name in long:
            set_aside(job.ledger, reason, name)
        return [pair for pair in pairs if pair[0] not in long]

    fit = kept(found, found, "gene and protein are longer than a window")
    drawn = np.random.default_rng(recipe.seed).permutation(len(fit)).tolist()
    for place in drawn[recipe.most :]:
        set_aside(job.ledger, f"not among the {recipe.most:,} that were drawn", fit[place][0])
    chosen, before = sorted((fit[place] for place in drawn[: recipe.most]), key=lambda pair: (len(pair[1]), pair[0])), 0
    while len(chosen) != before:
        before, chosen = len(chosen), kept(chosen, chosen[1:] + chosen[:1], "a protein that is longer than a window behind another gene")
    if len(chosen) < 2:
        raise UserError(f"{recipe.files[0]}: {len(chosen)} genes with a protein fit into {frame.room:,} tokens, and two are needed")
    ring = list(zip(chosen, chosen[1:] + chosen[:1], strict=True))
    windows = [window(place, gene, mine[2]) for place, (mine, other) in enumerate(ring) for gene in (mine[1], other[1])]

    def rows(nats: list[float]) -> Rows:
        bits = [-value * NATS_TO_BITS / len(ring[place // 2][0][2]) for place, value in enumerate(nats)]
        own_n, other_gene_n = np.array(bits[::2]), np.array(bits[1::2])
        other_protein_n = np.roll(other_gene_n, 1)  # the other gene of the one before is this one's own
        for of, lost_n in (("own gene against another", other_gene_n - own_n), ("own protein against another", other_protein_n - own_n)):
            job.add(of, {"share right": mean_of((lost_n > 0) + (lost_n == 0) / 2)}, len(ring))
        job.add("own gene against another", {"bits per residue gained": mean_of(other_gene_n - own_n)}, len(ring))
        return [
            {
                "id": mine[0],
                "residues": len(mine[2]),
                "other": other[0],
                "bits_own": rounded(own_n[place]),
                "bits_after_other_gene": rounded(other_gene_n[place]),
                "bits_of_other_protein": rounded(other_protein_n[place]),
            }
            for place, (mine, other) in enumerate(ring)
        ]

    job.note = "a protein after its gene and after another of like length; after its gene, it and another protein; bits per residue"
    job.finish(windows, len(frame.head), Reader(recipe, frame), rows)


def _genes(recipe: PairsRecipe, job: Evaluation) -> list[Pair]:
    """Every coding sequence with its protein, as mixed documents hold them; of equal proteins the first, where all are held out."""
    found, others, entries = list[Pair](), set[str](), job.others.setdefault("entries", Ledger(recipe.max_broken))
    for file in recipe.files:
        source = Source.model_validate({"modality": "mixed", "files": [file]})
        for name, _, group, text in mixed_documents(source, file, entries, job.ledger, Ledger(), recipe.seed):
            spans = {span.alphabet.name: text[span.start : span.end] for span in sequences(text)}
            if spans.keys() != {"dna", "protein"}:
                raise UserError(f"{file}: {name} has no gene beside its protein; give GenBank")
            if recipe.heldout_share is not None and not Document(name, "mixed", text, group=group).is_held_out(recipe.heldout_share):
                set_aside(job.ledger, "not held out", name)
                others.add(spans["protein"])
            else:
                found.append((name, spans["dna"], spans["protein"]))
    kept = []
    for pair in found:
        if pair[2] in others:
            set_aside(job.ledger, "another gene has the same protein", pair[0])
        else:
            others.add(pair[2])
            kept.append(pair)
    return kept
