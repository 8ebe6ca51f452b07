"""What `--dry-run` shows of a tuning run."""

from __future__ import annotations

from artefacts.errors import Ledger
from instruct.tune.encode import encode
from instruct.tune.recipe import InstructRecipe
from instruct.tune.rows import collate
from instruct.tune.tune import check, rows_of
from training.estimate import planned_sizes, report
from training.loss import IGNORED
from training.marked import marked
from training.recipe import accumulation_of


def preview(recipe: InstructRecipe) -> None:
    """The estimate; where model and records are there, every check of the run and one training row too."""
    sizes = planned_sizes(recipe)
    if not ((recipe.model / "tokenizer.json").is_file() and (recipe.records / "train.jsonl").is_file()):
        print(report(recipe, sizes, recipe.planned.block_tokens, recipe.planned.tokens, None))
        print("model or records are not there yet: planned figures; nothing was checked against them")
        return
    tokenizer = check(recipe)
    ledger = Ledger()
    train = encode(tokenizer, recipe.records / "train.jsonl", recipe.max_tokens, ledger)
    ranks = recipe.ranks * recipe.nodes
    rows = rows_of(recipe, train, ranks)
    longest = max(sum(len(train.ids[record]) for record in row) for row in rows.rows)
    steps = len(rows) // (recipe.micro_batch * accumulation_of(recipe, ranks) * ranks)
    print(report(recipe, sizes, longest, len(rows) * longest, steps))
    print(f"records: {ledger.written:,} of {ledger.read:,} fit max_tokens={recipe.max_tokens}; in the run: {rows.consumed(len(rows))}")
    print("one training row, [tokens without loss] in brackets:")
    batch = collate([rows[0]], tokenizer.pad_token_id, weighted=False)
    print(marked(tokenizer, batch["input_ids"][0].tolist(), (batch["labels"][0] == IGNORED).tolist()))
