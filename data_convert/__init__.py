"""From files to what training and evaluation read.

Public data comes in by source cards (`sources`, `publishers`, `download`, `checksums`, `fetch`). Corpora (DNA, proteins,
biology text) become packed token shards: `corpus` is the recipe, `plan` cuts it into parts, `parts` converts one (`read` picks
the reader: `uniprot`, `texts`, or sequences/readers.py; then `documents`, `exclude`, `encode`), `choose` compares and draws,
`blocks` packs, `pack` runs them on a `crew` of processes, `verify` decodes it all; `shards` reads them back. Benchmarks become
instruction records: `cards` (of `card_fields`) describe a task, `rows` reads its files, `labels` and `examples` judge each row,
`mixing` chooses, `prompts` is the one prompt renderer, `records` writes and reads, `tasks` runs it all. Every bad record is
set aside and counted with its reason, never lost silently.
"""
