"""Read a base tokenizer of either LLaMA family into one `tokenizers` object, and tell the families apart.

- byte-level (Llama 3 and everything tiktoken-derived): a `tokenizer.json` with byte-level BPE.
- SentencePiece (Llama 2, Mistral): a `tokenizer.model` (tokenizer/spm.py). Where a `tokenizer.json` made from it lies beside
  it, all but the merge order is taken from there: added tokens, handling of blanks, post-processor. Where there is nothing
  but such a `tokenizer.json`, its merges are taken in its own order, and the report says so.

A base lies on this machine or on the hub; what the local hub cache holds is found without a network. A GGUF file is unpacked first.
"""

import json
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from artefacts.errors import UserError
from artefacts.folder import read_json
from artefacts.hub import fetched
from tokenizer.gguf_base import gguf_file, unpacked
from tokenizer.spm import build, check_merges, check_text, read_model, text_notes, with_free_tags, with_merges

BYTE_LEVEL = "byte-level"
SENTENCEPIECE = "sentencepiece"
TEMPLATES = "additional_chat_templates"
"""Folder of the templates besides the default one, as transformers 5 writes it."""
TOKENIZER_FILES = ["tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", f"{TEMPLATES}/*.jinja"]
# not *.safetensors: Mistral's repositories hold every weight a second time, in consolidated.safetensors
MODEL_FILES = ["config*.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json"]
LICENCES = ["LICENSE*", "NOTICE*", "USE_POLICY*"]
ENDS = [("<s>", "</s>"), ("<|begin_of_text|>", "<|end_of_text|>")]
"""Begin and end of a text, where no configuration names them: Llama 2 and Mistral, Llama 3."""
OTHER_ROLES = ("unk_token", "sep_token", "cls_token", "mask_token")
SETTINGS = ("chat_template", "model_max_length", "padding_side", "truncation_side")
TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")
"""How a tokenizer.model of Meta's begins: pieces in base64, each with its rank."""
_read_json = partial(read_json, remedy="fetch it again", kind=dict)


@dataclass
class Base:
    """A base tokenizer and what must be carried over from its configuration."""

    tokenizer: Tokenizer
    family: str
    config: dict[str, Any] = field(default_factory=dict)
    """Special tokens by role, further ones, chat_template (one, or name -> template) and SETTINGS, where known."""
    files: list[Path] = field(default_factory=list)
    """What it was read from."""
    sentencepiece_model: Path | None = None
    """The SentencePiece model among them."""
    notes: list[str] = field(default_factory=list)
    """What the reader of the extension report should know."""


def read_base(path: str | Path) -> Base:
    """Load a base tokenizer from a folder, a `tokenizer.json`, a `tokenizer.model`, or a hub id.

    Raises:
        UserError: nothing there, or a tokenizer that is not BPE of one of the two families.
    """
    path, _ = locate(path)
    folder = path if path.is_dir() else path.parent
    document = path if path.suffix == ".json" else folder / "tokenizer.json"
    model = sentencepiece_file(path)
    if path == document and not _is_byte_level(_read_json(path)):
        model = sentencepiece_file(folder)  # what the json was made from knows the merge order better
    names = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "added_tokens.json")
    beside = [folder / name for name in names if (folder / name).is_file()]
    # what the second says counts where the first does not
    config = {name: value for file in names[1::-1] if folder / file in beside for name, value in _read_json(folder / file).items()}
    if code := (config.get("auto_map") or {}).get("AutoTokenizer"):
        raise UserError(
            f"{folder}: its tokenizer is Python code of its own ({code[0] if isinstance(code, list) else code}, by auto_map), which is not "
            "run here and which no tokenizer.json can hold: ids would be others than its model was trained on; give another base"
        )
    beside += _read_templates(folder, config)
    if model is not None and document.is_file() and not _is_byte_level(_read_json(document)):
        base = _from_both(model, document, config)
    elif model is not None:
        added = _added_beside(folder) | config.get("added_tokens_decoder", {})
        base = from_sentencepiece(model, config, {int(index): token for index, token in added.items()})
    elif document.is_file():
        base = _from_json(document, config)
    elif tiktoken := next(filter(is_tiktoken, [path] if path.is_file() else sorted(path.glob("*.model"))), None):
        raise UserError(
            f"{tiktoken}: Meta's own format (tiktoken), which holds neither the split pattern nor the special tokens; put the "
            "tokenizer.json of the same model beside it, as it lies on the hub beside the safetensors, or give that folder or hub id"
        )
    else:
        raise UserError(f"{path}: neither tokenizer.json nor a .model file; give a LLaMA-type tokenizer or model folder")
    base.files = [file for file in (model, document) if file is not None and file.is_file()] + beside
    return base


