"""The kinds of answers: whatever tells one kind from another is said here, a class each.

What comes in: a task card, a cell of a table, what a model wrote, log-likelihoods of the choices, or a head's output row.
What goes out: choices, labels, answers in words, predictions. To add a kind, write a class and put it into `KINDS`; cards,
records, prompts, evaluation, baselines and batch prediction ask the class and never its name. What is beyond plain Python
is named by a word: each metric is computed in eval/judge/answers.py, each loss in eval/baselines/heads/losses.py.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from data_convert.tasks.card_fields import ITEM_SEPARATOR, NO_ITEM
from data_convert.tasks.parse import Parsed, parse_items, parse_label, parse_number, parse_text

if TYPE_CHECKING:
    from data_convert.tasks.cards import TaskCard

Read = tuple[str | float | list[str], str, bool]
"""What a label cell says: the record's label, its answer in words, and whether the value lay beyond the grid."""

EC_METRICS = ("ec_f1_1", "ec_f1_2", "ec_f1_3", "ec_f1_4")
"""Micro-F1 of EC numbers by their first digits; of sets that hold nothing else."""
LOWER_IS_BETTER = ("mae", "ece", "brier")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
INDEX_LIST = re.compile(r"\[\s*(?:(\d+(?:\s*,\s*\d+)*)\s*,?)?\s*\]")
"""`[3,17]`, as LucaOne writes several labels of one row."""


