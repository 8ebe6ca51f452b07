"""What can be evaluated: a model folder or hub id, a base with its PEFT adapter (not merged), an OpenAI-compatible endpoint.

Heavy imports wait until a subject is opened: `llama-gene eval predict --help` and refusals come first.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from artefacts.command import path_exists
from artefacts.errors import UserError
from artefacts.folder import fingerprint, package_versions
from eval.recipe import Subject
from tokenizer.generation import load_causal
from training.adapter import add_adapter


def check_subject(subject: Subject) -> None:
    """Refuse a missing model or adapter, and an adapter of another tokenizer, without importing torch."""
    if subject.endpoint is not None:
        return
    if not _to_locate(subject.model):
        path_exists(subject.model / "config.json", "model", "give a model folder (`merge`, `pretrain`, any causal LM) or a hub id")
    if subject.adapter is None:
        return
    path_exists(subject.adapter / "adapter_config.json", "adapter", "train one with `llama-gene instruct`")
    own, base = subject.adapter / "tokenizer.json", subject.model / "tokenizer.json"
    if own.is_file() and base.is_file() and own.read_bytes() != base.read_bytes():
        raise UserError(f"{subject.adapter}: its tokenizer is not that of {subject.model}; give the model the adapter was trained on")


def identity(subject: Subject) -> dict[str, str]:
    """Fingerprints of what will answer, by name: model and adapter, or the endpoint's model."""
    if subject.endpoint is not None:
        return {"endpoint": subject.endpoint, "model": str(subject.model)}
    found = {"model": fingerprint(located(subject.model))}
    return found if subject.adapter is None else {**found, "adapter": fingerprint(subject.adapter)}


def located(model: Path) -> Path:
    """The folder of a model on this machine; of a hub id, fetched or from the local cache; of a GGUF file, unpacked once."""
    if not _to_locate(model):
        return model
    from tokenizer.base import locate

    return locate(str(model), weights=True)[0]


def open_tokenizer(subject: Subject) -> Any:
    """The tokenizer, with a chat template, its date fixed as `tokenizer extend` fixes it, and a padding token set where it has none.

    Raises:
        UserError: as `chat_tokenizer`.
    """
    from tokenizer.conversations import chat_tokenizer
    from tokenizer.saving import with_fixed_date

    tokenizer = chat_tokenizer(located(subject.model), subject.adapter)
    tokenizer.chat_template = with_fixed_date(tokenizer.chat_template)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # only ever stands where a mask hides it
    return tokenizer


def check_fit(subject: Subject, tokenizer: Any, longest: int) -> None:
    """Refuse a model with fewer rows than its tokenizer has ids, and records longer than its context.

    Args:
        longest: tokens of the longest prompt.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(located(subject.model)).get_text_config()
    if config.vocab_size < len(tokenizer):
        raise UserError(f"{subject.model}: {config.vocab_size} embedding rows for {len(tokenizer)} ids; this tokenizer is not this model's")
    context = getattr(config, "max_position_embeddings", None)
    if context is not None and longest >= context:
        raise UserError(
            f"{subject.model}: the longest prompt has {longest} tokens, the model's context is {context}; convert the tasks again with "
            "shorter crops (max_letters in the card)"
        )


def machine() -> dict[str, str | None]:
    """What of this machine decides the bytes of a model's answers; a run goes on where all of it is the same."""
    import torch

    versions = {name: package_versions().get(name) for name in ("torch", "transformers", "tokenizers")}
    return {**versions, "device": "cuda" if torch.cuda.is_available() else "cpu"}


def open_model(subject: Subject) -> Any:
    """The model, ready to answer, on the GPU where there is one; an adapter stays unmerged on its base.

    Raises:
        UserError: the adapter does not fit the model.
    """
    import torch

    model: Any = load_causal(located(subject.model), dtype="auto")
    if subject.adapter is not None:
        model = add_adapter(model, subject.adapter, str(subject.model))
    return model.eval().cuda() if torch.cuda.is_available() else model.eval()


class Endpoint:
    """Greedy answers of a server that speaks OpenAI's chat completions (`transformers serve`, vLLM, llama.cpp, a hosted one).

    Chat completions give no likelihood of a given answer, so closed tasks count what the text says. The key is read from
    OPENAI_API_KEY and written nowhere.
    """

    def __init__(self, subject: Subject) -> None:
        """Raises UserError where the openai package is missing."""
        try:
            import openai
        except ImportError:
            raise UserError("endpoint: the openai package is not installed; `pip install openai`") from None
        self._errors: Any = (openai.OpenAIError,)
        self._client = openai.OpenAI(base_url=subject.endpoint, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=4)
        self._subject = subject

    def answer(self, prompts: list[list[dict[str, str]]], rooms: list[int]) -> list[str]:
        """The answers in the prompts' order, several questions at a time.

        Raises:
            UserError: the server cannot be reached or refuses.
        """

        def one(prompt: Any, room: int) -> str:
            done = self._client.chat.completions.create(
                model=str(self._subject.model), messages=prompt, temperature=0, max_tokens=room, seed=0
            )
            return done.choices[0].message.content or ""

        with ThreadPoolExecutor(self._subject.concurrency) as pool:
            try:
                return list(pool.map(one, prompts, rooms))
            except self._errors as error:
                pool.shutdown(cancel_futures=True)
                raise UserError(
                    f"{self._subject.endpoint}: {type(error).__name__}: {error}; what was answered is kept, run the same command again"
                ) from None


def _to_locate(model: Path) -> bool:
    """`org/name` that is no folder here, or a GGUF file or a folder of one."""
    if not model.exists():
        return not model.is_absolute() and len(model.parts) == 2
    from tokenizer.gguf_base import gguf_file

    return gguf_file(model) is not None