def next_id(tokenizer: Tokenizer) -> int:
    """The first id behind all others. Not the number of ids: a base may have gaps among them."""
    return max(tokenizer.get_vocab().values()) + 1


def sentencepiece_file(path: Path) -> Path | None:
    """The SentencePiece model that `path` is or holds, if any. Raises UserError when a folder holds several."""
    if path.is_file():
        return path if path.suffix != ".json" and not is_tiktoken(path) else None
    found = [file for file in sorted(path.glob("*.model")) if not is_tiktoken(file)]
    if len(found) > 1:
        raise UserError(f"{path}: several .model files ({', '.join(file.name for file in found)}); name one of them")
    return found[0] if found else None


def is_tiktoken(path: Path) -> bool:
    """Whether a .model file is no SentencePiece model but Meta's own format."""
    with path.open("rb") as handle:
        return TIKTOKEN.match(handle.read(1 << 12)) is not None


def locate(base: str | Path, *, weights: bool = False) -> tuple[Path, str | None]:
    """Where a base lies on this machine, and its revision where it is a hub id (`org/name`), which is fetched first.

    Args:
        weights: fetch the model too; otherwise its tokenizer only.

    Raises:
        UserError: neither a file, a folder, nor to be had from the hub or its local cache.
    """
    if Path(base).exists():
        packed = gguf_file(Path(base))
        return unpacked(packed) if packed is not None else Path(base), None
    folder = fetched(base, patterns=TOKENIZER_FILES + LICENCES + (MODEL_FILES if weights else []))
    return folder, folder.name


def _from_json(path: Path, config: dict[str, Any]) -> Base:
    document = _read_bpe(path)
    tokenizer = _load(document, path)
    kept = _kept(config, tokenizer)
    if _is_byte_level(document):
        if '"add_prefix_space": true' in json.dumps(document["pre_tokenizer"]):
            raise UserError(f"{path}: puts a blank before every stretch of text (add_prefix_space), sequences included; give another base")
        return Base(tokenizer, BYTE_LEVEL, kept)
    check_merges(tokenizer, path)
    note = "no tokenizer.model beside tokenizer.json: the merge order is the json's own, not checked against the sentencepiece library"
    return Base(with_free_tags(tokenizer, path), SENTENCEPIECE, kept, notes=[note])


def _from_both(model: Path, path: Path, config: dict[str, Any]) -> Base:
    """A SentencePiece model with the `tokenizer.json` beside it, whose merge order alone is not taken over."""
    read = read_model(model)
    tokenizer = with_free_tags(_load(with_merges(_read_bpe(path), read, path), path), path)
    kept = _kept(config, tokenizer)
    return Base(tokenizer, SENTENCEPIECE, kept, sentencepiece_model=model, notes=text_notes(tokenizer, read))


def _read_bpe(path: Path) -> dict[str, Any]:
    document = _read_json(path)
    model = document.get("model") or {}
    if model.get("type") != "BPE":
        raise UserError(f"{path}: a {model.get('type')} tokenizer; LLaMA-type bases are BPE")
    if not _is_byte_level(document) and not model.get("byte_fallback"):
        raise UserError(f"{path}: neither byte-level nor with byte fallback; LLaMA-type bases are one of them")
    return document


