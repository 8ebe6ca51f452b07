"""From files to what training and evaluation read.

- `fetch/`: public data comes in by source cards (`sources`, `publishers`, `download`, `checksums`, `fetch`).
- `corpus/`: DNA, proteins and biology text become packed token shards. `pack_recipe` is the recipe, `plan` cuts it into
  parts, `parts` converts one (with `documents`, `exclude`, `encode`), `choose` compares and draws, `blocks` packs, `pack`
  runs them on a `crew` of processes, `verify` decodes it all; `shards` reads them back.
- `tasks/`: benchmarks become instruction records. `cards` (of `card_fields`) describe a task, `rows` reads its files,
  `labels` and `examples` judge each row, `mixing` chooses, `prompts` is the one prompt renderer, `records` writes and
  reads, `convert` runs it all.
- `splits/`: leakage between splits, and splits without it. `simulate/`: an organism drawn from a seed.

Every bad record is set aside and counted with its reason, never lost silently.
"""
