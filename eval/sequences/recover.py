"""`eval sequences recover`: the next letters after real contexts, and how many of them are right (sequence recovery).

`eval sequences retrieve`: a key and a value hidden in real sequence; asked for at the end by the key, by length of the prompt. A prompt is
sequence, key, value, sequence, key; what should follow is the value. Key and value are drawn evenly, the depth too; of fixed blocks both
stand at whole blocks, so that the value is spelled alike at both places. Beside it the control: the same prompt with other letters in the
place of the value, which nobody could answer.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from artefacts.errors import UserError
from eval.judge.metrics import mean_of
from eval.sequences.inputs import draw_windows, read_all, shorter_than, usable
from eval.sequences.recipe import RecoverRecipe, RetrieveRecipe
from eval.sequences.run import Evaluation, Rows, rounded
from sequences.alphabets import PLAIN_LETTERS


class Markov:
    """The control: how often a letter follows the last `order` letters, counted on all contexts.

    Where those never stood, fewer of them count. Order 0 is the most frequent letter.
    """

    def __init__(self, contexts: Sequence[str], order: int) -> None:
        self.order = order
        counts: list[defaultdict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(order + 1)]
        for text in contexts:
            for size, counted in enumerate(counts):
                for place in range(size, len(text)):
                    counted[text[place - size : place]][text[place]] += 1
        # of equals the first in the alphabet
        self._best = [
            {before: min(after, key=lambda letter: (-after[letter], letter)) for before, after in counted.items()} for counted in counts
        ]

    def continued(self, text: str, letters: int) -> str:
        """So many letters behind a text, the likeliest each time."""
        found = text
        for _ in range(letters):
            sizes = range(min(self.order, len(found)), -1, -1)
            found += next(best for size in sizes if (best := self._best[size].get(found[len(found) - size :])))
        return found[len(text) :]


def recover(recipe: RecoverRecipe, *, overwrite: bool = False) -> None:
    """Write the folder.

    Raises:
        UserError: missing model or files, no record long enough, prompts longer than the model's context.
    """
    job = Evaluation(recipe, "recover", overwrite)
    records, size = read_all(recipe.files, recipe.alphabet, job.ledger), recipe.context_letters
    drawn = draw_windows(records, size + recipe.letters, recipe.contexts, recipe.alphabet, [recipe.seed, 0])
    usable(records, job.ledger, shorter_than(size + recipe.letters))
    contexts, wanted = [window[:size] for _, window in drawn], [window[size:] for _, window in drawn]

    def rows(texts: list[str]) -> Rows:
        made: Rows = []
        controls = {f"Markov order {recipe.markov}": Markov(contexts, recipe.markov), "most frequent letter": Markov(contexts, 0)}
        shares = {"model": [share_right(*pair) for pair in zip(texts, wanted, strict=True)]}
        for name, control in controls.items():
            given = [control.continued(context, recipe.letters) for context in contexts]
            shares[name] = [share_right(*pair) for pair in zip(given, wanted, strict=True)]
        for place, (name, _) in enumerate(drawn):
            line = {"id": name, "wanted": wanted[place], "given": texts[place]}
            made.append(line | {f"right_{system.replace(' ', '_')}": rounded(values[place]) for system, values in shares.items()})
        for name, values in shares.items():
            job.add(name, {"sequence recovery": mean_of(values)}, len(made))
        gained = np.subtract(shares["model"], shares[next(iter(controls))])
        job.add(f"model minus {next(iter(controls))}", {"sequence recovery": mean_of(gained)}, len(made))
        return made

    job.note = f"the next {recipe.letters} letters after {size:,}, greedy by {recipe.greedy}; the controls count the same contexts"
    go_on(job, recipe, contexts, recipe.letters, rows)


def go_on(
    job: Evaluation, recipe: RecoverRecipe | RetrieveRecipe, texts: Sequence[str], letters: int, rows: Callable[[list[str]], Rows]
) -> None:
    """Write the folder whose rows are made of the greedy letters behind the texts.

    Raises:
        UserError: a text whose tokens, with one for each letter more, are longer than a window.
    """
    from eval.sequences.greedy import Continuing, prompts_of  # torch, once the inputs are known to be sound

    frame = job.frame
    prompts = prompts_of(frame, texts)
    longest, most = max(map(len, prompts)), frame.room + len(frame.head)
    if longest + letters > most:
        raise UserError(
            f"{max(map(len, texts)):,} letters are {longest:,} tokens here, and {letters} more do not fit into a window of {most:,}; "
            "ask for fewer letters"
        )
    job.finish(prompts, letters, Continuing(recipe, frame, letters), rows)


def share_right(given: str, wanted: str) -> float:
    """Of letters at the same places."""
    return sum(one == two for one, two in zip(given, wanted, strict=True)) / len(wanted)


class Hidden(NamedTuple):
    """A key and a value in a sequence."""

    prompts: list[str]
    """With the value behind its key, and with other letters there."""
    depth: int
    """Letters before the key."""
    value: str


def hidden(around: str, key: int, value: int, whole: int, alphabet: str, rng: np.random.Generator) -> Hidden:
    """Draw them, and where they stand: behind any multiple of `whole` letters."""
    drawn = ["".join(rng.choice(list(PLAIN_LETTERS[alphabet]), count)) for count in (key, value, value)]
    depth = int(rng.integers(0, len(around) // whole + 1)) * whole
    return Hidden([around[:depth] + drawn[0] + letters + around[depth:] + drawn[0] for letters in drawn[1:]], depth, drawn[1])


def retrieve(recipe: RetrieveRecipe, *, overwrite: bool = False) -> None:
    """Write the folder.

    Raises:
        UserError: missing model or files, no record long enough, prompts longer than the model's context.
    """
    job = Evaluation(recipe, "retrieve", overwrite)
    records = read_all(recipe.files, recipe.alphabet, job.ledger)
    whole, asked = job.frame.whole, list[tuple[int, float, str]]()
    if (recipe.key + recipe.value) % whole:
        raise UserError(
            f"key={recipe.key} value={recipe.value}: this model reads blocks of {whole} letters, and would spell the value otherwise "
            f"where it is asked for; let the two together be a multiple of {whole}"
        )
    prompts, sizes = list[str](), list[int]()
    for number, length in enumerate(dict.fromkeys(recipe.lengths)):
        rng = np.random.default_rng([recipe.seed, 3, number])
        size = (length - 2 * recipe.key - recipe.value) // whole * whole
        sizes.append(size)
        for _, around in draw_windows(records, size, recipe.each, recipe.alphabet, [recipe.seed, 4, number]):
            one = hidden(around, recipe.key, recipe.value, whole, recipe.alphabet, rng)
            prompts += one.prompts
            asked.append((length, one.depth / size, one.value))

    usable(records, job.ledger, shorter_than(min(sizes)))

    def rows(texts: list[str]) -> Rows:
        made: Rows = []
        for place, (length, depth, value) in enumerate(asked):
            given, control = texts[2 * place : 2 * place + 2]
            line = {"length": length, "depth": rounded(depth), "value": value, "given": given, "given_control": control}
            made.append(line | {"right": rounded(share_right(given, value)), "right_control": rounded(share_right(control, value))})
        for length in dict.fromkeys(recipe.lengths):
            own = [row for row in made if row["length"] == length]
            rights, controls = ([row[column] for row in own] for column in ("right", "right_control"))
            about = f"{length:,} letters"
            job.add(about, {"value, share of letters": mean_of(rights), "value, wholly right": mean_of([x == 1 for x in rights])}, len(own))
            job.add(f"{about}, not hidden", {"value, share of letters": mean_of(controls)}, len(own))
        return made

    job.note = f"key of {recipe.key} letters, value of {recipe.value}, greedy by {recipe.greedy}"
    go_on(job, recipe, prompts, recipe.value, rows)
