"""Entries of UniProt as flat file, XML and TSV, written from the manual and independent of the readers."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from hypothesis import strategies as st


@dataclass
class Invented:
    """One entry; texts of functions end in a full stop and hold no evidence codes."""

    accession: str
    name: str = "Granzyme A"
    genes: list[str] = field(default_factory=lambda: ["GZMA", "CTLA3"])
    sequence: str = "MRNSYRFLASSLSVVVSLLLIPEDVCEKIIGGNEVTPHSRPYMVLLSLDRKTICAGALIAKDWVLTAAHC"
    functions: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """Molecule or nothing, text, evidence codes."""
    go: list[tuple[str, str, str]] = field(default_factory=lambda: [("GO:0001772", "C", "immunological synapse")])
    ec: list[str] = field(default_factory=lambda: ["3.4.21.78"])
    places: list[list[str]] = field(default_factory=lambda: [["Cell membrane", "Multi-pass membrane protein"], ["Secreted"]])
    keywords: list[str] = field(default_factory=lambda: ["3D-structure", "Cytolysis"])
    reviewed: bool = True
    families: list[str] = field(default_factory=lambda: ["peptidase S1 family", "Granzyme subfamily"])
    domains: list[tuple[str, str]] = field(default_factory=lambda: [("PF00089", "Trypsin")])

    @property
    def entry_name(self) -> str:
        return f"{self.accession}_HUMAN"


def wrap(text: str, width: int, behind: str = "-/") -> list[str]:
    """As UniProt wraps: at a blank, which is lost, or in comments behind a hyphen or slash inside a word."""
    lines = []
    while len(text) > width:
        cuts = [i for i in range(1, width + 1) if text[i] == " " or (text[i - 1] in behind and text[i - 2 : i - 1] not in ("", " "))]
        if not cuts:
            cuts = [i for i in range(width + 1, len(text)) if text[i] == " "][:1]
        if not cuts:
            break
        lines.append(text[: cuts[-1]])
        text = text[cuts[-1] :].removeprefix(" ")
    return [*lines, text]


def evidence(codes: list[str]) -> str:
    return f" {{{', '.join(f'{code}|PubMed:{number}' for number, code in enumerate(codes, 11))}}}" if codes else ""


def flat(entry: Invented, width: int = 70) -> str:
    def comment(topic: str, text: str) -> list[str]:
        first, *rest = wrap(f"{topic}: {text}", width)
        return [f"CC   -!- {first}", *(f"CC       {line}" for line in rest)]

    length = len(entry.sequence)
    lines = [
        f"ID   {entry.entry_name:<24}{'Reviewed' if entry.reviewed else 'Unreviewed'};{length:>12} AA.",
        f"AC   {entry.accession}; Q6IB36;",
    ]
    lines += ["DT   01-OCT-1989, integrated into UniProtKB/Swiss-Prot.", "DT   11-JAN-2011, sequence version 2."]
    lines += [
        "DT   02-OCT-2024, entry version 234.",
        f"DE   {'RecName' if entry.reviewed else 'SubName'}: Full={entry.name} {{ECO:0000303|Ref.1}};",
    ]
    lines += [f"DE            EC={number} {{ECO:0000269|PubMed:1}};" for number in entry.ec]
    lines += ["DE   AltName: Full=CTL tryptase;", "DE   Contains:", "DE     RecName: Full=A chain;", "DE   Flags: Precursor;"]
    if entry.genes:
        synonyms = f" Synonyms={', '.join(entry.genes[1:])};" if entry.genes[1:] else ""
        lines += [f"GN   {line}" for line in wrap(f"Name={entry.genes[0]} {{ECO:0000303|PubMed:1, ECO:0000305}};{synonyms}", width, "")]
    lines += ["OS   Homo sapiens (Human).", "OC   Eukaryota; Metazoa; Chordata.", "OX   NCBI_TaxID=9606 {ECO:0000305};"]
    lines += [
        "RN   [1]",
        "RP   NUCLEOTIDE SEQUENCE.",
        "RX   PubMed=3262682;",
        "RA   Gershenfeld H.K.;",
        'RT   "Cloning.";',
        "RL   Science 1:1-2(1988).",
    ]
    for molecule, text, codes in entry.functions:
        lines += comment("FUNCTION", f"{f'[{molecule}]: ' if molecule else ''}{text}{evidence(codes)}{'.' if codes else ''}")
    if entry.places:
        places = " ".join("; ".join([f"{place[0]} {{ECO:0000305}}", *place[1:]]) + "." for place in entry.places)
        lines += comment("SUBCELLULAR LOCATION", f"{places} Note=Not in the nucleus. Rarely.")
    if entry.families:
        lines += comment("SIMILARITY", f"Belongs to the {'. '.join(entry.families)}. {{ECO:0000255|PROSITE-ProRule:PRU00274}}.")
    lines += [
        "CC   " + "-" * 75,
        "CC   Copyrighted by the UniProt Consortium",
        "CC   " + "-" * 75,
        "DR   EMBL; M18737; AAA52647.1; -; mRNA.",
    ]
    lines += [f"DR   GO; {number}; {aspect}:{name}; TAS:UniProtKB." for number, aspect, name in entry.go]
    lines += [f"DR   Pfam; {number}; {name}; 1." for number, name in entry.domains]
    lines += ["PE   1: Evidence at protein level;"]
    if entry.keywords:
        lines += [f"KW   {line}" for line in wrap(f"{'; '.join(entry.keywords)} {{ECO:0000256}}.", width, "")]
    lines += [
        "FT   SIGNAL          1..26",
        'FT                   /evidence="ECO:0000255"',
        f"SQ   SEQUENCE   {length} AA;  28999 MW;  DF3A0E2B7F3A0E2B CRC64;",
    ]
    for start in range(0, length, 60):
        row = entry.sequence[start : start + 60]
        lines.append("     " + " ".join(row[i : i + 10] for i in range(0, len(row), 10)))
    return "\n".join([*lines, "//", ""])


def xml_entry(entry: Invented) -> str:
    codes = sorted({code for _, _, found in entry.functions for code in found})
    keys = {code: str(number) for number, code in enumerate(codes, 3)}
    kind = "recommendedName" if entry.reviewed else "submittedName"
    parts = [f'<entry dataset="{"Swiss-Prot" if entry.reviewed else "TrEMBL"}" created="1989-10-01" version="234">']
    parts += [f"<accession>{entry.accession}</accession><accession>Q6IB36</accession><name>{entry.entry_name}</name>"]
    parts += [f'<protein><{kind}><fullName evidence="9">{escape(entry.name)}</fullName>']
    parts += [f"<ecNumber>{number}</ecNumber>" for number in entry.ec]
    parts += [f"</{kind}><component><recommendedName><fullName>A chain</fullName></recommendedName></component></protein>"]
    if entry.genes:
        names = [f'<name type="{"synonym" if place else "primary"}">{escape(name)}</name>' for place, name in enumerate(entry.genes)]
        parts += [f"<gene>{''.join(names)}</gene>"]
    parts += ['<organism><name type="scientific">Homo sapiens</name><name type="common">Human</name>']
    parts += ['<dbReference type="NCBI Taxonomy" id="9606"/><lineage><taxon>Eukaryota</taxon></lineage></organism>']
    for molecule, text, found in entry.functions:
        inner = f"<molecule>{escape(molecule)}</molecule>" if molecule else ""
        attribute = f' evidence="{" ".join(keys[code] for code in found)}"' if found else ""
        parts.append(f'<comment type="function">{inner}<text{attribute}>{escape(text)}</text></comment>')
    if entry.places:
        parts.append('<comment type="subcellular location">')
        for location, *topology in entry.places:
            # one element per level, each with a capital letter
            levels = [level[0].upper() + level[1:] for level in location.split(", ")]
            inner = "".join(f'<location evidence="1">{escape(level)}</location>' for level in levels)
            inner += "".join(f"<topology>{escape(t)}</topology>" for t in topology)
            parts.append(f"<subcellularLocation>{inner}</subcellularLocation>")
        parts.append("<text>Not in the nucleus. Rarely.</text></comment>")
    if entry.families:
        parts.append(f'<comment type="similarity"><text evidence="9">Belongs to the {escape(". ".join(entry.families))}.</text></comment>')
    for number, name in entry.domains:
        parts.append(f'<dbReference type="Pfam" id="{number}"><property type="entry name" value={quoteattr(name)}/></dbReference>')
    for number, aspect, name in entry.go:
        parts.append(f'<dbReference type="GO" id="{number}"><property type="term" value={quoteattr(f"{aspect}:{name}")}/></dbReference>')
    parts += [f'<keyword id="KW-1">{escape(keyword)}</keyword>' for keyword in entry.keywords]
    parts += [
        f'<evidence type="{code}" key="{key}"><source><dbReference type="PubMed" id="1"/></source></evidence>' for code, key in keys.items()
    ]
    parts += [f'<sequence length="{len(entry.sequence)}" mass="1" checksum="A">{entry.sequence}</sequence></entry>']
    return "\n".join(parts) + "\n"


def xml(entries: list[Invented]) -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<uniprot xmlns="http://uniprot.org/uniprot">\n'
    return f"{head}{''.join(map(xml_entry, entries))}<copyright>\nDistributed under CC BY 4.0\n</copyright></uniprot>\n"


TSV_COLUMNS = (
    "Entry\tReviewed\tEntry Name\tProtein names\tGene Names\tOrganism\tOrganism (ID)\tLength\tSequence"
    "\tFunction [CC]\tGene Ontology (GO)\tEC number\tSubcellular location [CC]\tKeywords\tProtein families\tPfam"
)


def tsv_row(entry: Invented) -> str:
    functions = "; ".join(
        f"FUNCTION: {f'[{molecule}]: ' if molecule else ''}{text}{evidence(codes)}{'.' if codes else ''}"
        for molecule, text, codes in entry.functions
    )
    places = " ".join("; ".join([f"{place[0]} {{ECO:0000305}}", *place[1:]]) + "." for place in entry.places)
    fields = [
        entry.accession,
        "reviewed" if entry.reviewed else "unreviewed",
        entry.entry_name,
        f"{entry.name} (EC 3.4.21.78) (CTL tryptase (NAD(+)))",
    ]
    fields += [" ".join(entry.genes), "Homo sapiens (Human)", "9606", str(len(entry.sequence)), entry.sequence, functions]
    fields += ["; ".join(f"{name} [{number}]" for number, _, name in entry.go), "; ".join(entry.ec)]
    fields += [f"SUBCELLULAR LOCATION: {places} Note=Not in the nucleus." if places else "", ";".join(entry.keywords)]
    fields += [", ".join(entry.families), "".join(f"{number};" for number, _ in entry.domains)]
    return "\t".join(fields) + "\n"


def tsv(entries: list[Invented]) -> str:
    return f"{TSV_COLUMNS}\n{''.join(map(tsv_row, entries))}"


WORDS = [
    "calcium-dependent",
    "4,2',4',6'-tetrahydroxychalcone",
    "and/or",
    "GTP- and GDP-bound",
    "long- or short-chain",
    "Na(+)/H(+)-exchange",
    "NF-kappa-B",
    "binds",
    "the",
    "complex - the cataly-tic one -",
    "(PubMed:123, PubMed:4567)",
    "(By similarity)",
    "(Probable).",
    "C18:1-,",
    "β-catenin <1 & 2>",
    "S-adenosyl-L-methionine-dependent",
    "(Ref.4)",
    "(Microbial infection)",
    "K48-/K63-linked",
]
CODES = ["ECO:0000269", "ECO:0000250", "ECO:0000305"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(lambda words: f"Acts {' '.join(words)} ends.")
entries = st.builds(
    Invented,
    accession=st.integers(10000, 99999).map(lambda number: f"P{number}"),
    name=st.sampled_from(
        ["Granzyme A", "Fructose-1,6-bisphosphatase/inositol-1-monophosphatase", "Na(+)-channel (2S)-5", "14-3-3 protein"]
    ),
    genes=st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9./;-]{0,9}[a-z0-9]", fullmatch=True), max_size=6, unique=True),
    sequence=st.text("ACDEFGHIKLMNPQRSTVWYUX", min_size=1, max_size=150),
    functions=st.lists(
        st.tuples(
            st.sampled_from(["", "Isoform 2", "Spike protein S2'"]), texts, st.lists(st.sampled_from(CODES), max_size=3, unique=True)
        ),
        max_size=3,
    ),
    go=st.lists(
        st.tuples(
            st.integers(0, 9999999).map(lambda number: f"GO:{number:07d}"),
            st.sampled_from("PFC"),
            st.sampled_from(["immunological synapse", "5'-3' RNA [U], binding", "positive regulation of A (B:C)", "NADP+ activity"]),
        ),
        max_size=4,
        unique_by=lambda term: term[0],
    ),
    ec=st.lists(st.sampled_from(["3.4.21.78", "2.7.-.-", "1.1.1.n2"]), max_size=2, unique=True),
    places=st.lists(
        st.lists(
            st.sampled_from(["Cell membrane", "Cytoplasm, cytoskeleton", "Secreted, extracellular space, extracellular matrix"]),
            min_size=1,
            max_size=2,
        ),
        max_size=3,
        unique_by=tuple,
    ),
    keywords=st.lists(st.sampled_from(["3D-structure", "Cytolysis", "ATP-binding", "Zinc-finger"]), max_size=4, unique=True),
    reviewed=st.booleans(),
)
