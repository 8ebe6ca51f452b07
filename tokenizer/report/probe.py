"""Lines of text that a careless extension breaks: a built-in probe, so that every extension is tried without any file."""

from __future__ import annotations

import itertools
import re

CAPITALS = re.compile(r"\b[A-Z]{2,}\b")
"""A word in capitals, which pieces over A–Z are most likely to disturb."""

GENES = (
    "BRCA1 BRCA2 TP53 CAT ACTB GAPDH MYC KRAS EGFR TNF IL6 CFTR HTT APOE ATM PTEN RB1 VHL TATA GATA1 GATA4 TAL1 TCF7 STAT3 CDKN2A MTHFR "
    "NRAS ALK RET KIT MET SRC AKT1 SOX2 NANOG PAX6 HOXA9 DMD TTN LMNA MLH1 MSH2 PAH HBB HBA1 G6PD F8 ACE2 CD4 CD8A CCR5 MHC "
    "HLA-DRB1 WNT1 NOTCH1"
)
WORDS = (
    "DNA RNA mRNA tRNA KEGG NLP GATTACA CATALOG GATEWAY ATTACK GAGA ACT TAG CAG TACT AT AN THE ATLAS NASA MASK LIKELY SEQUENCE MKV PLEASE "
    "ALIGNMENT FASTA BLAST PCR ATP GTP NADH ACGT NNNN SIGNAL TRANSCRIPTION ELISA CRISPR README TODO HTTP ANSI VALINE STRANGE MICE ACGTTGCA "
    "MSTNPKPQRKTKRNTNRRPQDVKFPGG AAAAAAAAAAAAAAAA TTAGGGTTAGGGTTAGGG AUGGCUUAA"
)
FRAMES = (
    "{} is expressed in liver, n = 12.",
    "Loss of {} (p.R273H) was seen in 4 of 9 samples",
    'the "{}" label,{} and {}.',
    "  {}  stands between double blanks",
)
OTHERS = (
    "The TATA box lies 25 bp upstream; the CAAT box at -80.",
    "A cat sat. A CAT SAT. Cat, CAT, cAt, CaT.",
    "WE THE PEOPLE of the Atlantic, AND ALL THAT CAN ACT",
    "def gcc(AGCT: str) -> int:\n    return AGCT.count('GC')  # TATA\n",
    "for (int A = 0; A < N; ++A) { C[A] += G[A] * T[A]; }  /* ACGT */",
    "SELECT CAT, TAG FROM GENES WHERE ID IN ('A', 'C', 'G', 'T');",
    '<html><body><p class="ACGT">A &lt; C</p></body></html>',
    '{"sequence": "ACGTACGT", "label": 1, "protein": null}',
    r"\begin{tabular}{lcr} A & C & G \\ T & N & R \end{tabular}",
    "https://example.org/GENE/ACTG?CAT=TAG&A=T#GATTACA",
    "基因表达调控：TATA 盒与 CAAT 盒。蛋白质组学",
    "遺伝子 BRCA1 の変異",
    "유전자 발현 ACGT",
    "Ген TP53 человека, А С Т — кириллица",
    "الجين ACGT والبروتين",
    "naïve façade Übergröße Ångström µm °C ½ ‰ €",
    "α-helix, β-sheet, Δ9-THC, 5′-ACGT-3′, 3′-TGCA-5′",
    "🧬 DNA 🧪 RNA 👩🏽‍🔬 CAT🐈TAG",
    "e\u0301 versus é, ﬁ versus fi, Ａ versus A",
    " one leading blank",
    "    four leading blanks, ACGT",
    "                 seventeen leading blanks",
    "\tleading tab\tTATA\t\tCAT",
    "trailing blanks ACGT   ",
    "a  b   c    d     e",
    "line one\nline two\r\nline three\n\n\nCAT",
    "\u00a0no-break\u2009thin\u3000wide\u200bzero\ufeffmark",
    "0123456789 3.14159 1e-10 1,000,000 0x1F",
    "!?.,;:-–—_…()[]{}<>|/\\@#$%^&*+=~`'\"",
    "the <dna> tag is explained below",
    "write <protein> before it, and not <rna> or </dna> alone; then go on",
    "<dna> opens a span, </dna> closes it",
    "<DNA>ACGT</DNA> and <dna >ACGT and < dna>ACGT",
    "<dna>ACGT is no span! 1 2 3</dna>",
    "<protein>MKWV</dna> is mismatched",
    "an unclosed <dna bracket, A<C and G>T, <ACGT, <<<, >>>",
    "ACGT",
    "M",
    "",
    " ",
)


def probe_lines() -> list[str]:
    """A few hundred lines: gene symbols, capitals, code, scripts, blanks, tags mentioned in prose; no span, no private-use character."""
    framed = [frame.format(*[word] * 3) for word, frame in itertools.product([*GENES.split(), *WORDS.split()], FRAMES)]
    return [*framed, *OTHERS]
