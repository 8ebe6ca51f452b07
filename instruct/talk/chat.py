"""Chat in the terminal, or JSON lines for scripts: `llama-gene chat --model DIR`."""

import contextlib
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.recipe import Recipe
from data_convert.tasks.cards import load_card
from instruct.talk.labels import Asked, asked_of, shipped
from instruct.talk.sequences import Read, read_fasta, wrap_sequences
from instruct.talk.session import Messages, Sampling, Session, check_model
from tokenizer.conversations import content_remarks

MOST_LOADED = 8
"""Records that `/load` takes: they all go into one prompt."""
HELP = """\
Sequences go between tags, <dna>ACGT</dna>, <rna>…</rna>, <protein>…</protein>; long bare ones are recognised.
/load FILE [dna|rna|protein] puts the sequences of a FASTA file behind the next prompt, /task CARD sets the labels, /new starts over,
/help shows this, /quit ends. In a terminal Ctrl-C stops an answer, Alt+Enter begins a new line, a paste is one prompt, and the arrows
bring back earlier ones."""


class ChatRecipe(Recipe):
    """Chat with a gene model."""

    model: Path
    """Merged model folder (`merge`)."""
    prompt: str | None = None
    """Answer this one prompt and stop; null opens a conversation."""
    task: str | None = None
    """Card (id or YAML file) whose labels get probabilities; null recognises prompts that are written in a card's own words."""
    as_json: bool = False
    """For scripts: one JSON object per line out, and in (`{"prompt": …}` or `{"messages": […]}`) unless a prompt is given."""
    max_new_tokens: int = 128
    temperature: float = 0.0
    """0 answers greedily."""
    seed: int = 0


def chat(recipe: ChatRecipe) -> None:
    """Answer one prompt, or hold a conversation until end of input or `/quit`.

    Raises:
        UserError: no such model; an adapter that was not merged; no chat template; no such card; with one prompt, whatever
            is wrong with it (in a conversation and in JSON lines it is shown instead).
    """
    first = wrap_sequences(recipe.prompt) if recipe.prompt is not None and not recipe.as_json else None
    check_model(recipe.model)
    asked = _of_task(recipe.task)
    import torch

    session = Session(recipe.model)
    torch.manual_seed(recipe.seed)
    talk = Talk(session, Sampling(recipe.max_new_tokens, recipe.temperature), asked)
    if recipe.as_json:
        requests = [{"prompt": recipe.prompt}] if recipe.prompt is not None else _lines()
        plain = "utf" in (getattr(sys.stdout, "encoding", None) or "utf").lower()  # elsewhere JSON's own escapes are needed
        for request in requests:
            line = json.dumps(talk.as_json(request), ensure_ascii=not plain)
            # half a surrogate pair cannot be written; with a backslash it is JSON
            print(line.encode("utf-8", "backslashreplace").decode(), flush=True)
    elif first is not None:
        talk.say(*first)
    else:
        talk.converse()


