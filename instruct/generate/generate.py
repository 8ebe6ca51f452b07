"""Draw sequences from a model: `llama-gene generate`, a folder with FASTA, statistics and a page.

The model writes behind an opening tag until it closes the span or the letters are full. Only pieces of the modality and the
closing tag are let through, so that what comes out is a sequence whatever the model has learned. A batch has a seed of its own and
is kept once it is drawn: an interrupted run goes on behind the last one and ends with the same bytes.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from tqdm import tqdm

from artefacts.command import path_exists
from artefacts.errors import Ledger, UserError, at, say_read
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from artefacts.resume import work_on
from eval.ask.subjects import machine, open_model
from eval.recipe import Subject
from instruct.generate.spectrum import beside, read_reference, write_page
from instruct.talk.session import check_model
from sequences.alphabets import ALPHABETS, PLAIN_LETTERS, Alphabet
from sequences.readers import read_sequences
from sequences.spans import spans
from tokenizer.encoders import read_encoders

LINE = 80
"""Letters of a FASTA line."""


class GenerateRecipe(Recipe):
    """Draw DNA, RNA or protein from a model, and show what it is made of beside real sequence."""

    model: Path
    """Model folder with an extended tokenizer (`tokenizer extend`, `pretrain`, `merge`)."""
    modality: Literal["dna", "rna", "protein"]
    prompt: str = ""
    """What stands before the sequence. It may end in an open span, '<dna>ATGGC', which is then gone on with."""
    prompts: Path | None = None
    """Instead of one prompt: a text file, one a line, or FASTA, each record the beginning of a sequence."""
    out: Path
    """Folder: sequences.fasta, statistics.json, report.html."""
    count: int = Field(1, ge=1)
    """Sequences for each prompt."""
    min_letters: int = Field(1, ge=1)
    """Letters before the span may be closed, what the prompt gives not counted."""
    max_letters: int = Field(1000, ge=1)
    """Letters at which the span is closed."""
    plain: bool = True
    """Plain letters only: no N, no ambiguity codes, no rare residues."""
    temperature: float = Field(1.0, ge=0)
    """0 takes the likeliest token each time."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw from the fewest tokens that have this probability together."""
    top_k: int = Field(0, ge=0)
    """Draw from so many of the likeliest tokens; 0: from all."""
    reference: list[Path] = []
    """Real sequences, which the report shows beside those drawn."""
    batch: int = Field(16, ge=1)
    """Sequences drawn together; another number gives other (equally good) sequences."""
    seed: int = 0

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.prompt and self.prompts is not None:
            raise ValueError("prompt and prompts are given; give one of them")
        if self.min_letters > self.max_letters:
            raise ValueError(f"min_letters={self.min_letters} is more than max_letters={self.max_letters}")
        if self.count > 1 and self.temperature == 0:
            raise ValueError(f"temperature=0 gives the same sequence {self.count} times; raise it, or leave count at 1")
        return self


@dataclass(frozen=True)
class Prompt:
    """What a sequence is drawn behind."""

    name: str
    text: str
    """Ends in an open span."""
    given: str
    """Letters of that span."""


Item = tuple[Prompt, int]
"""A prompt, and which of its sequences is drawn."""


