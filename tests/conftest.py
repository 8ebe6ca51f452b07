"""Tiny tokenizers and models, made in the test process from a seed. Nothing is downloaded."""

from __future__ import annotations

import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before any library is read, as in a command

import io
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from ranks import Nursery
from samples import english, letters
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer
from whole_way import Runs, fill

from artefacts.errors import Ledger
from sequences.alphabets import DNA, PROTEIN, TAGS, Alphabet
from tokenizer.base import BYTE_LEVEL, Base, from_sentencepiece
from tokenizer.create import CreateBase, create_base, train_byte_level
from tokenizer.extend import Extend, extend_base
from tokenizer.generation import answering_greedily
from tokenizer.kmers import vocabulary_of
from tokenizer.saving import save_tokenizer
from tokenizer.vocabulary import PAD, extend

os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("project", deadline=None)  # a busy machine is no failure
settings.load_profile("project")
ENDS_OF_TURN = ("<|eot_id|>", "<|im_end|>", "</s>")
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The chat template of SmolLM2-135M-Instruct."""


def gene_bpe(alphabet: Alphabet, common: str, pieces: int) -> Tokenizer:
    windows = [letters(common, 200, seed) + letters(common[:2], 60, seed) for seed in range(60)]
    bpe = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=list(alphabet.letters), max_token_length=9, show_progress=False)
    bpe.train_from_iterator(windows, trainer)
    return bpe


for _signal, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signal) is signal.SIG_IGN:  # started by nohup or in the background: the commands under test would inherit it
        signal.signal(_signal, _handler)


@pytest.fixture(scope="session")
def dna_bpe() -> Tokenizer:
    return gene_bpe(DNA, "ACGT", 120)


@pytest.fixture(scope="session")
def protein_bpe() -> Tokenizer:
    return gene_bpe(PROTEIN, "ACDEFGHIKLMNPQRSTVWY", 80)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n\n".join(english(400)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def byte_level_base(text_file: Path) -> Base:
    """Llama 3's kind: byte-level BPE with its split pattern."""
    return train_byte_level([text_file], 400, Ledger())


@pytest.fixture(scope="session")
def sentencepiece_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama 2's kind: SentencePiece BPE with byte fallback and identity normalisation."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(english(400)),
        model_writer=model,
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("spm") / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="session")
def sentencepiece_base(sentencepiece_file: Path) -> Base:
    return from_sentencepiece(sentencepiece_file, {})


@pytest.fixture(scope="session")
def chatml_base() -> Base:
    """SmolLM2's kind: digits and GPT-2's words, a turn's begin and end as begin and end of a text, a template with a system's turn."""
    tokenizer = Tokenizer(models.BPE())
    words = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Sequence(words), decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False, special_tokens=special)
    tokenizer.train_from_iterator([*english(400), *["user\nassistant\nsystem"] * 100], trainer)
    return Base(tokenizer, BYTE_LEVEL, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": SMOLLM2})


@pytest.fixture(scope="session", params=["llama3", "llama2", "chatml"])
def family(request: pytest.FixtureRequest, dna_bpe: Tokenizer, protein_bpe: Tokenizer):
    """(base, extended tokenizer, new ids) for each base family."""
    names = {"llama3": "byte_level_base", "llama2": "sentencepiece_base", "chatml": "chatml_base"}
    base = request.getfixturevalue(names[request.param])
    extended, new, _ = extend(base, dna_bpe, protein_bpe)
    return base, extended, new


@pytest.fixture(scope="session")
def chatty(family, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The extended tokenizer of a base family, read back by plain AutoTokenizer, with its chat template."""
    base, extended, _ = family
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(extended, folder, base.family, {**base.config, "pad_token": PAD})
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.end_of_turn = next(index for token in ENDS_OF_TURN if (index := extended.token_to_id(token)) is not None)
    return tokenizer


@pytest.fixture(scope="session")
def talker(family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model folder of each base family, as `merge` writes it, whose weights are large enough for lively answers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    base, extended, _ = family
    folder = tmp_path_factory.mktemp("talker") / f"talker-{base.tokenizer.get_vocab_size()}"
    folder.mkdir()
    save_tokenizer(extended, folder, base.family, {**base.config, "pad_token": PAD})
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ends = [tokenizer.eos_token_id, next(index for token in ENDS_OF_TURN if (index := extended.token_to_id(token)) is not None)]
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": ends[0], "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **shape, **ids))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            # answers differ from prompt to prompt, yet no probability is 0 or 1
            torch.nn.init.normal_(parameter, std=0.05 if name.startswith("lm_head") else 0.3)
    # half a character is no answer, and the decoder of streams stops at it
    broken = [index for index in range(len(tokenizer)) if "�" in tokenizer.decode([index])]
    model.lm_head.weight.data[broken] = 0
    # it writes sequences, tags and all
    tags = [index for index, token in tokenizer.added_tokens_decoder.items() if token.content in TAGS]
    model.lm_head.weight.data[tags] *= 3
    model.generation_config.eos_token_id = list(dict.fromkeys(ends))
    answering_greedily(model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def extended_folder(tmp_path_factory: pytest.TempPathFactory, text_file: Path, dna_bpe: Tokenizer, protein_bpe: Tokenizer) -> Path:
    """A tiny untied extended LLaMA, saved as `tokenizer extend` saves it."""
    folder = tmp_path_factory.mktemp("models")
    dna_bpe.save(str(folder / "dna.json"))
    protein_bpe.save(str(folder / "protein.json"))
    create_base(
        CreateBase(
            out=folder / "base", text=[text_file], vocab_size=400, hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64
        )
    )
    extend_base(Extend(base=folder / "base", dna=folder / "dna.json", protein=folder / "protein.json", out=folder / "extended"))
    return folder / "extended"


@pytest.fixture(scope="session")
def kmers_folder(tmp_path_factory: pytest.TempPathFactory, extended_folder: Path) -> Path:
    """The same base with triplets of DNA and pairs of protein."""
    folder = tmp_path_factory.mktemp("kmers")
    for alphabet, k in ((DNA, 3), (PROTEIN, 2)):
        vocabulary_of(alphabet, k).save(str(folder / f"{alphabet.name}.json"))
    base = extended_folder.parent / "base"
    extend_base(Extend(base=base, dna=folder / "dna.json", protein=folder / "protein.json", out=folder / "extended"))
    return folder / "extended"


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@pytest.fixture(scope="session")
def runs(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """What every long command makes, each made when it is asked for first."""
    folder = tmp_path_factory.mktemp("whole-way")
    fill(folder)
    return Runs(nursery, folder)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that need it skip, visibly, without it."""
    path = Path(os.environ.get("LLAMA_GENE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set LLAMA_GENE_DATA")
    return path
