"""`eval sequences retrieve`: a key and a value hidden in real sequence; asked for at the end by the key, by length of the prompt.

A prompt is sequence, key, value, sequence, key; what should follow is the value. Key and value are drawn evenly, the depth too; of
fixed blocks both stand at whole blocks, so that the value is spelled alike at both places. Beside it the control: the same prompt
with other letters in the place of the value, which nobody could answer.
"""

from typing import NamedTuple

import numpy as np

from artefacts.errors import UserError
from eval.judge.metrics import mean_of
from eval.sequences.inputs import draw_windows, read_all, shorter_than, usable
from eval.sequences.recipe import RetrieveRecipe
from eval.sequences.recover import go_on, share_right
from eval.sequences.run import Evaluation, Rows, rounded
from sequences.alphabets import PLAIN_LETTERS


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