def generate(recipe: GenerateRecipe, *, overwrite: bool = False) -> None:
    """Draw the sequences, or go on with a run that was interrupted, and write the folder.

    Raises:
        UserError: no such model, prompts or reference; a model without the extended tokenizer; a prompt that ends in a span of
            another modality or with foreign letters, or is longer than the model's context; the rest of another run.
    """
    check_absent(recipe.out, overwrite)
    check_model(recipe.model)
    alphabet = ALPHABETS[recipe.modality]
    prompts = _read_prompts(recipe, alphabet)
    real = read_reference(recipe.reference, alphabet) if recipe.reference else []
    inputs = {"model": fingerprint(recipe.model)}
    inputs |= {"prompts": fingerprint(recipe.prompts)} if recipe.prompts is not None else {}
    settings = recipe.model_dump(mode="json", exclude={"out", "model", "prompts", "reference"})
    items = [(prompt, number) for prompt in prompts for number in range(1, recipe.count + 1)]
    batches = [items[start : start + recipe.batch] for start in range(0, len(items), recipe.batch)]
    draw, drawn = _drawer(recipe, alphabet, prompts), list[tuple[Item, str, bool]]()
    with work_on(recipe.out, {**settings, **inputs, **machine()}, overwrite=overwrite) as work:
        with tqdm(total=len(items), desc="generate", unit="sequence", disable=None) as progress:
            for batch, found in zip(batches, work.each(enumerate(batches), draw), strict=True):
                drawn += [(item, letters, closed) for item, (letters, closed) in zip(batch, found, strict=True)]
                progress.update(len(batch))
        work.check_rows(len(drawn), len(items))
        inputs |= {"reference": fingerprint(*recipe.reference)} if recipe.reference else {}
        statistics = beside(alphabet, [letters for _, letters, _ in drawn], real, recipe.seed)
        with new_folder(recipe.out, overwrite=overwrite) as folder:
            with (folder / "sequences.fasta").open("w", encoding="utf-8") as handle:
                for (prompt, number), letters, closed in drawn:
                    handle.write(_record(prompt, number, letters, closed, alphabet))
            (folder / "statistics.json").write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")
            counts = {"prompts": len(prompts), "sequences": len(drawn), "closed": sum(closed for *_, closed in drawn)}
            write_manifest(folder, "generated", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
            write_page(statistics, alphabet, settings, counts, folder / "report.html")


def _read_prompts(recipe: GenerateRecipe, alphabet: Alphabet) -> list[Prompt]:
    if recipe.prompts is None:
        return [_prompt("1", recipe.prompt, alphabet, "prompt")]
    path = recipe.prompts
    path_exists(path, "file of prompts", "give a text file, one prompt a line, or FASTA")
    with path.open("rb") as handle:
        fasta = next((line for line in handle if line.strip()), b"").startswith(b">")
    if fasta:
        ledger = Ledger()
        begun = [Prompt(one.id, alphabet.open_tag + one.letters, one.letters) for one in read_sequences(path, alphabet, ledger)]
        say_read(str(path), ledger.as_dict())
        return begun
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8 text") from None
    found = [_prompt(str(number), line, alphabet, at(path, number)) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UserError(f"{path}: no prompt in it; write one a line, or leave prompts out")
    return found


def _prompt(name: str, text: str, alphabet: Alphabet, where: str) -> Prompt:
    last = next(iter(list(spans(text))[-1:]), None)
    if last is None or last.follows:
        return Prompt(name, text + alphabet.open_tag, "")
    if last.alphabet != alphabet:
        raise UserError(
            f"{where}: ends in an open {last.alphabet.open_tag}, but modality={alphabet.name}; close it, or change the modality"
        )
    if not last.mapped:
        letter = text[max(last.foreign, last.words)]
        raise UserError(f"{where}: '{letter}' behind the open {alphabet.open_tag} is no letter of it; mend it, or close the tag")
    return Prompt(name, text, alphabet.read("".join(text[last.start : last.end].split())))


def _drawer(
    recipe: GenerateRecipe, alphabet: Alphabet, prompts: list[Prompt]
) -> Callable[[tuple[int, list[Item]]], list[tuple[str, bool]]]:
    """What draws a batch: letters and whether the model closed the span itself. The model is loaded when the first is asked for."""
    from transformers import AutoConfig, AutoTokenizer

    from eval.ask.likelihood import left_padded
    from training.launch import share_cores

    encoder = read_encoders(recipe.model, [recipe.modality])[recipe.modality]
    tokenizer: Any = AutoTokenizer.from_pretrained(recipe.model)
    config = AutoConfig.from_pretrained(recipe.model)
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids = {prompt.text: start + tokenizer(prompt.text, add_special_tokens=False)["input_ids"] for prompt in prompts}
    context: int = config.max_position_embeddings
    for prompt in prompts:
        if len(ids[prompt.text]) >= context:
            raise UserError(f"prompt {prompt.name}: {len(ids[prompt.text]):,} tokens, the model has {context:,}; shorten it")
    allowed = PLAIN_LETTERS[alphabet.name] if recipe.plain else alphabet.letters
    letters = {index: piece for piece, index in encoder.pieces.items() if set(piece) <= {*allowed}}
    closing = encoder.tags[1]

    @cache
    def opened() -> Any:
        share_cores()
        return open_model(Subject(model=recipe.model))

    def draw(numbered: tuple[int, list[Item]]) -> list[tuple[str, bool]]:
        import torch
        from transformers import GenerationConfig

        from instruct.generate.letters import OnlyLetters

        number, batch = numbered
        model, pad = opened(), tokenizer.pad_token_id if tokenizer.pad_token_id is not None else closing
        ids_BT, mask_BT = (part.to(model.device) for part in left_padded([ids[prompt.text] for prompt, _ in batch], pad))
        only = OnlyLetters(letters, config.vocab_size, closing, ids_BT.shape[1], recipe.min_letters, recipe.max_letters)
        settings: dict[str, Any] = {"do_sample": False}
        if recipe.temperature:
            settings = {"do_sample": True, "temperature": recipe.temperature, "top_p": recipe.top_p, "top_k": recipe.top_k}
        room = min(recipe.max_letters + 1, context - ids_BT.shape[1])
        torch.manual_seed(recipe.seed * 1_000_003 + number)
        found_BT = model.generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            generation_config=GenerationConfig(max_new_tokens=room, eos_token_id=closing, pad_token_id=pad, **settings),
            logits_processor=[only],
        )
        rows = [list(itertools.takewhile(lambda index: index != closing, row)) for row in found_BT[:, ids_BT.shape[1] :].tolist()]
        drawn = ["".join(letters[index] for index in row) for row in rows]
        return [(text, len(row) < room and len(text) < recipe.max_letters) for text, row in zip(drawn, rows, strict=True)]

    return draw


def _record(prompt: Prompt, number: int, letters: str, closed: bool, alphabet: Alphabet) -> str:
    """A FASTA record of what the prompt gave and what was drawn."""
    whole = prompt.given + letters
    whole = whole.replace("T", "U") if alphabet.name == "rna" else whole
    lines = [whole[start : start + LINE] for start in range(0, len(whole), LINE)]
    end = "closed" if closed else "cut"
    return "\n".join([f">{prompt.name}/{number} {alphabet.name} length={len(whole)} given={len(prompt.given)} {end}", *lines]) + "\n"
