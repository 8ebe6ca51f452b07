"""A base that comes as a GGUF file: unpacked once, by transformers, into a plain model folder.

Weights of 4 to 8 bits become float32 numbers, which are those that llama.cpp computes with, not those that the model was trained to.
"""

import importlib.util
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from artefacts.errors import UserError
from artefacts.folder import fingerprint, new_folder, write_manifest
from tokenizer.generation import answering_greedily, load_whole
from tokenizer.patterns import LLAMA3

MAGIC = b"GGUF"
WORDS: dict[str, list[Any]] = {
    "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
}
"""The file names its way to cut text into words (`tokenizer.ggml.pre`, the names are llama.cpp's); transformers does not read it, and
its ids are others."""
CONTROL, USER_DEFINED = 3, 4
"""Types of tokens."""
ROLES = {"bos_token": "tokenizer.ggml.bos_token_id", "eos_token": "tokenizer.ggml.eos_token_id"}


def gguf_file(base: Path) -> Path | None:
    """The GGUF file that `base` is, or the one that a folder without other weights holds. Raises UserError where it holds several."""
    if base.is_file():
        with base.open("rb") as handle:
            return base if handle.read(4) == MAGIC else None
    found = sorted(base.glob("*.gguf"))
    if not found or (base / "config.json").is_file():
        return None
    if len(found) > 1:
        raise UserError(f"{base}: several GGUF files ({', '.join(file.name for file in found)}); name one of them")
    return found[0]


def unpacked(file: Path) -> Path:
    """The file as a model folder (float32 safetensors, tokenizer), in the cache of the hub library; made where it is not there yet.

    Raises:
        UserError: package `gguf` is missing, or the file is no GGUF that transformers reads as a LLaMA.
    """
    from huggingface_hub.constants import HF_HOME

    content = fingerprint(file)
    folder = Path(HF_HOME) / "llama-gene" / f"{file.stem}-{content}"
    if (folder / "config.json").is_file():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"{file}: a GGUF file is read by the package gguf, which is not installed; `pip install gguf`")
    tokenizer = _tokenizer(file)
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model: Any = load_whole(AutoModelForCausalLM, file.parent, gguf_file=file.name, dtype=torch.float32)
    except Exception as error:  # the reader raises what it likes
        raise UserError(f"{file}: not read as a LLaMA in GGUF ({type(error).__name__}: {str(error)[:200]}); fetch it again") from None
    if model.config.model_type not in ("llama", "mistral"):
        raise UserError(f"{file}: holds a {model.config.model_type} model; models laid out as LlamaForCausalLM can be extended")
    print(f"{file}: unpacked to float32 in {folder}")
    # the weights are plain numbers now; with these two transformers would refuse to save them
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as partial:
        answering_greedily(model).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_manifest(partial, "unpacked", recipe={}, inputs={"gguf": content}, counts={"vocabulary": len(tokenizer)})
    return folder


def _tokenizer(file: Path) -> Any:
    """The byte-level tokenizer that the file describes. transformers' own reader passes over how words are cut and adds a token.

    Raises:
        UserError: damaged, another kind of vocabulary, or words cut in a way that is not known here.
    """
    from gguf import GGUFReader
    from transformers import PreTrainedTokenizerFast

    try:
        told = {name: field.contents() for name, field in GGUFReader(str(file)).fields.items() if name.startswith("tokenizer.")}
    except Exception as error:  # the reader raises what it likes
        raise UserError(f"{file}: not readable as GGUF ({type(error).__name__}: {str(error)[:200]}); fetch it again") from None
    kind, words = told.get("tokenizer.ggml.model"), told.get("tokenizer.ggml.pre")
    if kind != "gpt2" or words not in WORDS:
        what = f"a byte-level vocabulary that cuts words as '{words}'" if kind == "gpt2" else f"a vocabulary of kind '{kind}'"
        raise UserError(
            f"{file}: holds {what}, whose ids are not known to come out right; known: {', '.join(WORDS)}. Extend the model's own folder or "
            "hub id, with its tokenizer.json or tokenizer.model"
        )
    tokens, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    vocab = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in told["tokenizer.ggml.merges"]]
    plain = Tokenizer(models.BPE(vocab, merges, ignore_merges=words == "llama-bpe"))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.Sequence(WORDS[words]), decoders.ByteLevel()
    plain.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL])
    plain.add_tokens([AddedToken(token, normalized=False) for token, kind in zip(tokens, kinds, strict=True) if kind == USER_DEFINED])
    roles = {role: tokens[told[name]] for role, name in ROLES.items() if name in told}
    if told.get("tokenizer.ggml.add_bos_token") and "bos_token" in roles:
        begin = roles["bos_token"]
        plain.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, vocab[begin])])
    return PreTrainedTokenizerFast(tokenizer_object=plain, chat_template=told.get("tokenizer.chat_template"), **roles)
