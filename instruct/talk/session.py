"""A merged model that answers: the one way in which chat, the page and the batch command load and ask it."""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from artefacts.command import path_exists
from artefacts.errors import UserError
from tokenizer.conversations import chat_tokenizer, prompt_ids
from tokenizer.generation import load_causal

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    """0 answers greedily."""


def check_model(folder: Path) -> None:
    """Refuse what is no merged model, before anything heavy is imported.

    Raises:
        UserError: no such folder, an adapter that was not merged, no tokenizer.
    """
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise UserError(f"{folder}: an adapter, not a model; merge it with `llama-gene merge --model … --adapter {folder} --out …`")
    path_exists(folder / "config.json", "model", "make one with `make quickstart` or `llama-gene merge`")
    path_exists(folder / "tokenizer.json", "tokenizer", "give the whole folder that `llama-gene merge` wrote")


class Session:
    """A model and its tokenizer.

    Raises:
        UserError: as `check_model`; a tokenizer without a chat template.
    """

    def __init__(self, folder: Path) -> None:
        check_model(folder)
        import torch

        self.folder = folder
        self.tokenizer = chat_tokenizer(folder)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token  # only ever stands where a mask hides it
        self.model: Any = load_causal(folder, dtype="auto", use_safetensors=True).eval()
        if torch.cuda.is_available():
            self.model = self.model.cuda()
        self.context: int = self.model.config.max_position_embeddings
        """Tokens that prompt and answer may have together."""

    def prompt(self, messages: Messages) -> list[int]:
        """Ids up to where the answer begins.

        Raises:
            UserError: no room for even one token of an answer.
        """
        ids = prompt_ids(self.tokenizer, messages)
        if len(ids) >= self.context:
            raise UserError(
                f"the conversation has {len(ids):,} tokens, more than the model's {self.context:,}; start over, or give a shorter sequence"
            )
        return ids

    def stream(self, messages: Messages, sampling: Sampling) -> Generator[str, None, None]:
        """The answer so far, again and again until it is complete; the last value is the whole answer.

        Closing the iterator stops the model. Raises UserError as `prompt` does.
        """
        import torch
        from transformers import StoppingCriteria
        from transformers.generation.streamers import BaseStreamer

        # tokens come from a thread through a queue, and a flag stops it
        ids = torch.tensor([self.prompt(messages)], device=self.model.device)
        tokens: SimpleQueue[int | None] = SimpleQueue()
        stopped, failed = threading.Event(), list[BaseException]()

        class Queue(BaseStreamer):
            seen = False

            def put(self, value: Any) -> None:
                if self.seen:  # the prompt comes first
                    for token in value.tolist():
                        tokens.put(token)
                self.seen = True

            def end(self) -> None:
                pass

        class Stop(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
                return torch.full((len(input_ids),), stopped.is_set(), device=input_ids.device)

        # the thread
        drawn = {"do_sample": True, "temperature": sampling.temperature} if sampling.temperature > 0 else {"do_sample": False}
        room = min(sampling.max_new_tokens, self.context - ids.shape[1])

        def generate() -> None:
            try:
                self.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=room,
                    streamer=Queue(),
                    stopping_criteria=[Stop()],
                    **drawn,
                )
            except BaseException as error:
                failed.append(error)
            finally:
                tokens.put(None)

        worker = threading.Thread(target=generate)  # no daemon: one that outlives the interpreter aborts the process
        # the answer as it grows
        answer, text = list[int](), ""
        try:
            worker.start()
            while (token := tokens.get()) is not None:
                answer.append(token)
                # decoded as a whole: pieces decoded one by one lose blanks, and a character may need several tokens
                text = self.tokenizer.decode(answer, skip_special_tokens=True)
                if not text.endswith("�"):
                    yield text
            yield text
        finally:
            stopped.set()
            if worker.is_alive():  # Ctrl-C may have come before it was
                worker.join()
        if failed:
            raise failed[0]

    def answer(self, messages: Messages, sampling: Sampling) -> str:
        """The whole answer. Raises UserError as `prompt` does."""
        return list(self.stream(messages, sampling))[-1]

    def probabilities(self, messages: Messages, labels: Sequence[str], reasoned: bool = False) -> dict[str, float]:
        """Label -> probability among these labels, from the log-likelihoods of the full answers, as evaluation scores them.

        Args:
            reasoned: a reason follows on the next line.

        Raises:
            UserError: as `prompt` does, for the longest label.
        """
        import torch

        from eval.ask.answer import candidate
        from eval.ask.likelihood import answered

        ids = self.prompt(messages)
        answers = [candidate(self.tokenizer, messages, label, reasoned) for label in labels]
        longest = max(map(len, answers))
        if len(ids) + longest > self.context:
            raise UserError(
                f"prompt and label have {len(ids) + longest:,} tokens, more than the model's {self.context:,}; shorten the prompt"
            )
        rows, _ = answered(self.model, self.tokenizer, [ids], answers, 0, greedy_text=False)
        shares_PC = torch.tensor(rows, dtype=torch.float64).softmax(1)
        return dict(zip(labels, shares_PC[0].tolist(), strict=True))
