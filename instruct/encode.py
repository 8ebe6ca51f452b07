"""Messages to ids: the one place where training, chat and evaluation turn a record into tokens.

Prompt and answer are joined as ids, never as text that is tokenised again: a token that spanned the boundary would make
the answer's ids depend on the prompt.
"""

from __future__ import annotations

from typing import Any

from artefacts.errors import UserError


def prompt_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """Ids of a conversation up to where the assistant's answer begins."""
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def answer_ids(tokenizer: Any, messages: list[dict[str, str]], answer: str) -> list[int]:
    """Ids of the answer and its end-of-turn token, as they stand behind the prompt in the full conversation.

    Raises:
        UserError: the chat template does not keep the prompt's ids as a prefix; such a template cannot be trained honestly.
    """
    prompt = prompt_ids(tokenizer, messages)
    full = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], return_dict=False)
    if full[: len(prompt)] != prompt:
        raise UserError("the chat template writes a prompt differently once an answer follows; mend chat_template.jinja")
    return full[len(prompt) :]
