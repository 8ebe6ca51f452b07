"""Messages to ids: the one place where training, chat and evaluation turn a record into tokens.

Prompt and answer are joined as ids, never as text that is tokenised again: a token that spanned the boundary would make
the answer's ids depend on the prompt.

What people and databases write is text. A control token in it, such as an end of turn, is written with a blank inside, or it would
pass for the real one; the chat templates that we save do the same, for those who read the folder without this code.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from artefacts.errors import UserError
from sequences.alphabets import TAGS
from sequences.spans import position, remarks
from tokenizer.private import check_tags

PROBE = [{"role": "user", "content": "?"}]


def chat_tokenizer(folder: str | Path, instead: Path | None = None) -> Any:
    """The tokenizer of a model that can be talked to, read by plain transformers.

    Args:
        instead: a folder whose tokenizer is taken where the first has no chat template, such as an adapter's.

    Raises:
        UserError: no chat template, or one that cannot write a question and its answer; tags of another version of this code.
    """
    from transformers import AutoTokenizer  # takes seconds, and few runs need it

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.chat_template and instead is not None and (instead / "tokenizer_config.json").is_file():
        tokenizer, folder = AutoTokenizer.from_pretrained(instead), instead
    check_chat(tokenizer, folder)
    return tokenizer


def check_chat(tokenizer: Any, folder: str | Path) -> list[int]:
    """Ids of an answer. Raises UserError, as `chat_tokenizer` does, for a tokenizer that cannot write a question and its answer."""
    if not tokenizer.chat_template:
        raise UserError(
            f"{folder}: its tokenizer has no chat template, so there is no telling where an answer begins; extend the base with "
            "`llama-gene tokenizer extend`, which gives it one, or put a chat_template.jinja into the folder"
        )
    if tokenizer.is_fast:
        check_tags(tokenizer.backend_tokenizer, folder)
    try:
        answer = answer_ids(tokenizer, PROBE, "yes")
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    if not answer:
        raise UserError(f"{folder}: its chat template writes no answer; mend chat_template.jinja")
    return answer


SPELLS_CONTROL = "spells a special token of the tokenizer"
"""Why a text or a record is set aside."""


def control_tokens(added: Iterable[Any], template: str) -> list[str]:
    """Of the added tokens the special ones and those that the chat template writes, longest first. Tags are content."""
    contents = {token.content for token in added if token.special or token.content in template} - set(TAGS)
    return sorted(contents, key=lambda token: (-len(token), token))


def controls(tokenizer: Any) -> re.Pattern[str]:
    """Finds control tokens in a text."""
    return _controls(tokenizer, str(tokenizer.chat_template))[0]


@lru_cache(maxsize=8)
def _controls(tokenizer: Any, template: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    # a call for every message: to list the added tokens takes longer than to render one
    contents = control_tokens(tokenizer.added_tokens_decoder.values(), template)
    return re.compile("|".join(map(re.escape, contents)) or r"(?!)"), tuple(contents)


def as_text(tokenizer: Any, text: str) -> str:
    """The text with a blank behind the first letter of every control token in it."""
    return controls(tokenizer).sub(lambda control: f"{control[0][0]} {control[0][1:]}", text)


def content_remarks(tokenizer: Any, text: str) -> list[str]:
    """What is not as it seems in a message: control tokens, and spans (`sequences.spans.remarks`)."""
    found = controls(tokenizer).finditer(text)
    return [f"{position(one.start())}: {one[0]} is a control token of the model, so it is read as text" for one in found] + [*remarks(text)]


def conversations(tokenizer: Any, prompts: list[list[dict[str, str]]], answers: list[str]) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, answer ids) of many conversations; the answer's end with its end-of-turn token (`_until_end`).

    Raises:
        UserError: the chat template does not keep the prompt's ids as a prefix; such a template cannot be trained honestly. As
            `prompt_ids` does.
    """
    before = _tokenise(tokenizer, [rendered(tokenizer, prompt, add_generation_prompt=True) for prompt in prompts])
    whole = [[*prompt, {"role": "assistant", "content": answer}] for prompt, answer in zip(prompts, answers, strict=True)]
    after = _tokenise(tokenizer, [_until_end(tokenizer, rendered(tokenizer, messages)) for messages in whole])
    pairs = []
    for prompt, full in zip(before, after, strict=True):
        if full[: len(prompt)] != prompt:
            raise UserError("the chat template writes a prompt differently once an answer follows; mend chat_template.jinja")
        pairs.append((prompt, full[len(prompt) :]))
    return pairs


def prompt_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """Ids of a conversation up to where the assistant's answer begins.

    Raises:
        UserError: the chat template refuses the roles or their order (many bases' own ones do), or a text is no UTF-8.
    """
    return _tokenise(tokenizer, [rendered(tokenizer, messages, add_generation_prompt=True)])[0]


def answer_ids(tokenizer: Any, messages: list[dict[str, str]], answer: str) -> list[int]:
    """Ids of one answer behind a prompt, its end-of-turn token included. Raises UserError as `conversations` does."""
    return conversations(tokenizer, [messages], [answer])[0][1]


def rendered(tokenizer: Any, messages: list[dict[str, str]], **options: bool) -> str:
    """A conversation as the tokenizer's chat template writes it, its contents as text.

    Raises:
        UserError: as `prompt_ids`.
    """
    messages = [{**message, "content": as_text(tokenizer, message["content"])} for message in messages]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"a text is no UTF-8: {error.object[error.start]!r} stands for a byte or half a character; mend it") from None
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError, MemoryError) as error:
        # a template is a program of whoever made the model
        raise UserError(f"the model's chat template refuses this conversation: {error or type(error).__name__}") from None
    return text


def written_answer(tokenizer: Any, messages: list[dict[str, str]], answer: str) -> str:
    """What the chat template writes after the prompt for an answer, its end-of-turn token included.

    Raises:
        UserError: as `conversations`.
    """
    before = rendered(tokenizer, messages, add_generation_prompt=True)
    after = _until_end(tokenizer, rendered(tokenizer, [*messages, {"role": "assistant", "content": answer}]))
    if not after.startswith(before):
        raise UserError("the chat template writes a prompt differently once an answer follows; mend chat_template.jinja")
    return after[len(before) :]


def end_of_turn(folder: Path) -> int | None:
    """The id that the chat template in a folder ends an answer with; None where that is no control token, or there is no answer."""
    try:
        tokenizer = chat_tokenizer(folder)
        [last] = answer_ids(tokenizer, PROBE, "yes")[-1:]
    except UserError:
        return None
    return last if controls(tokenizer).fullmatch(tokenizer.convert_ids_to_tokens(last)) else None


def _until_end(tokenizer: Any, text: str) -> str:
    """The text without white space behind its last end of turn: ChatML writes a line end there, which begins the next turn."""
    kept = text.rstrip()
    return kept if kept.endswith(_controls(tokenizer, str(tokenizer.chat_template))[1]) else text


def _tokenise(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    # the template has written BOS already
    return tokenizer(texts, add_special_tokens=False)["input_ids"]
