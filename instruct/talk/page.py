"""The web page of `llama-gene serve`: a prompt, a sequence box, the answer, label probabilities as bars, coloured tokens; whole
tables besides, and what was asked before.

Nothing here trusts what comes from the browser: texts are escaped, files are read as FASTA alone, and sizes are limited.
"""

import base64
import csv
import html
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from textwrap import shorten
from typing import Any

import gradio as gr

from artefacts.errors import UserError
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.parse import before_reason, parse_label
from data_convert.tasks.prompts import render
from instruct.talk.batch import BatchRecipe, Task
from instruct.talk.batch_rows import Rows
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
MOST_ROWS = 500
"""Of one table that is answered on the page; `llama-gene predict` takes any number."""
GROUP = 8
"""Rows between two steps of the bar."""
SHOWN_ROWS = 8
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

        Each piece says what it answers, and which question it was, for the script in the browser; the last one what came out.
        """
        try:
            self._rate.check(_client(request))
        except UserError as error:
            yield self._head(prompt) + said(str(error), "error") + answer_panel("") + "</div>"
        else:
            yield from self._answers(task, prompt)

    def first(self, task: str) -> str:
        """The answer to its first example: what the page shows before anything was asked."""
        *_, last = self._answers(task, self.example(task, 0)[1])
        return last

    def _answers(self, task: str | None, prompt: str) -> Iterator[str]:
        head = self._head(prompt)
        for piece in self._pieces(task, prompt):
            yield f"{head}{piece}</div>"

    def _head(self, prompt: str) -> str:
        return f'<div data-number="{next(self._numbers)}" data-asked="{html.escape(prompt)}">'

    def table(self, task: str | None, path: str | None, request: gr.Request) -> Iterator[str]:
        """Answers for the rows of a table or FASTA file: a bar as they come, then the first ones, and all as a CSV file."""
        if path is None:
            return
        file = Path(path)
        try:
            self._rate.check(_client(request))
            card = self.cards.get(task or "")
            if card is None:
                raise UserError("choose a task first: its card says which columns hold the sequences")
            rows = Rows(card, [file], None)
            given = {"model": self.session.folder, "task": card.id, "files": [file], "out": file.with_suffix(".answers.csv")}
            recipe = BatchRecipe.model_validate(given)
            work = Task(card, recipe, rows.two_ids, self.session)
            samples = list(islice(work.fitting(rows), MOST_ROWS + 1))
            if len(samples) > MOST_ROWS:
                raise UserError(f"{file.name}: more than {MOST_ROWS} rows; `llama-gene predict` takes them all")
            lines: list[list[Any]] = []
            while len(lines) < len(samples):
                yield progress_panel(len(lines), len(samples))
                lines += work.predict(samples[len(lines) : len(lines) + GROUP])
            said_aside = "".join(said(f"set aside: {': '.join(row)}".replace(str(file), file.name), "doubt") for row in rows.rejected)
            yield table_panel(file.stem, work.header, lines) + said_aside
        except UserError as error:
            yield said(str(error).replace(str(file), file.name), "error")
        finally:
            file.unlink(missing_ok=True)

    def _pieces(self, task: str | None, prompt: str) -> Iterator[str]:
        try:
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
                probabilities = {}
                bars = panel("Label probabilities", said(str(error), "error"))
            own = self.examples.own(prompt)
            yield notes + judged(answer, probabilities, own) + answer_panel(answer) + bars + tokens
        except UserError as error:
            yield said(str(error), "error") + answer_panel("")


def build(page: Page, name: str, facts: str, card_text: str) -> gr.Blocks:
    """The page as Gradio blocks. `facts`: one line on the model; `card_text`: its model card, Markdown."""
    with gr.Blocks(title=f"{name} – llama-gene", analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        gr.HTML(f"<h1>llama-gene</h1><p>Model <code>{html.escape(name)}</code> · {html.escape(facts)}</p>", elem_id="head")
        first = next(iter(page.cards), FREE)
        start = page.example(first, 0)
        number = gr.State(start[3])
        # left what is asked, right the answer
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                known = [(shorten(f"{card.id}: {card.title}", 62, placeholder="…"), card.id) for card in page.cards.values()]
                task = gr.Dropdown([(FREE, FREE), *known], value=first, label="Task", info="A task fills in an example.", elem_id="task")
                box = gr.Textbox(
                    start[0],
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
                read = gr.HTML(start[2], elem_id="read")
                prompt = gr.Textbox(
                    start[1],
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
                result = gr.HTML(page.first(first) if start[1] else answer_panel(""), elem_id="result")
        gr.HTML('<section class="panel"><h3>Asked so far</h3><div id="asked"></div></section>', elem_id="history")
        with gr.Accordion("A whole table", open=False, elem_id="table"):
            gr.HTML(
                f'<p class="small">CSV, TSV or FASTA, up to {MOST_ROWS} rows, in the form that <code>llama-gene predict</code> takes: '
                "sequences in the column <code>sequence</code> or <code>seq</code>, of pairs <code>seq_a</code> and <code>seq_b</code>. "
                "The task above is asked of each row.</p>"
            )
            rows = gr.UploadButton("Upload a table", size="sm", elem_id="rows")
            answers = gr.HTML(elem_id="answers")
        with gr.Accordion("Questions that the model knows", open=False, elem_id="forms"):
            gr.HTML(forms(list(page.cards.values())))
        with gr.Accordion("Model card", open=False, elem_id="card"):
            gr.Markdown(card_text)
        # what calls what
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        task.change(lambda chosen: page.example(chosen, 0), task, [box, prompt, read, number], **private)
        another.click(page.example, [task, number], [box, prompt, read, number], **private)
        upload.upload(page.upload, [task, upload], [box, read], **private)
        compose.click(page.compose, [task, box, prompt], [prompt, read], **private)
        asked = ask.click(page.ask, [task, prompt], result, concurrency_id="model", **private)
        rows.upload(page.table, [task, rows], answers, concurrency_id="model", **private)
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


def judged(answer: str, probabilities: dict[str, float], own: str | None) -> str:
    """What came out, for the list of what was asked; beside a held-out record's own answer, whether that is right.

    The likeliest label counts where there are labels, as in evaluation; else what was written.
    """
    found = max(probabilities, key=lambda label: probabilities[label]) if probabilities else answer.strip()
    right = "" if own is None else "right" if found == own.strip() else "wrong"
    share = f"{100 * probabilities[found]:.1f} %" if probabilities else ""
    facts = {"answer": answer, "label": found if probabilities else "", "share": share, "own": own or "", "judged": right}
    data = "".join(f' data-{name}="{html.escape(value)}"' for name, value in facts.items())
    what = "The likeliest label" if probabilities else "The answer"
    shown = said(f"{what} is {right}: the record's own answer is {own}.", right) if right else ""
    return f'<div class="outcome"{data}>{shown}</div>'


def progress_panel(done: int, total: int) -> str:
    return f'<progress value="{done}" max="{total}"></progress> <span class="small">{done} of {total} rows</span>'


def table_panel(name: str, header: list[str], lines: list[list[Any]]) -> str:
    """The first rows, and a link that holds all of them: no file is left on the server."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    href = f"data:text/csv;base64,{base64.b64encode(text.getvalue().encode()).decode()}"
    link = f'<a class="download" download="{html.escape(name)}-answers.csv" href="{href}">Download {len(lines)} rows as CSV</a>'
    cells = ["".join(f"<td>{html.escape(shorten(str(cell), 40, placeholder='…'))}</td>" for cell in line) for line in lines[:SHOWN_ROWS]]
    heads = "".join(f"<th>{html.escape(column)}</th>" for column in header)
    rows = "".join(f"<tr>{cell}</tr>" for cell in cells)
    return f'{link}<div class="scroll"><table><tr>{heads}</tr>{rows}</table></div>'


def forms(cards: list[TaskCard]) -> str:
    """The wordings of the cards, as they were trained; the last of each is the one of evaluation."""
    blocks = []
    for card in cards:
        words = "".join(f"<li>{html.escape(wording)}</li>" for wording in [*card.prompts.train, card.prompts.eval])
        answers = f'<p class="small">Answers: {html.escape(", ".join(card.choices[:MOST_BARS]))}</p>' if card.labels else ""
        blocks.append(f"<h4>{html.escape(card.id)}: {html.escape(card.title)}</h4><ul>{words}</ul>{answers}")
    return "".join(blocks) or '<p class="small">No task card was given.</p>'


def _client(request: gr.Request) -> str:
    return request.client.host if request.client else ""


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
