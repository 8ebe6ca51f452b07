"""The web page of `llama-gene serve`: a prompt, a sequence box, the answer, label probabilities as bars, coloured tokens.

Nothing here trusts what comes from the browser: texts are escaped, files are read as FASTA alone, and sizes are limited.
"""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from textwrap import shorten
from typing import Any

import gradio as gr

from artefacts.errors import UserError
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.parse import before_reason, parse_label
from data_convert.tasks.prompts import render
from instruct.talk.examples import Examples
from instruct.talk.labels import Asked, Recogniser
from instruct.talk.limits import RateLimit
from instruct.talk.sequences import Read, read_box, read_fasta, wrap_sequences
from instruct.talk.session import Sampling, Session
from tokenizer.colours import as_html, cut, read_extended
from tokenizer.conversations import as_text, content_remarks

FREE = "free prompt"
MOST_RECORDS = 8
"""Sequences of one upload."""
MOST_BARS = 12
GZIP = b"\x1f\x8b"
CSS, SCRIPT = Path(__file__).with_suffix(".css"), Path(__file__).with_suffix(".js")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one question may cost."""

    longest_prompt: int
    """Letters."""
    upload_mib: int
    questions_per_minute: int
    waiting: int
    """Questions that may wait while one is answered."""


class Page:
    """What the page's buttons do. Every method returns what the browser shows."""

    def __init__(self, session: Session, cards: list[TaskCard], examples: Examples, limits: Limits, sampling: Sampling) -> None:
        self.session, self.examples, self.limits, self.sampling = session, examples, limits, sampling
        self.cards = {card.id: card for card in cards}
        self._known = Recogniser(cards)
        self._rate = RateLimit(limits.questions_per_minute)
        self._numbers = count(1)
        self._tokenizer = read_extended(session.folder)

    def example(self, task: str | None, number: int) -> tuple[str, str, str, int]:
        """Sequences, prompt, what to know, and the number of the next example."""
        card = self.cards.get(task or "")
        if card is None:
            return "", "", "", 0
        found = self.examples.of(card, number)
        return found.box, found.prompt, said(found.note), number + 1

    def upload(self, task: str | None, path: str | None) -> tuple[str, str]:
        """Sequences as FASTA, and how they were read or why they cannot be, or cannot be asked about."""
        if path is None:
            return "", ""
        file = Path(path)
        try:
            with file.open("rb") as handle:
                if handle.read(2) == GZIP:
                    raise UserError(f"{file}: compressed; unpack it first")
            found = read_fasta(file, MOST_RECORDS)
            if sum(len(read.letters) for read in found) > self.limits.longest_prompt:
                raise UserError(f"{file}: more than {self.limits.longest_prompt:,} letters; give a shorter sequence")
        except UserError as error:
            return "", said(str(error).replace(str(file), file.name), "error")
        finally:
            file.unlink(missing_ok=True)
        box = "".join(f">{read.name}\n{read.letters}\n" for read in found)
        try:
            notes = _how(self._composed(task, box, "")[1]) + " Now put it into the prompt."
        except UserError as error:
            return box, said(f"{_how(found)} But: {error}", "error")
        return box, said(notes)

    def compose(self, task: str | None, box: str, prompt: str) -> tuple[str, str]:
        """The prompt with the sequences of the box: in the task's words, or behind what was written."""
        try:
            text, found = self._composed(task, box, prompt)
            return text, said(_how(found))
        except UserError as error:
            return prompt, said(str(error), "error")

    def _composed(self, task: str | None, box: str, prompt: str) -> tuple[str, list[Read]]:
        """Raises UserError where the box does not fit the task, or the model has no room for it."""
        if len(box) > self.limits.longest_prompt:
            raise UserError(f"more than {self.limits.longest_prompt:,} letters; give a shorter sequence")
        card = self.cards.get(task or "")
        if card is None:
            found = read_box(box)
            text = "\n".join(filter(None, [prompt.strip(), *(read.tagged for read in found)]))
        else:
            found = read_box(box, [item.modality for item in card.inputs])
            text = render(card, {item.name: read.letters for item, read in zip(card.inputs, found, strict=True)}, card.prompts.eval)
        self.session.prompt([{"role": "user", "content": text}])
        return text, found

    def ask(self, task: str | None, prompt: str, request: gr.Request) -> Iterator[str]:
        """What was read, the answer as it is written, then label probabilities, and coloured tokens.

        Each piece says what it answers, and which question it was, for the script in the browser.
        """
        head = f'<div data-number="{next(self._numbers)}" data-asked="{html.escape(prompt)}">'
        for piece in self._pieces(task, prompt, request):
            yield f"{head}{piece}</div>"

    def _pieces(self, task: str | None, prompt: str, request: gr.Request) -> Iterator[str]:
        try:
            self._rate.check(request.client.host if request.client else "")
            if not prompt.strip():
                raise UserError("write a prompt first, or choose a task for an example")
            if len(prompt) > self.limits.longest_prompt:
                raise UserError(f"the prompt has {len(prompt):,} letters, more than {self.limits.longest_prompt:,}; shorten it")
            text, wrapped = wrap_sequences(prompt.strip())
            messages = [{"role": "user", "content": text}]
            self.session.prompt(messages)
            notes = said("\n".join(filter(None, [_how(wrapped), *content_remarks(self.session.tokenizer, text)])))
            tokens = panel("Tokens of the prompt", as_html(list(cut(self._tokenizer, as_text(self.session.tokenizer, text)))))
            answer = ""
            for answer in self.session.stream(messages, self.sampling):
                yield notes + answer_panel(answer, running=True) + tokens
            asked = self._known.asked(text)
            try:
                probabilities = self.session.probabilities(messages, asked.labels, asked.reasoned) if asked else {}
                bars = bars_panel(asked, probabilities, self.cards.get(task or ""))
                label = before_reason(answer, asked is not None and asked.reasoned)
                notes += said(contradiction(label, probabilities), "doubt")
            except UserError as error:  # the answer stands all the same
                bars = panel("Label probabilities", said(str(error), "error"))
            yield notes + answer_panel(answer) + bars + tokens
        except UserError as error:
            yield said(str(error), "error") + answer_panel("")


