"""Rows of parquet and Arrow files, of folders that `datasets.save_to_disk` wrote, and of datasets of the Hub, as a stream.

A row is a dict of Python values, or the reason (a text) why it cannot be read; places are row numbers, from 1. A dataset of the Hub is
read from a copy of its repository on the disk where there is one, else streamed from one commit. No code of a dataset is ever run.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from artefacts.errors import UserError, at
from sequences.tables import NOT_UTF8

BATCH = 1000
SAVED = "state.json"
"""In every folder of `Dataset.save_to_disk`."""
BEGINS = {b"PAR1": "parquet", b"ARROW1": "file", b"\xff\xff\xff\xff": "stream"}
HUB = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?::(?P<config>[\w.-]+))?:(?P<split>[\w.-]+)")


@dataclass(frozen=True)
class HubSplit:
    """One split of a dataset of the Hub: `hub:owner/name:split`, `hub:owner/name@revision:config:split`."""

    name: str
    revision: str | None
    config: str | None
    split: str
    copy: Path
    """Where a copy of the repository would lie."""

    def __str__(self) -> str:
        middle = (f"@{self.revision}" if self.revision else "") + (f":{self.config}" if self.config else "")
        return f"hub:{self.name}{middle}:{self.split}"

    def commit(self) -> str:
        """The commit that is read. Raises UserError where there is no such dataset, or no way to ask."""
        return _commit(self.name, self.revision, str(self.copy))


@cache
def _commit(name: str, revision: str | None, copy: str) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:  # no network, no such name or revision, a gate: the Hub's client has a class for each
        raise UserError(f"hub:{name}: cannot be read ({_line(error)}); check the name, or bring a copy of it to {copy}") from None


def hub_split(text: str, source: Path) -> HubSplit:
    """What `hub:...` names; its copy would lie below `source`. Raises UserError for anything else."""
    found = HUB.fullmatch(text)
    if found is None:
        raise UserError(f"'{text}': write hub:owner/name:split, or hub:owner/name@revision:config:split")
    return HubSplit(**found.groupdict(), copy=source / found["name"])


def is_columnar(path: Path | HubSplit) -> bool:
    """Whether it is one of the kinds that are read here; the first bytes tell, not the name."""
    if isinstance(path, HubSplit) or (path / SAVED).is_file():
        return True
    if not path.is_file():
        return False
    return _kind(path) is not None


def _kind(path: Path) -> str | None:
    """parquet, file or stream (of Arrow), by the first bytes; None for anything else."""
    with path.open("rb") as handle:
        head = handle.read(6)
    return next((kind for begin, kind in BEGINS.items() if head.startswith(begin)), None)


def columnar_rows(path: Path | HubSplit, needed: Sequence[str] = ()) -> tuple[list[str], Iterator[tuple[int, dict[str, Any] | str]]]:
    """Names of all columns, and the rows: number from 1, and the values of the needed columns (of all, where none is named).

    Raises:
        UserError: missing or damaged file, no such dataset, configuration or split.
    """
    batches = _guarded(path, _batches(path))
    first = next(batches, None)
    names = list(first.schema.names) if first is not None else []
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path}: two columns are called '{twice}'; mend the file")
    return names, _rows(first, batches, [name for name in names if name in needed or not needed])


def _rows(first: Any, batches: Iterator[Any], wanted: list[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    number, batch = 1, first
    while batch is not None:
        kept = batch.select(wanted)
        try:
            found: list[dict[str, Any] | str] = kept.to_pylist()
        except UnicodeDecodeError:
            found = [_row(kept.slice(place, 1)) for place in range(kept.num_rows)]
        yield from enumerate(found, number)
        number += len(found)
        batch = next(batches, None)


def _row(row: Any) -> dict[str, Any] | str:
    try:
        return row.to_pylist()[0]
    except UnicodeDecodeError:
        return NOT_UTF8


def _batches(path: Path | HubSplit) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(path, HubSplit) or path.is_dir():
        import datasets

        if isinstance(path, HubSplit):
            here = path.copy.is_dir()
            given: dict[str, Any] = {"path": str(path.copy)} if here else {"path": path.name, "revision": path.commit()}
            # a copy of one configuration's folder alone: a README would ask for the files of the others
            part = here and path.config is not None and (path.copy / path.config).is_dir() and not (path.copy / "README.md").exists()
            given |= {"data_dir": path.config} if part else {"name": path.config}
            found: Any = datasets.load_dataset(**given, split=path.split, streaming=True)
        else:
            found = datasets.load_from_disk(str(path))
            if isinstance(found, dict):
                raise UserError(f"{path}: the splits {', '.join(found)} lie here; name one of them, {path.name}/{next(iter(found))}")
        yield from found.with_format("arrow").iter(BATCH)
        return
    kind = _kind(path)
    if kind == "parquet":
        with pq.ParquetFile(path) as parquet:
            yield parquet.schema_arrow.empty_table()  # the columns, of a file without rows too
            yield from parquet.iter_batches(BATCH)
    elif kind == "file":
        with pa.ipc.open_file(str(path)) as file:
            yield file.schema.empty_table()
            yield from map(file.get_batch, range(file.num_record_batches))
    else:
        with pa.ipc.open_stream(str(path)) as stream:
            yield stream.schema.empty_table()
            yield from stream


def _guarded(path: Path | HubSplit, batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; what goes wrong on the way is told with the row."""
    row = 1
    while True:
        try:
            batch = next(batches, None)
        except UserError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError, EOFError) as error:  # Arrow's and datasets' own are all among these
            raise UserError(f"{at(str(path), row)}: cannot be read ({_line(error)}); fetch the data again, or name it rightly") from None
        if batch is None:
            return
        row += batch.num_rows
        yield batch


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
