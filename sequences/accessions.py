"""Accessions in the names of records: `sp|P0AD86|LPT_ECOLI`, `NP_414542.1`, `lcl|NC_000913.3_prot_NP_414542.1_1`.

Sources: UniProt's help page "accession numbers", the INSDC and RefSeq tables of prefixes, Ensembl's stable ids.
"""

import re

_UNIPROT = r"[OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d(?:[A-Z][A-Z0-9]{2}\d){1,2}"
_ENTRY_NAME = r"[A-Z0-9]{1,10}_(?:[A-Z][A-Z0-9]{2,4}|9[A-Z]{4})"
_ARCHIVES = r"(?:[A-Z]{2}_)?(?:[A-Z]{4,6}\d{8,}|[A-Z]{3}\d{5,7}|[A-Z]{2}\d{6,8}|[A-Z]\d{5})|[A-Z]{2}_\d{6,}"
_ENSEMBL = r"ENS[A-Z]{0,6}[GTPE]\d{11}"
_VERSION = r"(?:\.\d++)?+"
_PART = r":c?\d+(?:-|\.\.)\d|_\d+_\d|_(?:cds|prot|gene|[mtr]rna|ncrna)_"
"""What follows the name of a record of which only a part is meant."""
_NAME = re.compile(
    rf"(?<![A-Za-z0-9])(?:({_ENTRY_NAME})|({_UNIPROT}){_VERSION}|({_ENSEMBL}|{_ARCHIVES}){_VERSION}(?!{_PART}))"
    r"(?![A-Za-z0-9]|\.\d)"
)


def accessions(name: str) -> set[str]:
    """Accessions and UniProt's entry names in a name, without versions; not those of a longer record that it is a part of."""
    return {found[1] or found[2] or found[3] for found in _NAME.finditer(name)}
