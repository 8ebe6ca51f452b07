"""Task cards: what a benchmark is, as data. Adding a benchmark means adding a card under configs/tasks, not code.

Not supported: answers per letter, inputs that are neither sequences nor texts.
"""

from __future__ import annotations

import difflib
import fnmatch
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, field_validator, model_validator

from artefacts.errors import UserError
from artefacts.folder import read_json
from artefacts.recipe import Recipe, load
from configs import CONFIGS
from data_convert.tasks.card_fields import DataSource, Files, Grid, Input, Label, Prompts, Published
from data_convert.tasks.kinds import KINDS, AnswerKind, known_kind
from sequences.uniprot_tsv import COLUMNS

TASKS = CONFIGS / "tasks"
Patterns = str | list[str]


class TaskCard(Recipe):
    """One task: files, inputs, what the labels mean and how that is known, prompts, metrics, published figures, traps."""

    id: str
    """Path below configs/tasks, without .yaml."""
    version: int
    """Raised when data, prompts or scoring change, so that figures are compared only where they are comparable."""
    title: str
    simulated: bool
    source: DataSource
    format: Literal["csv", "tsv", "fasta", "json", "uniprot", "dataset", "text", "chat"]
    """csv, tsv: a header row, columns by name. fasta: the header line is the label, or holds fields. json: JSON lines, or one
    array, of objects; `a.b` and `a.0` are columns of what is nested. uniprot: flat file, XML or TSV. dataset: parquet, Arrow, a folder
    of `datasets.save_to_disk`, a dataset of the Hub; csv, tsv and json cards read those too. text: each file is one row, column `text`.
    chat: conversations in the layouts of ShareGPT, Alpaca or OpenAI (chats.py), JSON or dataset; columns `question` and `answer`."""
    columns: list[str] = Field(default_factory=list)
    """csv, tsv: names that the header must begin with, by position (`label|label_index`: either), or the names where there is
    no header row. fasta: names of the fields of the header line. json, dataset: names of columns, none of them needed here."""
    header: bool = True
    """csv, tsv: whether there is a header row."""
    separator: str = "|"
    """fasta with `columns`: what stands between the fields of the header line."""
    where: dict[str, Patterns] = Field(default_factory=dict)
    """column -> patterns, any of which fits (`Determine promoter*`), but none that begins with `!`; other rows of the file belong to
    other tasks and are left out, and so are files whose fields do not fit."""
    split_where: dict[Literal["train", "dev", "test"], dict[str, Patterns]] = Field(default_factory=dict)
    """The same for one split, where a column of one file says which rows are whose: `{test: {chrom: chr8}, train: {chrom: "!chr8"}}`."""
    task_per: str | None = None
    """A `{field}` of the files' pattern: each of its values is a task of its own, called `<id>/<value>`."""
    row_id: list[str] = Field(default_factory=list)
    """Columns that name a row; a name met twice is set aside. Without any: the column `id` where there is one, else the line."""
    files: Files
    test_share: float = Field(0.0, ge=0, lt=1)
    """Share of train that becomes test where there is no test file."""
    split_note: str
    """Which split this is; shown in the report."""
    inputs: list[Input] = Field(default_factory=list)
    """Sequences of a row; none where the question is text alone."""
    texts: list[str] = Field(default_factory=list)
    """Columns whose text the prompts show, by `{column}`."""
    options: list[str] = Field(default_factory=list)
    """Columns of a row's own choices, texts or lists of texts, one of them what the label's column says. Prompts show them by
    `{options}` in an order drawn for each row, `A) ...`; the labels are their letters."""
    label: str | None = None
    """Column of the label."""
    label_key: str | None = None
    """Where the label's column holds a JSON object, the key whose value is the label; rows without it are left out."""
    kind: Annotated[str, AfterValidator(known_kind), Field(json_schema_extra={"enum": list(KINDS)})]
    """What answers are: one of the classes of kinds.py."""
    classes: int | None = Field(None, ge=2)
    """How many classes there are, where they are known by number alone: stands for the labels `class 0`, `class 1`, ..."""
    labels: dict[str, Label] = Field(default_factory=dict)
    """Classification, multilabel: value in the file, or name in the label file -> class, in the order in which evaluation lists
    them."""
    label_file: str | None = None
    """`label.txt` of LucaOne below the source folder: the names behind class indices (labels.py)."""
    label_evidence: str
    """How the meaning of the labels is known."""
    answer_then_reason: str | None = None
    """What follows the answer on a line of its own, for people: a template of columns of the row, `{answer}`, and `{meaning}`, what
    its label means. Scores are of the answer alone; rows without such a text are left out."""
    earlier: list[str] = Field(default_factory=list)
    """Turns before the prompt, the user's and the assistant's by turns, as templates like the prompts."""
    list_choices: bool = True
    """Whether prompts list the labels. Where they do not, records carry no choices either; cards.json does."""
    grid: Grid | None = None
    prompts: Prompts
    metrics: list[str] = Field(min_length=1)
    primary_metric: str
    published: list[Published] = Field(default_factory=list)
    traps: list[str] = Field(default_factory=list)
    max_letters: int = Field(ge=1)
    """Longest input; what happens to longer ones says `crop`."""
    crop: Literal["centre", "start", "end", "column", "refuse"]
    """The part that is kept; column: the window around the position in `crop_column`. The answer is never cut."""
    crop_column: str | None = None
    """Column of a 0-based position."""
    strand_symmetric: bool = False
    """The answer is the same for the reverse complement."""
    symmetric: bool = False
    """Two inputs: (A, B) and (B, A) are the same input. They never stand on two sides of a split that is made here."""
    n: dict[str, int] = Field(default_factory=dict)
    """Rows per split; filled in by `convert` in the cards.json beside the records, never in a card."""

    @property
    def answers(self) -> AnswerKind:
        """What is said of all answers of the card's kind."""
        return KINDS[self.kind]

    @property
    def choices(self) -> list[str]:
        """All labels in the card's order, the grid of a regression task, none for texts and sets.

        One of them is the answer, but for multilabel tasks: there the answer is any number of them.
        """
        return self.answers.choices(self)

    @property
    def besides(self) -> list[str]:
        """What prompts show besides the inputs: a row's own text and options, earlier turns."""
        return [*self.texts, *self.options, *self.earlier]

    @property
    def reasons(self) -> list[str]:
        """Columns that `answer_then_reason` shows."""
        fields = self._fields(self.answer_then_reason or "")
        return [field for field in dict.fromkeys(fields) if field not in ("answer", "meaning")]

    @field_validator("labels", mode="before")
    @classmethod
    def _text_keys(cls, labels: Any) -> Any:
        return {str(value): label for value, label in labels.items()} if isinstance(labels, dict) else labels

    @model_validator(mode="before")
    @classmethod
    def _numbered(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("classes"), int) and not values.get("labels"):
            numbered = range(values["classes"])
            return {**values, "labels": {str(code): {"name": f"class {code}", "meaning": "not published"} for code in numbered}}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> TaskCard:
        self.answers.check(self)
        self._check_layout()
        known = self.answers.metrics
        for metric in [*self.metrics, *(figure.metric for figure in self.published)]:
            if metric not in known:
                close = difflib.get_close_matches(metric, known, n=1, cutoff=0.0)[0]
                raise ValueError(f"metric '{metric}' is not known for {self.kind} tasks; did you mean '{close}'? Known: {', '.join(known)}")
        if self.primary_metric not in self.metrics:
            raise ValueError(f"primary_metric '{self.primary_metric}' is not among the metrics ({', '.join(self.metrics)})")
        if self.prompts.eval in self.prompts.train and not self.texts:
            raise ValueError("prompts.eval is one of prompts.train; evaluation asks in words that training has not seen")
        for template in [*self.prompts.train, self.prompts.eval]:
            self._check_template("".join([*self.earlier, template]))
        if len(self.earlier) % 2:
            raise ValueError("earlier: a question and its answer by turns, so an even number of them")
        if self.answer_then_reason is not None:
            self._check_reason(self.answer_then_reason)
        if self.strand_symmetric and any(item.modality != "dna" for item in self.inputs):
            raise ValueError("strand_symmetric is for tasks whose inputs are all dna")
        if self.symmetric and (len(self.inputs) != 2 or self.inputs[0].modality != self.inputs[1].modality):
            raise ValueError("symmetric is for tasks with two inputs of the same modality")
        return self

    def _check_layout(self) -> None:
        inputs = [item.name for item in self.inputs]
        shown = [*inputs, *self.texts]
        if len(set(shown)) < len(shown) or {"choices", "options"} & set(shown):
            raise ValueError("inputs and texts need different names, none of them 'choices' or 'options'")
        if not shown:
            raise ValueError("inputs: name the sequences of a row, or in texts the columns that the prompts show")
        if self.options and (not self.answers.one_label or self.list_choices or self.label is None):
            raise ValueError("options are for classification with a label column, list_choices: false, and labels A, B, C, ...")
        named = [file for file in self.files.model_dump().values() if file is not None]
        shared = [split for split, file in self.files.model_dump().items() if named.count(file) > 1]
        if self.split_where and (unsaid := [split for split in shared if split not in self.split_where]):
            raise ValueError(f"files: {' and '.join(shared)} are one file; say in split_where which rows are {unsaid[0]}")
        if self.task_per is not None and not any(f"{{{self.task_per}}}" in file for file in named):
            raise ValueError(f"task_per: no file has a field '{{{self.task_per}}}'")
        if self.format == "chat" and (self.texts != ["question"] or self.label != "answer" or inputs or self.options):
            raise ValueError("a chat task has texts: [question] and label: answer, and neither inputs nor options")
        if self.format == "fasta":
            if len(inputs) != 1 or bool(self.label) != bool(self.columns):
                raise ValueError("a fasta task has one input, and its header line is the label (no 'label' key), or has named columns")
        elif not self.label:
            raise ValueError("label: name the column that holds the label")
        if self.format == "uniprot" and not {self.label, *self.texts, *self.reasons} - {"name"} <= COLUMNS.keys():
            raise ValueError(f"label: a uniprot card asks for one of {', '.join(COLUMNS)}, and shows those and name")
        if self.format in ("csv", "tsv") and not self.header and not self.columns:
            raise ValueError("columns: a file without a header row needs the names of its columns")
        if (self.crop == "column") != (self.crop_column is not None):
            raise ValueError("crop: column and crop_column (a column of 0-based positions) go together")

    def _check_reason(self, template: str) -> None:
        fields = self._fields(template)
        if self.format == "chat" or not fields or ("meaning" in fields and not self.answers.one_label):
            raise ValueError("answer_then_reason: shows columns of the row, {answer}, or of classes {meaning}; chats have none")

    def _check_template(self, template: str) -> None:
        inputs = [*(item.name for item in self.inputs), *self.texts, *(["options"] if self.options else [])]
        allowed = [*inputs, "choices"] if self.list_choices and self.answers.labelled else inputs
        fields = self._fields(template)
        for field in fields:
            if field not in allowed:
                raise ValueError(f"prompt '{template}': unknown field '{{{field}}}'; known here: {', '.join(allowed)}")
        if absent := [name for name in inputs if name not in fields]:
            raise ValueError(f"prompt '{template}': never shows {', '.join(f'{{{name}}}' for name in absent)}")

    @staticmethod
    def _fields(template: str) -> list[str]:
        try:
            parsed = [part for part in string.Formatter().parse(template) if part[1] is not None]
        except ValueError as error:
            raise ValueError(f"prompt '{template}': {error}; write a literal brace twice") from None
        if any(form or conversion for _, _, form, conversion in parsed):
            raise ValueError(f"prompt '{template}': fields are plain names, without ':' or '!'")
        return [str(field) for _, field, _, _ in parsed]


