"""`eval sequences recover`: the next letters after real contexts, and how many of them are right (sequence recovery)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from artefacts.errors import UserError
from eval.judge.metrics import mean_of
from eval.sequences.inputs import draw_windows, read_all, shorter_than, usable
from eval.sequences.recipe import RecoverRecipe, RetrieveRecipe
from eval.sequences.run import Evaluation, Rows, rounded


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