def _load(document: dict[str, Any], path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{path}: not a tokenizer that the tokenizers library reads ({error}); fetch it again") from None
    if tokenizer.decoder is None:
        raise UserError(f"{path}: has no decoder, so ids cannot be turned into text; fetch the base's own tokenizer.json")
    return tokenizer


def _read_templates(folder: Path, config: dict[str, Any]) -> list[Path]:
    """Put the chat templates that lie in files of their own into the configuration, by name; return the files."""
    files = {file.stem: file for file in sorted((folder / TEMPLATES).glob("*.jinja"))}
    if (folder / "chat_template.jinja").is_file():
        files["default"] = folder / "chat_template.jinja"
    found = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    if found:
        config["chat_template"] = found["default"] if list(found) == ["default"] else found
    # chat_template.jinja is among the files already
    return [file for name, file in files.items() if name != "default"]


def _added_beside(folder: Path) -> dict[str, Any]:
    """Id -> token for those added after the SentencePiece model was trained, from the files that may list them."""
    added: dict[str, Any] = {}
    if (folder / "added_tokens.json").is_file():
        added |= {str(index): {"content": token} for token, index in _read_json(folder / "added_tokens.json").items()}
    if (folder / "tokenizer.json").is_file():
        added |= {str(token["id"]): token for token in _read_json(folder / "tokenizer.json").get("added_tokens", [])}
    return added


def _carry_added(tokenizer: Tokenizer, added: dict[int, dict[str, Any]], path: Path) -> None:
    """Give tokens behind the SentencePiece model's own ids the ids they have: the model has trained rows for them.

    They are found in the text as it stands (`normalized=False`), also where no flag is given or it says otherwise.
    """
    for index, token in sorted(added.items()):
        if index < next_id(tokenizer) or token["content"] in tokenizer.get_vocab():
            continue
        names = ("single_word", "lstrip", "rstrip", "special")
        flags = {name: bool(token[name]) for name in names if name in token}
        tokenizer.add_tokens([AddedToken(token["content"], normalized=False, **flags)])
        if tokenizer.token_to_id(token["content"]) != index:
            raise UserError(f"{path.parent}: added token '{token['content']}' has id {index}, which does not follow the ids before it")


def _is_byte_level(document: dict[str, Any]) -> bool:
    return "ByteLevel" in json.dumps(document.get("pre_tokenizer"))


def _kept(config: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """What is carried over of tokenizer_config.json. Begin and end of a text are those of the family where it does not name them.

    Only special tokens count: what passes for `<s>` may be an ordinary piece, and a role would make a control token of it.
    """
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    ends = next(({"bos_token": begin, "eos_token": end} for begin, end in ENDS if {begin, end} <= special), {})
    kept: dict[str, Any] = {name: token for name, token in ends.items() if name not in config}  # null means that there is none

    def content(token: Any) -> Any:
        return token["content"] if isinstance(token, dict) else token

    if isinstance(config.get("chat_template"), list):  # several templates, as they were written before they had files of their own
        config = config | {"chat_template": {one["name"]: one["template"] for one in config["chat_template"]}}
    kept |= {name: content(config[name]) for name in ("bos_token", "eos_token", "pad_token") if config.get(name)}
    kept |= {name: content(config[name]) for name in OTHER_ROLES if content(config.get(name)) in special}
    more = config.get("extra_special_tokens") or config.get("additional_special_tokens")  # by name, or a list
    if isinstance(more, list):
        kept["additional_special_tokens"] = [token for token in map(content, more) if token in special]
    elif more:
        kept["extra_special_tokens"] = {name: content(token) for name, token in more.items() if content(token) in special}
    return kept | {name: config[name] for name in SETTINGS if config.get(name)}


def from_sentencepiece(path: Path, config: dict[str, Any], added: dict[int, dict[str, Any]] | None = None) -> Base:
    """A base from a SentencePiece BPE model with byte fallback alone (Llama 2, Mistral).

    Args:
        config: of tokenizer_config.json, where there is one; `add_bos_token` (on unless said) and `add_eos_token` (off) count.
        added: id -> token behind the model's own ids, as a chat model has them in its tokenizer_config.json.

    Raises:
        UserError: not a SentencePiece file, not BPE, no byte fallback, a text-changing normalisation, or text that gets other
            ids than in the sentencepiece library.
    """
    model = read_model(path)
    tokenizer = build(model)
    notes = check_text(tokenizer, model)
    _carry_added(tokenizer, added or {}, path)
    kept = _kept(config, tokenizer)
    begin, end = ([kept[role]] if role in kept else [] for role in ("bos_token", "eos_token"))
    for token in begin + end:
        if tokenizer.token_to_id(token) is None:
            raise UserError(f"{path}: '{token}', which tokenizer_config.json names, is no piece of the model")
    before = begin if config.get("add_bos_token", True) else []
    after = end if config.get("add_eos_token", False) else []
    if ends := before + after:
        special = [(end, tokenizer.token_to_id(end)) for end in dict.fromkeys(ends)]
        tokenizer.post_processor = processors.TemplateProcessing(single=" ".join([*before, "$A", *after]), special_tokens=special)
    return Base(tokenizer, SENTENCEPIECE, kept, [path], path, notes)