class Talk:
    """A conversation: what was said, and which labels were asked for."""

    def __init__(self, session: Session, sampling: Sampling, asked: Asked | None) -> None:
        self.session, self.sampling, self.asked = session, sampling, asked
        self.messages: Messages = []
        self.loaded: list[Read] = []
        self._at_work = False

    def converse(self) -> None:
        """Read prompts until the end."""
        print(HELP)
        if sys.stdin is None:  # closed (<&-)
            return
        terminal = sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()
        read = _terminal_reader() if terminal else _plain_reader()
        if terminal:
            signal.signal(signal.SIGINT, self._interrupt)
        going = True
        while going:
            try:
                going = self._turn(read)
            except KeyboardInterrupt:
                if not terminal:
                    raise
                print("\n[stopped; the conversation goes on]")

    def _interrupt(self, *_: object) -> None:
        """Ctrl-C stops a turn, once. While a prompt starts it is a signal too, which ended one conversation in 130: it is nothing then."""
        if self._at_work:
            self._at_work = False
            raise KeyboardInterrupt

    def _turn(self, read: Callable[[], str]) -> bool:
        """One prompt or command; whether more may follow."""
        try:
            if (line := read().strip()) == "/quit":
                return False
            self._at_work = True
            self._line(line)
        except EOFError:
            return False
        except UserError as error:
            print(f"error: {error}")
        self._at_work = False
        return True

    def _line(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command == "/help":
            print(HELP)
        elif command == "/new":
            self.messages, self.loaded = [], []
        elif command == "/load":
            self._load(rest)
        elif command == "/task":
            self.asked = _of_task(rest.strip() or None)
        elif line.startswith("/"):
            raise UserError(f"{command}: no such command; there are /load, /task, /new, /help and /quit")
        elif line:
            # a blank line alone sends nothing, so that a slip of the finger does not cost the loaded sequences
            text, wrapped = wrap_sequences("\n".join([line, *(read.tagged for read in self.loaded)]))
            self.say(text, wrapped)
            self.loaded = []

    def _load(self, rest: str) -> None:
        path, _, last = rest.strip().rpartition(" ")
        modality = last if last in ("dna", "rna", "protein") else None
        self.loaded = read_fasta(Path(path if modality and path else rest.strip()), MOST_LOADED, modality)
        for read in self.loaded:
            print(f"[read {read}; it goes behind the next prompt]")

    def say(self, text: str, wrapped: list[Read]) -> None:
        """Print the answer to a prompt as it is written, and the probabilities of the labels that it asks for.

        Of an answer that Ctrl-C stops, what was written stays in the conversation.
        """
        for note in [*(f"read {read}" for read in wrapped), *content_remarks(self.session.tokenizer, text)]:
            print(f"[{note}]", file=sys.stderr)
        messages = [*self.messages, {"role": "user", "content": text}]
        answer = ""
        try:
            with contextlib.closing(self.session.stream(messages, self.sampling)) as pieces:
                for so_far in pieces:
                    print(so_far[len(answer) :], end="", flush=True)
                    answer = so_far
        except KeyboardInterrupt:
            if answer.strip():
                self.messages = [*messages, {"role": "assistant", "content": answer}]
            raise
        print()
        if asked := self.asked or shipped().asked(text):
            ranked, why_not = _ranked(self.session, messages, asked)
            print(f"[{asked}] " + (why_not or ", ".join(f"{label} {p:.3f}" for label, p in ranked.items())))
        self.messages = [*messages, {"role": "assistant", "content": answer}]

    def as_json(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request, or what is wrong with it; nothing of earlier requests is remembered."""
        try:
            messages, wrapped = _messages(request)
            asked = _of_task(request["task"]) if request.get("task") else self.asked or shipped().asked(messages[-1]["content"])
            answer = self.session.answer(messages, self.sampling)
        except UserError as error:
            return {**request, "answer": None, "status": "error", "error": str(error)}
        ranked, why_not = _ranked(self.session, messages, asked) if asked else ({}, None)
        return {
            **request,
            "answer": answer,
            "status": _status(answer, asked),
            "tasks": list(asked.tasks) if asked else None,
            "label": next(iter(ranked), None),
            "probabilities": ranked or None,
            "no_probabilities": why_not,
            "wrapped": [{"modality": read.modality, "letters": read.letters} for read in wrapped],
            "remarks": [note for message in messages for note in content_remarks(self.session.tokenizer, message["content"])],
        }


def _plain_reader() -> Callable[[], str]:
    """A line of a file or pipe."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a foreign byte costs a letter, not the conversation
    return lambda: input("you> ")


def _terminal_reader() -> Callable[[], str]:
    """As many lines as are pasted or written before Enter, edited as in a shell."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()
    keys.add("enter")(lambda event: event.current_buffer.validate_and_handle())
    keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
    prompts: PromptSession[str] = PromptSession("you> ", multiline=True, key_bindings=keys, prompt_continuation="...> ")

    def read() -> str:
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # clears what was written; Ctrl-D or /quit ends
                return prompts.prompt(handle_sigint=False)

    return read


def _lines() -> Iterator[dict[str, Any]]:
    """Requests of standard input; a line that is none becomes one that will be refused with its number."""
    for number, line in enumerate(sys.stdin.buffer if sys.stdin is not None else [], 1):
        if not line.strip():
            continue
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        yield request if isinstance(request, dict) else {"line": number, "text": line.decode("utf-8", "replace").strip()[:200]}


def _messages(request: dict[str, Any]) -> tuple[Messages, list[Read]]:
    messages = request.get("messages", [{"role": "user", "content": request.get("prompt")}])
    well_formed = isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages)
    if not well_formed or not all(isinstance(message.get("content"), str) and message["content"].strip() for message in messages):
        raise UserError('a request is a JSON object in UTF-8 with a text as `prompt`, or `messages` of {"role": …, "content": …}')
    if not isinstance(request.get("task", ""), str | None):
        raise UserError("`task` is the id or YAML file of a card, a text")
    if messages[-1].get("role") != "user" or any(message.get("role") not in ("system", "user", "assistant") for message in messages):
        raise UserError("roles of messages are system, user and assistant, and the last one is the user's")
    said, wrapped = [], list[Read]()
    for message in messages:
        text, found = wrap_sequences(message["content"]) if message["role"] == "user" else (message["content"], [])
        said.append({"role": message["role"], "content": text})
        wrapped += found
    return said, wrapped


def _of_task(name: str | None) -> Asked | None:
    if name is None:
        return None
    try:
        card = load_card(name)
    except OSError as error:
        raise UserError(f"task '{name[:80]}': {error.strerror}") from None
    asked = asked_of(card)
    if asked is None:
        where = "its labels stand in a label.txt beside the data" if card.label_file else f"it is a {card.kind} task"
        raise UserError(f"task '{name}': no labels to give probabilities of, as {where}; leave the task out")
    return asked


def _ranked(session: Session, messages: Messages, asked: Asked) -> tuple[dict[str, float], str | None]:
    """Probabilities, likeliest first; or none, and why not: the answer stands all the same."""
    try:
        found = session.probabilities(messages, asked.labels, asked.reasoned)
    except UserError as error:
        return {}, f"no probabilities: {error}"
    return dict(sorted(found.items(), key=lambda item: -item[1])), None


def _status(answer: str, asked: Asked | None) -> str:
    """valid, invalid or refused, as evaluation reads the answer: with labels it must be one of them."""
    from data_convert.tasks.parse import before_reason, parse_label, parse_text

    return (parse_label(before_reason(answer, asked.reasoned), asked.labels) if asked else parse_text(answer)).status
