"""Records for `datasets.load_dataset(FOLDER)`: parquet of each split, and the dataset card (README.md) that names them."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from artefacts.errors import ensure
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.mixing import SPLITS
from pages.tables import Table

AS_JSON = ("label", "texts", "meta")
"""Of another type in every kind of task; a column has one, so it holds them as JSON."""
ROWS = 1000


def publish(folder: Path, cards: list[TaskCard]) -> None:
    """Write `data/<split>.parquet` and README.md beside the JSON lines of a records folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def texts(*names: str) -> list[tuple[str, Any]]:
        return [(name, pa.string()) for name in names]

    def listed(*names: str) -> Any:
        return pa.list_(pa.struct(texts(*names)))

    messages, inputs = listed("role", "content"), listed("name", "modality", "letters")
    columns = [*texts("id", "task", "split", "kind"), ("prompt", messages), ("completion", messages), ("choices", pa.list_(pa.string()))]
    schema = pa.schema([*columns, ("inputs", inputs), *texts("source", "reason", *AS_JSON)])
    (folder / "data").mkdir()
    written = []
    for split in SPLITS:
        with (folder / f"{split}.jsonl").open("rb") as lines:
            if not lines.peek(1):
                continue  # `datasets` refuses a split without a row
            written.append(split)
            with pq.ParquetWriter(folder / "data" / f"{split}.parquet", schema) as writer:
                records = map(json.loads, lines)
                while batch := list(islice(records, ROWS)):
                    ensure(all(record.keys() <= set(schema.names) for record in batch), "a field of records has no column")
                    for record in batch:
                        record.update({name: json.dumps(record[name], ensure_ascii=False) for name in AS_JSON if name in record})
                    writer.write_table(pa.Table.from_pylist(batch, schema))
    head = {"configs": [{"config_name": "default", "data_files": [{"split": name, "path": f"data/{name}.parquet"} for name in written]}]}
    rows = [
        [card.id, card.title, card.source.name, card.source.licence or "not known", card.split_note]
        + [str(card.n.get(split, "")) for split in SPLITS]
        for card in cards
    ]
    page = [
        "---\n" + yaml.safe_dump(head, sort_keys=False) + "---",
        f"# {len(cards)} tasks as instruction records",
        "Made by llama-gene. `prompt` and `completion` are messages, `label` (JSON) is what is scored; cards.json has the tasks' cards. "
        "The licence of each source holds for its records.",
        Table(("task", "title", "source", "licence", "split", *SPLITS), rows, left=range(5)).markdown(),
    ]
    (folder / "README.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")
