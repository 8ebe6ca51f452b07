"""The parts an extension is made of: base, gene BPEs, and the tokenizer they make together."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from tokenizer.base import Base, locate, read_base
from tokenizer.private import read_tokenizer
from tokenizer.saving import THE_DAY, with_fixed_date
from tokenizer.spm import PROBES
from tokenizer.vocabulary import NewIds, extend

CHAT = [{"role": role, "content": content} for role, content in (("user", "Hi there"), ("assistant", "Sure"), ("user", "More"))]


@dataclass(frozen=True)
class Parts:
    """What an extension is made of, before anything is written."""

    source: Path
    """Folder or file of the base on this machine."""
    revision: str | None
    """Of a base from the hub."""
    base: Base
    genes: dict[str, Tokenizer]
    extended: Tokenizer
    new: NewIds


def gather(base: Path, dna: Path, protein: Path, *, weights: bool) -> Parts:
    """Read the parts; of a base on the hub, fetch them first.

    Args:
        weights: fetch the base's weights too.

    Raises:
        UserError: a missing or foreign BPE, an unreadable base, or one that is extended already; as `with_fixed_date`.
    """
    genes = {}
    for name, path in (("dna", dna), ("protein", protein)):
        remedy = f"train one with `llama-gene tokenizer train --alphabet {name}`"
        genes[name] = read_tokenizer(path, f"{name} BPE", remedy)
    source, revision = locate(base, weights=weights)
    found = read_base(source)
    found.notes += auto_notes(found, source)
    template = found.config.get("chat_template") or {}
    if with_fixed_date(template) != template:
        found.notes.append(f"the base's chat template writes today's date; a line before it fixes that to {THE_DAY:%d %b %Y}")
    extended, new, _private = extend(found, genes["dna"], genes["protein"])
    return Parts(source, revision, found, genes, extended, new)


def auto_notes(base: Base, source: Path) -> list[str]:
    """Where a base gets other ids than from plain `AutoTokenizer` of its own folder: what the report should say.

    Asked where the folder has a tokenizer.json: what `AutoTokenizer` makes of a tokenizer.model alone is no measure, the
    sentencepiece library is (tokenizer/spm.py).
    """
    if not (source / "tokenizer.json").is_file() or not (source / "tokenizer_config.json").is_file():
        return []
    from transformers import AutoTokenizer

    try:
        auto = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # a class that this version of transformers does not know, and what not
        return [f"AutoTokenizer does not load the base ({type(error).__name__}), so it was not compared with it"]
    begin, end = (base.config.get(role) or "" for role in ("bos_token", "eos_token"))
    notes, texts = [], [*PROBES, f"{begin}[INST] Hi there[/INST] Sure{end}[INST] More[/INST]", f"a{end}b {end} c"]
    if auto.chat_template is not None:
        try:
            texts.append(str(auto.apply_chat_template(CHAT, tokenize=False)))
        except Exception as error:  # templates raise what they like on a chat that they do not take
            notes.append(f"the base's chat template does not take a plain chat ({type(error).__name__}: {error})")
    changed = [text for text in texts if auto(text)["input_ids"] != base.tokenizer.encode(text).ids]
    if changed:
        notes.append(
            f"{len(changed)} of {len(texts)} probes have other ids than from AutoTokenizer of the base, the first: {changed[0]!r}; "
            "the extension keeps the ids of the base as it is read here"
        )
    return notes
