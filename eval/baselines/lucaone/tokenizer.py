"""LucaOne's letters: 39 ids, nucleotides and residues apart.

Genes: A, T or U, C, G are the tokens `1` to `4` and every other letter is `5`, so RNA reads as DNA. Proteins: each of the 26
capitals is a token. `[CLS] letters [SEP]`; token types are 0 for a gene and 1 for a protein, in a batch as well as alone
(upstream's batched calls ignore the type).
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizer

from eval.baselines.lucaone.letters import CLS, FIRST_RESIDUE, GENE, IDS, NUCLEOTIDES, SEP, SPECIAL, TOKENS, UNK, letter_ids


class LucaOneTokenizer(PreTrainedTokenizer):
    """`tokenizer("ACGU", seq_type="gene")`, `tokenizer(["MKV", "MA"], seq_type="prot", padding=True)`.

    A batch has one seq_type. Not supported: pairs of sequences.
    """

    vocab_files_names: dict[str, str] = {}
    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]

    def __init__(self, **kwargs: Any) -> None:
        pad, unk, cls, sep, mask = SPECIAL
        for name, token in {"pad": pad, "unk": unk, "cls": cls, "sep": sep, "mask": mask}.items():
            kwargs[f"{name}_token"] = token
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        return len(TOKENS)

    def get_vocab(self) -> dict[str, int]:
        return {**IDS, **self.added_tokens_encoder}

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any) -> list[str]:
        """Tokens of the letters of a `seq_type` (gene where none is given); [MASK] and its like stand for themselves, blanks fall out."""
        seq_type = kwargs.get("seq_type", GENE)
        found: list[str] = []
        for piece in self.tokens_trie.split(text):
            if piece in SPECIAL:
                found.append(piece)
            else:
                found += [TOKENS[i] for i in letter_ids("".join(piece.split()), seq_type)]
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