class Rejected(Exception):
    """A row to be set aside: its reason, a detail, and whether it is left out on purpose."""

    def __init__(self, reason: str, detail: str = "", *, on_purpose: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.on_purpose = reason, detail, on_purpose


@dataclass(frozen=True)
class TableForm:
    """How a table shows predictions."""

    names: Sequence[str]
    threshold: float
    topk: int
    shown: Callable[[Any], Any]
    """How a figure is written."""


class AnswerKind:
    """What all kinds have; as it stands, the answer is a text in free words."""

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    """All that are computed; a report leads with those that the card names."""
    primary: ClassVar[str]
    """Leads where no card names one; baselines choose their settings by it."""
    by_length: ClassVar[str]
    """The metric that a quarter of the records can bear."""

    labelled: ClassVar[bool] = False
    """The card names the labels: prompts may list them, and a control may exchange their names."""
    one_label: ClassVar[bool] = False
    """The answer is one of those labels, so records have classes: to count, to balance, to confuse."""
    two_labels: ClassVar[bool] = False
    """Exactly two, the second being the positive one."""
    number: ClassVar[bool] = False
    """The answer is a number, asked for as a point of the card's grid."""
    several: ClassVar[bool] = False
    """The answer is a list of items, each right or wrong, and each may have a score."""
    in_words: ClassVar[bool] = False
    """Free words, which may span lines of a table."""
    ranked: ClassVar[bool] = False
    """The answer is one of the choices, so that the likelihoods of all of them say which. The others are written greedily."""

    loss: ClassVar[str | None] = None
    """Of a head on embeddings; None: heads have no such answers."""
    weights: ClassVar[str | None] = None
    """The option of that loss that weights its classes."""
    head_metrics: ClassVar[tuple[str, ...]] = ()
    """Those that may choose a head's epoch."""
    why_no_head: ClassVar[str | None] = None
    """Why the baseline of LucaOne's heads leaves such tasks out."""

    # Cards

    def check(self, card: TaskCard) -> None:
        """Raise ValueError for fields that the card lacks, or has and should not have."""
        names = [label.name for label in card.labels.values()]
        if self.labelled and (names or card.label_file is None):
            if len(names) < 2 or (self.two_labels and len(names) > 2):
                raise ValueError(f"a {self.name} task needs {'exactly' if self.two_labels else 'at least'} two labels; found {len(names)}")
        elif not self.labelled and (names or card.label_file):
            raise ValueError(f"labels are for classification and multilabel tasks, not for {self.name}")
        if len({name.casefold().removesuffix(".") for name in names}) < len(names):
            raise ValueError("two labels have the same name, or names that differ in case only")
        if (card.grid is not None) != self.number:
            raise ValueError(f"a {self.name} task needs a grid (low, high, step)" if self.number else f"a grid is not for {self.name}")
        if not card.list_choices and not self.labelled:
            raise ValueError(f"list_choices is for classification and multilabel tasks, not for {self.name}")

    def choices(self, card: TaskCard) -> list[str]:
        """All labels in the card's order, the grid of a number, none for free words."""
        return [label.name for label in card.labels.values()]

    def read(self, card: TaskCard, raw: Any) -> Read:
        """A label cell of a table, or a list where the file has one. Raises Rejected: empty, unknown, or of another kind."""
        return self._read(card, _cell(raw))

    def _read(self, card: TaskCard, value: str) -> Read:
        return value, value, False

    # Records

    def fits(self, label: Any) -> bool:
        """Whether a record of this kind can have such a label."""
        return is_text(label)

    def problem(self, label: Any, choices: list[str], answer: str) -> str | None:
        """What is wrong with a record's label and the answer that is trained, or None."""
        if not self.fits(label):
            return f"its label is not what {self.name} tasks have"
        return f"its answer '{answer}' is not one of its choices" if choices and answer not in choices else None

    # Predictions

    def asked(self, choices: Sequence[str]) -> Sequence[str]:
        """The choices whose likelihoods are asked for."""
        return choices if self.ranked else []

    def parse(self, text: str, choices: Sequence[str]) -> Parsed:
        """What a written answer says."""
        return parse_text(text)

    def predicted(self, text: str | None, parsed: Parsed | None, logprobs: Sequence[float] | None, choices: Sequence[str]) -> Any:
        """The prediction that is scored: by likelihood where there are any, else what was read from the text."""
        if logprobs is None:
            return parsed.value if parsed else None
        return choices[max(range(len(logprobs)), key=logprobs.__getitem__)]

    def typical(self, labels: Sequence[Any]) -> Any:
        """The one answer for all of these records: the most frequent; of equals the first."""
        first = {json.dumps(label): label for label in reversed(labels)}
        return first[Counter(map(json.dumps, labels)).most_common(1)[0][0]]

    # Heads, and tables of predictions in LucaOne's form

    def code(self, label: Any, codes: dict[str, int]) -> Any:
        """A record's label as a head is trained on it."""
        return codes[label]

    def label(self, code: Any, names: Sequence[str]) -> Any:
        """The reverse of `code`."""
        return names[code]

    def read_code(self, text: str, names: Sequence[str], by_name: bool) -> Any:
        """A label cell of LucaOne's files as a code: an index or, where `by_name` or no such index, a name. Raises ValueError."""
        index, name = class_index(text, names), names.index(text) if text in names else None
        found = name if by_name or index is None else index
        if found is None:
            raise ValueError(f"label '{text}' is none of the {len(names)} classes (0 to {len(names) - 1}, or a name of label.txt)")
        return found

    def columns(self, topk: int) -> list[str]:
        """Header of what `cells` gives."""
        return ["prob", "label"]

    def cells(self, row_C: Sequence[float], form: TableForm) -> list[Any]:
        """A prediction as a table has it; `row_C`: probability of each class (of two, the second's may stand alone), or the number."""
        raise NotImplementedError


class Binary(AnswerKind):
    name, metrics = "binary", ("accuracy", "balanced_accuracy", "mcc", "macro_f1", "auroc", "auprc", "ece", "brier")
    primary, by_length = "mcc", "accuracy"
    labelled = one_label = two_labels = ranked = True
    loss, weights, head_metrics = "sigmoid", "pos_weight", ("accuracy", "macro_f1", "mcc", "auroc")

    def _read(self, card: TaskCard, value: str) -> Read:
        if value not in card.labels:
            raise _unknown(value, card)
        return card.labels[value].name, card.labels[value].name, False

    def problem(self, label: Any, choices: list[str], answer: str) -> str | None:
        wrong = super().problem(label, choices, answer)
        return wrong or (None if label == answer else f"its answer '{answer}' is trained, and its label '{label}' would be scored")

    def parse(self, text: str, choices: Sequence[str]) -> Parsed:
        return parse_label(text, choices)

    def cells(self, row_C: Sequence[float], form: TableForm) -> list[Any]:
        return [form.shown(row_C[-1]), form.names[int(row_C[-1] >= form.threshold)]]


class Multiclass(Binary):
    name, two_labels = "multiclass", False
    loss, weights = "softmax", "class_weights"

    def columns(self, topk: int) -> list[str]:
        listed = ["top1_prob", "top1_label", f"top{topk}_probs", f"top{topk}_labels"]
        return listed if topk > 1 else super().columns(topk)

    def cells(self, row_C: Sequence[float], form: TableForm) -> list[Any]:
        order = sorted(range(len(row_C)), key=lambda place: -row_C[place])[: form.topk]
        best = [form.shown(row_C[order[0]]), form.names[order[0]]]
        if form.topk == 1:
            return best
        # lists as LucaOne's script writes them
        return [*best, [float(form.shown(row_C[place])) for place in order], [form.names[place] for place in order]]


class Regression(AnswerKind):
    name, metrics = "regression", ("spearman", "pearson", "mae")
    primary, by_length = "spearman", "mae"
    number = ranked = True
    loss, head_metrics = "value", ("spearman", "pearson")

    def choices(self, card: TaskCard) -> list[str]:
        return [] if card.grid is None else card.grid.points()

    def _read(self, card: TaskCard, value: str) -> Read:
        assert card.grid is not None, "the card's own check"
        try:
            number = read_number(value)
            half = card.grid.step / 2
            return number, card.grid.nearest(number), not card.grid.low - half <= number <= card.grid.high + half
        except ValueError:  # UserError, for a value that is not finite, is one
            raise Rejected("label is no finite number", f"'{value[:60]}'") from None

    def fits(self, label: Any) -> bool:
        try:
            return not isinstance(label, bool) and math.isfinite(float(label))  # as text too
        except (TypeError, ValueError, OverflowError):
            return False

    def parse(self, text: str, choices: Sequence[str]) -> Parsed:
        return parse_number(text)

    def predicted(self, text: str | None, parsed: Parsed | None, logprobs: Sequence[float] | None, choices: Sequence[str]) -> Any:
        """The expectation over the grid."""
        if logprobs is None:
            return super().predicted(text, parsed, logprobs, choices)
        import torch

        shares, points = (torch.tensor(list(map(float, row)), dtype=torch.float64) for row in (logprobs, choices))
        return float((shares.softmax(0) * points).sum())

    def typical(self, labels: Sequence[Any]) -> Any:
        import numpy as np

        return float(np.mean(labels))

    def code(self, label: Any, codes: dict[str, int]) -> Any:
        return float(label)

    def label(self, code: Any, names: Sequence[str]) -> Any:
        return code

    def read_code(self, text: str, names: Sequence[str], by_name: bool) -> Any:
        return read_number(text)

    def cells(self, row_C: Sequence[float], form: TableForm) -> list[Any]:
        return [form.shown(float(row_C[0]))] * 2


class Text(AnswerKind):
    name, metrics = "text", ("exact_match", "rouge_l", "bleu", "token_f1", "entity_f1")
    primary = by_length = "rouge_l"
    in_words, why_no_head = True, "it gives no text"

    def predicted(self, text: str | None, parsed: Parsed | None, logprobs: Sequence[float] | None, choices: Sequence[str]) -> Any:
        return text


class Items(AnswerKind):
    """A set of items that nobody lists: terms, keywords, EC numbers."""

    name, metrics = "set", ("set_match", "micro_f1", "fmax", *EC_METRICS)
    primary = by_length = "micro_f1"
    several = in_words = True
    why_no_head = "it gives one label, not a set"

    def read(self, card: TaskCard, raw: Any) -> Read:
        items = raw if isinstance(raw, list) else str(raw).split(ITEM_SEPARATOR.strip())
        items = list(dict.fromkeys(stripped for item in items if (stripped := str(item).replace(";", ",").strip())))
        if not items:
            raise Rejected("no label")
        return items, ITEM_SEPARATOR.join(items), False

    def fits(self, label: Any) -> bool:
        return are_texts(label)

    def parse(self, text: str, choices: Sequence[str]) -> Parsed:
        return parse_items(text, choices)


class Multilabel(Items):
    """Any number of the card's labels, none of them too."""

    name, labelled, in_words = "multilabel", True, False
    loss, weights, head_metrics = "sigmoids", "pos_weight", ("macro_f1",)

    def read(self, card: TaskCard, raw: Any) -> Read:
        value = _cell(raw)
        found = INDEX_LIST.fullmatch(value)
        if found is None:
            raise Rejected("label is no list of indices", f"'{value[:60]}'")
        wanted = set(re.findall(r"\d+", found[1] or ""))
        if unknown := wanted - card.labels.keys():
            raise _unknown(min(unknown), card)
        names = [label.name for index, label in card.labels.items() if index in wanted]
        return names, ITEM_SEPARATOR.join(names) or NO_ITEM, False

    def problem(self, label: Any, choices: list[str], answer: str) -> str | None:
        if not self.fits(label):
            return super().problem(label, choices, answer)
        return None if set(label) <= set(choices) else "its label is not among its choices"

    def code(self, label: Any, codes: dict[str, int]) -> Any:
        return [codes[name] for name in label]

    def label(self, code: Any, names: Sequence[str]) -> Any:
        return [names[index] for index in code]

    def read_code(self, text: str, names: Sequence[str], by_name: bool) -> Any:
        codes = json.loads(text)
        if not isinstance(codes, list) or not all(isinstance(code, int) and 0 <= code < len(names) for code in codes):
            raise ValueError(f"label {text} is no list of indices below {len(names)}")
        return codes

    def cells(self, row_C: Sequence[float], form: TableForm) -> list[Any]:
        chosen = [place for place, share in enumerate(row_C) if share >= form.threshold]
        return [[float(form.shown(row_C[place])) for place in chosen], [form.names[place] for place in chosen]]


KINDS: dict[str, AnswerKind] = {kind.name: kind for kind in (Binary(), Multiclass(), Multilabel(), Regression(), Text(), Items())}


def known_kind(name: str) -> str:
    """The name, where it is that of a kind. Raises ValueError else."""
    if name not in KINDS:
        raise ValueError(f"'{name}' is no kind of answer; known: {', '.join(KINDS)}")
    return name


def read_number(text: str) -> float:
    """A number as tables write it: ASCII digits, sign, point, exponent. `1_5` and other digits are no numbers. Raises ValueError."""
    if NUMBER.fullmatch(text) is None:
        raise ValueError(f"'{text[:60]}' is no number")
    return float(text)


def class_index(text: str, names: Sequence[str]) -> int | None:
    """The class index that a cell is, or None."""
    try:
        number = read_number(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() and 0 <= number < len(names) else None


def is_text(value: Any) -> bool:
    """Whether it is a string that can be written: half a surrogate pair, which JSON can spell, cannot."""
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def are_texts(value: Any) -> bool:
    """Whether it is a list of such strings."""
    return isinstance(value, list) and set(map(type, value)) <= {str} and is_text("".join(value))


def _cell(raw: Any) -> str:
    """A label that is one cell. Raises Rejected where it is empty."""
    value = str(raw).strip()
    if not value:
        raise Rejected("no label")
    return value


def _unknown(value: str, card: TaskCard) -> Rejected:
    known = ", ".join(card.labels)
    return Rejected("unknown label", f"'{value[:60]}'; the card knows {known if len(known) <= 200 else f'{known[:200]}…'}")
