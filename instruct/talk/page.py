"""The web page of `llama-gene serve`: a prompt, a sequence box, the answer, label probabilities as bars, coloured tokens; whole
tables besides, and what was asked before.

Nothing here trusts what comes from the browser: texts are escaped, files are read as FASTA or tables alone, and sizes are limited.
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

from artefacts.errors import Ledger, UserError, counted
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.kinds import KINDS
from data_convert.tasks.parse import before_reason, parse_label
from data_convert.tasks.prompts import fill, render
from data_convert.tasks.records import answer_of
from instruct.talk.batch import BatchRecipe, Task
from instruct.talk.batch_rows import Rows, Sample
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


@dataclass(frozen=True, slots=True)
class Batch:
    """A table that was read and waits for the model."""

    name: str
    work: Task
    samples: list[tuple[Sample, dict[str, Any]]]
    counts: str
    """What was read and set aside, as the browser shows it."""


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
            _refuse_packed(file)
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

    def read_table(self, task: str | None, path: str | None, request: gr.Request) -> tuple[Batch | None, str]:
        """The rows of a table or FASTA file for `answer_table`, and what the browser shows until it is their turn."""
        if path is None:
            return None, ""
        file = Path(path)
        try:
            self._rate.check(_client(request))
            _refuse_packed(file)
            card = self.cards.get(task or "")
            if card is None:
                raise UserError("choose a task first: its card says which columns hold the sequences")
            rows = Rows(card, [file], None)
            given = {"model": self.session.folder, "task": card.id, "files": [file], "out": file.with_suffix(".answers.csv")}
            work = Task(card, BatchRecipe.model_validate(given), rows.two_ids, self.session)
            samples = list(islice(work.fitting(rows), MOST_ROWS + 1))
            if len(samples) > MOST_ROWS:
                raise UserError(f"{file.name}: more than {MOST_ROWS} rows; `llama-gene predict` takes them all")
            rows.ledger.close(file, Ledger(), "row")
        except UserError as error:
            return None, said(str(error).replace(str(file), file.name), "error")
        finally:
            file.unlink(missing_ok=True)
        aside = [": ".join(row).replace(str(file), file.name) for row in rows.rejected[:SHOWN_ROWS]]
        counts = said("\n".join([counted(rows.ledger.as_dict()), *aside]), "doubt" if aside else "note")
        return Batch(file.stem, work, samples, counts), progress_panel(0, len(samples))

    def answer_table(self, batch: Batch | None) -> Iterator[Any]:
        """A bar as the rows are answered, then the first of them, and all as a CSV file."""
        if batch is None:
            yield gr.skip()
            return
        lines: list[list[Any]] = []
        while len(lines) < len(batch.samples):
            yield progress_panel(len(lines), len(batch.samples))
            lines += batch.work.predict(batch.samples[len(lines) : len(lines) + GROUP])
        yield table_panel(batch.name, batch.work.header, lines) + batch.counts

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
            yield notes + judged(answer, probabilities, self.examples.record(prompt)) + answer_panel(answer) + bars + tokens
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
            answers, batch = gr.HTML(elem_id="answers"), gr.State()
        with gr.Accordion("Questions that the model knows", open=False, elem_id="forms"):
            gr.HTML(forms(list(page.cards.values())))
        with gr.Accordion("Model card", open=False, elem_id="card"):
            gr.Markdown(card_text)
        # what calls what
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        task.select(lambda chosen: page.example(chosen, 0), task, [box, prompt, read, number], **private)
        another.click(page.example, [task, number], [box, prompt, read, number], **private)
        upload.upload(page.upload, [task, upload], [box, read], **private)
        compose.click(page.compose, [task, box, prompt], [prompt, read], **private)
        asked = ask.click(page.ask, [task, prompt], result, concurrency_id="model", **private)
        read_rows = rows.upload(page.read_table, [task, rows], [batch, answers], **private)
        read_rows.then(page.answer_table, batch, answers, concurrency_id="model", **private)
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


def judged(answer: str, probabilities: dict[str, float], record: dict[str, Any] | None) -> str:
    """What came out, for the list of what was asked; beside a held-out record's own answer, whether that is right.

    Of labels the likeliest counts, as in evaluation, or else the one that was written. Numbers and texts are near or far.
    """
    likeliest = max(probabilities, key=lambda label: probabilities[label], default="")
    own, right, shown = "", "", ""
    if record is not None:
        own = answer_of(record)
        shown = said(f"The record's own answer is: {own}")
        if KINDS[record["kind"]].one_label:
            found = likeliest or parse_label(before_reason(answer, "reason" in record), [own]).value
            right = "right" if found == own else "wrong"
            what = "The likeliest label" if probabilities else "The answer"
            shown = said(f"{what} is {right}: the record's own answer is {own}.", right)
    share = f"{100 * probabilities[likeliest]:.1f} %" if probabilities else ""
    facts = {"answer": answer, "label": likeliest, "share": share, "own": own, "judged": right}
    data = "".join(f' data-{name}="{html.escape(value)}"' for name, value in facts.items())
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
        fields = dict.fromkeys(card.besides, "…") | {item.name: f"<{item.modality}>…</{item.modality}>" for item in card.inputs}
        asked = [fill(wording, fields, card.choices[:MOST_BARS]) for wording in [*card.prompts.train, card.prompts.eval]]
        words = "".join(f"<li>{html.escape(wording)}</li>" for wording in asked)
        blocks.append(f"<h4>{html.escape(card.id)}: {html.escape(card.title)}</h4><ul>{words}</ul>")
    return "".join(blocks) or '<p class="small">No task card was given.</p>'


def _refuse_packed(file: Path) -> None:
    """A small file could hold much more than was allowed to be sent."""
    with file.open("rb") as handle:
        if handle.read(2) == GZIP:
            raise UserError(f"{file}: compressed; unpack it first")


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
