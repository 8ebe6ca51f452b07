"""Chat in the terminal: `llama-gene chat --model DIR`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from artefacts.command import path_exists
from artefacts.errors import UserError
from artefacts.recipe import Recipe
from data_convert.conversations import prompt_ids
from tokenizer.alphabets import ALPHABETS, DNA, PROTEIN, RNA

BARE = re.compile(r"(?<![\w<>/*])[A-Z]+\*?(?![\w<>*])")
"""A word of capitals outside tags, a final stop included."""
SHORTEST = {"dna": 16, "rna": 16, "protein": 30}
"""Letters from which such a word is taken for a sequence. Every capital letter is a residue letter, and English in
capitals reaches 25 letters (PHOSPHORIBOSYLTRANSFERASE); shorter peptides go between tags."""
SPAN = re.compile(r"<(dna|rna|protein)>(.*?)</\1>", re.DOTALL)


class ChatRecipe(Recipe):
    """Chat with a gene model."""

    model: Path
    """Merged model folder (`merge`)."""
    prompt: str | None = None
    """Answer this one prompt and stop; null opens a conversation."""
    max_new_tokens: int = 128
    temperature: float = 0.0
    """0 answers greedily."""
    seed: int = 0


def chat(recipe: ChatRecipe) -> None:
    """Answer one prompt, or hold a conversation until end of input or `/quit`; `/new` forgets what was said.

    Raises:
        UserError: no such model; a sequence with letters outside its alphabet (in a conversation it is shown instead).
    """
    path_exists(recipe.model / "config.json", "model", "make one with `make quickstart` or `llama-gene merge`")
    prompt = wrap_sequences(recipe.prompt) if recipe.prompt is not None else None
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(recipe.model)
    model = AutoModelForCausalLM.from_pretrained(recipe.model, dtype="auto").eval()
    if torch.cuda.is_available():
        model = model.cuda()
    torch.manual_seed(recipe.seed)
    if prompt is not None:
        answer(model, tokenizer, [{"role": "user", "content": prompt}], recipe)
        return
    print("Sequences go between tags, <dna>ACGT</dna>, <rna>…</rna>, <protein>…</protein>. /new starts over, /quit ends.")
    messages: list[dict[str, str]] = []
    while True:
        try:
            line = input("you> ").strip()
        except EOFError:
            return
        if line == "/quit":
            return
        if line == "/new":
            messages = []
        elif line:
            try:
                asked = [*messages, {"role": "user", "content": wrap_sequences(line)}]
                messages = [*asked, {"role": "assistant", "content": answer(model, tokenizer, asked, recipe)}]
            except UserError as error:
                print(f"error: {error}")


def answer(model: Any, tokenizer: Any, messages: list[dict[str, str]], recipe: ChatRecipe) -> str:
    """Stream the model's answer to the terminal and return it."""
    import torch
    from transformers import TextStreamer

    ids = torch.tensor([prompt_ids(tokenizer, messages)], device=model.device)
    room = model.config.max_position_embeddings - ids.shape[1]
    if room < 1:
        most = model.config.max_position_embeddings
        raise UserError(f"the conversation has {ids.shape[1]} tokens, more than the model's {most}; start over with /new, or ask for less")
    sampling = {"do_sample": True, "temperature": recipe.temperature} if recipe.temperature > 0 else {"do_sample": False}
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=min(recipe.max_new_tokens, room), streamer=streamer, **sampling
    )
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def wrap_sequences(text: str) -> str:
    """Validate tagged sequences and put bare ones between tags, saying so on standard error.

    Raises:
        UserError: a tagged sequence with a letter outside its alphabet, or an empty one.
    """

    def checked(match: re.Match[str]) -> str:
        alphabet = ALPHABETS[match[1]]
        letters = re.sub(r"\s", "", match[2])
        return f"{alphabet.open_tag}{alphabet.clean(letters, f'{alphabet.open_tag} in the prompt')}{alphabet.close_tag}"

    def wrapped(match: re.Match[str]) -> str:
        letters = match[0]
        alphabet = DNA if set(letters) <= set("ACGTN") else RNA if set(letters) <= set("ACGUN") else PROTEIN
        if len(letters) < SHORTEST[alphabet.name]:
            return letters
        print(f"[read {letters[:12]}… ({len(letters)} letters) as {alphabet.name}]", file=sys.stderr)
        return alphabet.wrap(letters)

    pieces = []
    end = 0
    for span in SPAN.finditer(text):
        pieces += [BARE.sub(wrapped, text[end : span.start()]), checked(span)]
        end = span.end()
    return "".join(pieces) + BARE.sub(wrapped, text[end:])