def load_card(path_or_id: str | Path) -> TaskCard:
    """Read a card by path (`x/y/sim/promoter.yaml`) or by id (`sim/promoter`).

    Raises:
        UserError: no such card (the nearest id is named), a mistake in it, or an id that is not its path.
    """
    path = Path(path_or_id)
    if path.suffix != ".yaml":
        path = TASKS / f"{path_or_id}.yaml"
        if not path.is_file():
            known = _known_ids()
            close = difflib.get_close_matches(str(path_or_id), known, n=1, cutoff=0.5)
            raise UserError(
                f"task '{path_or_id}': no such card; " + (f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}")
            )
    card = load(TaskCard, path)
    stem = path.resolve().with_suffix("")
    if card.n:
        raise UserError(f"{path}: 'n' is counted by the conversion; remove it from the card")
    if stem.parts[-len(Path(card.id).parts) :] != Path(card.id).parts or (stem.is_relative_to(TASKS) and stem != TASKS / card.id):
        raise UserError(f"{path}: its id '{card.id}' is not its path; rename the file or write the id as the path below configs/tasks")
    return card


def find_cards(patterns: Sequence[str]) -> list[TaskCard]:
    """Cards whose ids match any of the patterns (`gue/*`), each once, sorted by id.

    Raises:
        UserError: a pattern that matches nothing, or a mistake in a card.
    """
    known = _known_ids()
    found: set[str] = set()
    for pattern in patterns:
        matches = fnmatch.filter(known, pattern)
        if not matches:
            raise UserError(f"task pattern '{pattern}' matches no card; known: {', '.join(known)}")
        found.update(matches)
    return [load_card(name) for name in sorted(found)]


def read_cards(folder: str | Path) -> list[TaskCard]:
    """The resolved cards (effective files, split note, rows per split) beside a folder of records.

    Raises:
        UserError: no cards.json, or one of another version of the card format.
    """
    path = Path(folder) / "cards.json"
    if not path.is_file():
        raise UserError(f"{folder}: no cards.json, so these are no converted tasks; run `llama-gene convert tasks` first")
    try:
        return TypeAdapter(list[TaskCard]).validate_python(read_json(path, "convert the tasks again", list))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}; convert the tasks again") from None


def _known_ids() -> list[str]:
    return sorted(path.relative_to(TASKS).with_suffix("").as_posix() for path in TASKS.rglob("*.yaml"))
