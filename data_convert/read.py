"""Any file of a corpus -> documents: which reader a file gets is decided here and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from artefacts.errors import Ledger
from data_convert.documents import Document, sequence_documents, text_documents
from sequences.alphabets import ALPHABETS
from sequences.markdown import Unit
from sequences.readers import Sequence, read_sequences
from sequences.tables import is_table, read_table
from sequences.texts import read_texts
from sequences.uniprot import read_uniprot, uniprot_format


def read_documents(
    modality: str,
    file: str | Path,
    records: Ledger,
    documents: Ledger,
    *,
    window: int | None = None,
    stride: int | None = None,
    max_n_share: float = 1.0,
    max_repeat_share: float = 1.0,
    repeats_kept: float = 0.0,
    unit: Unit = "document",
    rejected: Counter[str] | None = None,
) -> Iterator[Document]:
    """Documents of one file, each with modality, source and id.

    Args:
        modality: dna, rna, protein or text. Proteins also come from UniProt's files, one document each, id = accession.
        records: counts what the file holds. documents: counts what becomes of it.
        window, stride, max_n_share, max_repeat_share, repeats_kept: see `sequence_documents`; without meaning for text.
        unit: text only: one document per text, section or paragraph.
        rejected: letters of the sequence documents set aside, by reason, are added to it.

    Raises:
        UserError: see `read_texts`, `read_uniprot`, `read_table`, `read_sequences`.
    """
    if modality == "text":
        return text_documents(read_texts(file, records, unit), documents, str(file))
    if modality == "protein" and uniprot_format(file):
        sequences: Iterator[Sequence] = (
            Sequence(entry.accession, entry.name, entry.sequence, entry.line) for entry in read_uniprot(file, records)
        )
    elif is_table(file):
        sequences = read_table(file, ALPHABETS[modality], records)
    else:
        sequences = read_sequences(file, ALPHABETS[modality], records, keep_case=max_repeat_share < 1)
    return sequence_documents(
        sequences, modality, documents, window=window, stride=stride, max_n_share=max_n_share,
        max_repeat_share=max_repeat_share, repeats_kept=repeats_kept, source=str(file), rejected=rejected,
    )  # fmt: skip