def build(page: Page, name: str, facts: str, card_text: str) -> gr.Blocks:
    """The page as Gradio blocks. `facts`: one line on the model; `card_text`: its model card, Markdown."""
    with gr.Blocks(title=f"{name} – llama-gene", analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        gr.HTML(f"<h1>llama-gene</h1><p>Model <code>{html.escape(name)}</code> · {html.escape(facts)}</p>", elem_id="head")
        number = gr.State(0)
        # left what is asked, right the answer
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                known = [(shorten(f"{card.id}: {card.title}", 62, placeholder="…"), card.id) for card in page.cards.values()]
                task = gr.Dropdown([(FREE, FREE), *known], value=FREE, label="Task", info="A task fills in an example.", elem_id="task")
                box = gr.Textbox(
                    label="Sequence",
                    lines=4,
                    max_lines=8,
                    placeholder="Letters, or FASTA; two records for a pair",
                    max_length=page.limits.longest_prompt,
                    elem_id="sequence",
                )
                with gr.Row():
                    upload = gr.UploadButton("Upload FASTA", size="sm", elem_id="upload")
                    compose = gr.Button("Put into the prompt", size="sm", elem_id="compose")
                    another = gr.Button("Another example", size="sm", elem_id="another")
                read = gr.HTML(elem_id="read")
                prompt = gr.Textbox(
                    label="Prompt",
                    lines=5,
                    max_lines=12,
                    placeholder="Ask in words; sequences stand between tags, <dna>ACGT</dna>. Bare ones are recognised. Ctrl+Enter asks.",
                    max_length=page.limits.longest_prompt,
                    elem_id="prompt",
                )
                with gr.Row():
                    ask = gr.Button("Ask", variant="primary", elem_id="ask")
                    stop = gr.Button("Stop", elem_id="stop")
            with gr.Column(scale=6, min_width=320):
                result = gr.HTML(answer_panel(""), elem_id="result")
        with gr.Accordion("Model card", open=False, elem_id="card"):
            gr.Markdown(card_text)
        # what calls what
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        task.change(lambda chosen: page.example(chosen, 0), task, [box, prompt, read, number], **private)
        another.click(page.example, [task, number], [box, prompt, read, number], **private)
        upload.upload(page.upload, [task, upload], [box, read], **private)
        compose.click(page.compose, [task, box, prompt], [prompt, read], **private)
        asked = ask.click(page.ask, [task, prompt], result, **private)
        # the answer stays as far as it was written, without its cursor
        still = "() => document.querySelectorAll('.answer.running').forEach(answer => answer.classList.remove('running'))"
        stop.click(None, cancels=[asked], js=still, **private)
        prompt.change(None, cancels=[asked], **private)  # its answer is of no use any more, and would hold up the next one
    blocks.queue(max_size=page.limits.waiting, default_concurrency_limit=1, api_open=False)
    return blocks


def said(text: str, kind: str = "note") -> str:
    """A message to the person at the page: note, doubt or error; empty text leaves nothing."""
    role = "alert" if kind == "error" else "status"
    return f'<div class="said {kind}" role="{role}">{html.escape(text)}</div>' if text else ""


def panel(title: str, inside: str) -> str:
    return f'<section class="panel"><h3>{title}</h3>{inside}</section>'


def answer_panel(answer: str, *, running: bool = False) -> str:
    return panel("Answer", f'<div class="answer{" running" if running else ""}">{html.escape(answer)}</div>')


def contradiction(answer: str, probabilities: dict[str, float]) -> str:
    """What to say of an answer that is not the likeliest label; nothing where it is, or there are no labels."""
    if not probabilities:
        return ""
    likeliest = max(probabilities, key=lambda label: probabilities[label])
    read = parse_label(answer, list(probabilities)).value
    if read == likeliest:
        return ""
    what = f"'{read}'" if read is not None else "none of the labels"
    share = f"{100 * probabilities[likeliest]:.1f} %"
    return f"The answer is {what}, but the likeliest label is '{likeliest}' ({share}): they contradict each other."


def bars_panel(asked: Asked | None, probabilities: dict[str, float], chosen: TaskCard | None = None) -> str:
    """Label probabilities as bars, likeliest first."""
    if asked is None:
        why = "No classification card has these words, so there are no labels to compare."
        if chosen is not None and chosen.labels:
            why += f" 'Put into the prompt' writes a sequence in the words of {chosen.id}."
        return panel("Label probabilities", f'<p class="small">{html.escape(why)}</p>')
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    rows = []
    for place, (label, share) in enumerate(ranked[:MOST_BARS]):
        percent = f"{100 * share:.1f}"
        track = f'<div class="track"><div class="fill" style="width: {percent}%"></div></div>'
        name = f'<span class="name">{html.escape(label)}</span>'
        rows.append(f'<div class="bar{"" if place else " best"}">{name}{track}<span class="value">{percent} %</span></div>')
    more = f" {len(ranked) - MOST_BARS} less likely labels are not shown." if len(ranked) > MOST_BARS else ""
    note = f'<p class="small">Likelihoods of the {len(ranked)} labels of {html.escape(str(asked))}, which add up to 100 %.{more}</p>'
    return panel("Label probabilities", "".join(rows) + note)


def _how(found: list[Read]) -> str:
    return "Read " + ", ".join(map(str, found)) + "." if found else ""


def facts_of(session: Session) -> str:
    """One line on the model."""
    parameters = sum(p.numel() for p in session.model.parameters())
    return (
        f"{parameters / 1e6:,.1f} M parameters · {len(session.tokenizer):,} tokens in the vocabulary · context {session.context:,} tokens"
    )
