"""LucaOne's letters: 39 ids, nucleotides and residues apart.

Genes: A, T or U, C, G are the tokens `1` to `4` and every other letter is `5`, so RNA reads as DNA. Proteins: each of the 26
capitals is a token. `[CLS] letters [SEP]`; token types are 0 for a gene and 1 for a protein, in a batch as well as alone
(upstream's batched calls ignore the type).
"""

from typing import Any

from transformers import PreTrainedTokenizer
from transformers.utils import logging

from eval.baselines.lucaone.letters import CLS, FIRST_RESIDUE, GENE, IDS, NUCLEOTIDES, SEP, SPECIAL, TOKENS, UNK, letter_ids

logger = logging.get_logger(__name__)
SURE_NUCLEOTIDES = frozenset("ACGTUN")
"""Other letters of nucleic acids are residues too."""


class LucaOneTokenizer(PreTrainedTokenizer):
    """`tokenizer("ACGU", seq_type="gene")`, `tokenizer(["MKV", "MA"], seq_type="prot", padding=True)`.

    A batch has one seq_type; `LucaOneTokenizer(seq_type="prot")` and `from_pretrained(..., seq_type="prot")` keep it for all calls, and
    folders that are saved. Not supported: pairs of sequences.
    """

    vocab_files_names: dict[str, str] = {}
    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]

    def __init__(self, seq_type: str | None = None, **kwargs: Any) -> None:
        """Args: seq_type: of calls that name none; without either they read a gene, with a warning where that is doubtful."""
        letter_ids("", seq_type or GENE)  # refuses another one
        self.seq_type = seq_type
        kwargs.pop("auto_map", None)  # names files of remote code, which a folder saved here would not hold
        pad, unk, cls, sep, mask = SPECIAL
        for name, token in {"pad": pad, "unk": unk, "cls": cls, "sep": sep, "mask": mask}.items():
            kwargs[f"{name}_token"] = token
        super().__init__(seq_type=seq_type, **kwargs)

    @property
    def vocab_size(self) -> int:
        return len(TOKENS)

    def get_vocab(self) -> dict[str, int]:
        return {**IDS, **self.added_tokens_encoder}

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any) -> list[str]:
        """Tokens of the letters of a `seq_type` (see `__init__`); [MASK] and its like stand for themselves, blanks fall out."""
        given = kwargs.get("seq_type") or self.seq_type
        found: list[str] = []
        for piece in self.tokens_trie.split(text):
            if piece in SPECIAL:
                found.append(piece)
                continue
            letters = "".join(piece.split())
            if given is None and (others := sorted(set(letters.upper()) - SURE_NUCLEOTIDES)):
                logger.warning(f"no seq_type is given, so it is read as a gene: {', '.join(others)} as N; or pass seq_type='prot'")
            found += [TOKENS[i] for i in letter_ids(letters, given or GENE)]
        return found

    def _convert_token_to_id(self, token: str) -> int:
        return IDS.get(token, UNK)

    def _convert_id_to_token(self, index: int) -> str:
        return TOKENS[index]

    def build_inputs_with_special_tokens(self, token_ids_0: list[int], token_ids_1: list[int] | None = None) -> list[int]:
        if token_ids_1 is not None:
            raise ValueError("LucaOne reads one sequence at a time; give the two of a pair separately")
        return [CLS, *token_ids_0, SEP]

    def create_token_type_ids_from_sequences(self, token_ids_0: list[int], token_ids_1: list[int] | None = None) -> list[int]:
        """0 for a gene, 1 for a protein, as the ids themselves tell."""
        return [int(any(i >= FIRST_RESIDUE for i in token_ids_0))] * (len(token_ids_0) + 2)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Letters: nucleotides as ACGTN."""
        back = dict(zip(NUCLEOTIDES, "ATCGN", strict=True))
        return "".join(back.get(token, token) for token in tokens)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        return ()  # the vocabulary is the code's


class LucaGPLMTokenizer(LucaOneTokenizer):
    """The name that released folders write in their tokenizer_config.json."""


class LucaGPLMTokenizerFast(LucaOneTokenizer):
    """The other published name; there is no faster one, as a letter is an id."""
