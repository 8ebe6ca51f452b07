"""Rows of whole sequences, however long: truncation, windows, length-sorted batches, and what to do when memory runs out.

Out of memory, a batch is halved; a single piece is cut into windows of half its length, down to `SHORTEST`; then the model moves to
the CPU. A sequence is never truncated because memory is short.

What is batched together depends on the sequences alone, so several processes that share the batches make the rows of one.

Windows lie over a sequence that is longer than one pass. The rows kept of all of them, one after the other, are those of the whole
sequence, each once and in order. `right` grows from the first letter, `left` is its exact mirror image (upstream's own left mode without
overlap returns wrong rows).
"""

import itertools
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import safetensors.numpy
import torch
from tqdm import tqdm

from artefacts.errors import UserError
from artefacts.ranks import in_turn, mine
from eval.baselines.embedding.encoder import Encoder, Piece, batches
from eval.baselines.embedding.recipe import Extent

Side = Literal["right", "left"]


@dataclass(frozen=True, slots=True)
class Window:
    """Letters `[start, stop)` are embedded together, and the rows of `[keep_start, keep_stop)` are kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def mirrored(self, length: int) -> "Window":
        return Window(length - self.stop, length - self.start, length - self.keep_stop, length - self.keep_start)


def windows(length: int, size: int, *, overlap: bool, side: Side) -> list[Window]:
    """Windows of at most `size` over `length` letters, in the order of the letters.

    Without overlap: windows one after the other; the last one is as long as the others and keeps what was missing. With
    overlap: every window but the first begins half a window earlier than the rows it adds, so each row is seen with context.

    Raises:
        ValueError: a size below 1, or below 2 with overlap.
    """
    if size < 1 + overlap:
        raise ValueError(f"a window of {size} letters is too short")
    if length <= size:
        return [Window(0, length, 0, length)]
    found = [Window(0, size, 0, size)]
    step = size // 2 if overlap else size
    done = size
    while done < length:
        stop = done + step
        if stop >= length:  # the last one reaches the end with its full length
            found.append(Window(length - (2 * step if overlap else size), length, done, length))
        else:
            found.append(Window(done - step if overlap else done, stop, done, stop))
        done = min(stop, length)
    return found if side == "right" else [window.mirrored(length) for window in reversed(found)]


def first_pass(found: list[Window], side: Side) -> Window:
    """The window whose special rows frame the whole: the one where the growing began."""
    return found[0] if side == "right" else found[-1]


SHORTEST = 64
"""Windows are not halved below this many tokens."""
VALUES_AT_ONCE = 1 << 27
"""Numbers held at once, 512 MiB in float32: sequences are handed out in groups of at most so many."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a sequence's own tokens, `[tokens, D]`, and of the frame before and after them."""

    before: np.ndarray
    own: np.ndarray
    after: np.ndarray
    passes: int
    """Windows that were needed; 1: the sequence was seen whole."""

    def matrix(self, *, special: bool) -> np.ndarray:
        """Own rows, or all of them."""
        return np.concatenate([self.before, self.own, self.after]) if special else self.own

    def vector(self, kind: Literal["mean", "max", "cls"]) -> np.ndarray:
        """Mean or maximum of the own rows, or the first row of the frame."""
        return self.before[0] if kind == "cls" else (self.own.mean(axis=0) if kind == "mean" else self.own.max(axis=0))


class _Read(NamedTuple):
    """A sequence as the encoder reads it."""

    place: int
    """Among the sequences."""
    modality: str
    ids: np.ndarray
    plan: list[Window]


def extract(
    encoder: Encoder,
    sequences: Sequence[tuple[str, str]],
    extent: Extent,
    *,
    wanted: Collection[int] | None = None,
    show: str | None = None,
    shared: bool = False,
) -> Iterator[tuple[int, Rows]]:
    """Index and rows of each (modality, letters), longest first.

    Args:
        wanted: indices of those to make; the others only keep their place in the batches, so that the last bits of a row are
            the same whatever was made before. All by default.
        show: label of a progress bar.
        shared: among the processes of a launcher, which have the same sequences; the first yields them all, the others nothing.

    Raises:
        UserError: a sequence without tokens, or too large for memory even in short windows.
    """
    turns, wanted = itertools.count(), range(len(sequences)) if wanted is None else set(wanted)
    with tqdm(total=len(wanted), desc=show, unit="seq", disable=None if show else True) as bar:
        for group in _groups(encoder, sequences, extent):
            if not any(i in wanted for i in group):
                continue
            planned = _units(encoder, sequences, group, extent)
            units = [unit for unit in planned if any(read.place in wanted for read in unit)]
            numbers = [next(turns) for _ in units]
            own = [unit for number, unit in zip(numbers, units, strict=True) if not shared or mine(number)]
            made = _made(encoder, own, extent, side_by_side=len(planned) >= 2 * torch.get_num_threads())
            for number, unit in zip(numbers, units, strict=True):
                found = in_turn(number, partial(next, made), _packed, _unpacked) if shared else next(made)
                for read, rows in zip(unit, found or [], strict=found is not None):
                    if read.place in wanted:
                        yield read.place, rows
                bar.update(sum(read.place in wanted for read in unit))


def _groups(encoder: Encoder, sequences: Sequence[tuple[str, str]], extent: Extent) -> Iterator[list[int]]:
    """All of them, longest first, as many at once as memory is meant to hold."""
    group: list[int] = []
    values = 0
    for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i][1])):
        cost = len(extent.truncate(sequences[i][1])) * encoder.width
        if group and values + cost > VALUES_AT_ONCE:
            yield group
            group, values = [], 0
        group.append(i)
        values += cost
    if group:
        yield group


def _units(encoder: Encoder, sequences: Sequence[tuple[str, str]], group: list[int], extent: Extent) -> list[list[_Read]]:
    """What is made together: a sequence of several windows, or a batch of those that are seen whole."""
    units: list[list[_Read]] = []
    whole: list[_Read] = []
    for i in group:
        modality, letters = sequences[i]
        ids = encoder.ids(modality, extent.truncate(letters))
        if not len(ids):
            raise UserError(f"{encoder.name}: a {modality} sequence of {len(letters)} letters has no token; remove it")
        read = _Read(i, modality, ids, _plan(len(ids), encoder, extent))
        if len(read.plan) > 1:
            units.append([read])
        else:
            whole.append(read)
    lengths = [encoder.framed_length(read.modality, read.ids) for read in whole]
    return units + [[whole[i] for i in batch] for batch in batches(lengths, encoder.batch_tokens)]


def _made(encoder: Encoder, units: Sequence[list[_Read]], extent: Extent, *, side_by_side: bool) -> Iterator[list[Rows]]:
    """Rows of each unit. On a CPU units are made beside each other, a thread each: 1.1 to 1.6 times as fast as all threads on
    one after another, whose small products are soon done (docs/lab-notebook.md)."""
    threads = torch.get_num_threads()
    if encoder.device.type != "cpu" or threads == 1 or not side_by_side:
        yield from (_unit(encoder, unit, extent) for unit in units)
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(lambda unit: _unit(encoder, unit, extent), units)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the workers set that of the matrix library for everybody


def _unit(encoder: Encoder, unit: list[_Read], extent: Extent) -> list[Rows]:
    pieces: list[Piece] = [(read.modality, read.ids[window.start : window.stop]) for read in unit for window in read.plan]
    found: list[Any] = [None] * len(pieces)
    for batch in batches([encoder.framed_length(*piece) for piece in pieces], encoder.batch_tokens):
        for place, rows in zip(batch, _rows(encoder, [pieces[p] for p in batch], extent), strict=True):
            found[place] = rows
    parts = iter(found)
    return [_join(encoder, read.modality, read.plan, [next(parts) for _ in read.plan], extent) for read in unit]


PARTS = ("before", "own", "after")


def _packed(made: list[Rows]) -> bytes:
    arrays = {f"{i}.{part}": getattr(rows, part) for i, rows in enumerate(made) for part in PARTS}
    return safetensors.numpy.save(arrays | {"passes": np.array([rows.passes for rows in made])})


def _unpacked(words: bytes) -> list[Rows]:
    arrays = safetensors.numpy.load(words)
    made = []
    for i, passes in enumerate(arrays["passes"].tolist()):
        before, own, after = (arrays[f"{i}.{part}"] for part in PARTS)
        made.append(Rows(before, own, after, passes))
    return made


def _plan(length: int, encoder: Encoder, extent: Extent) -> list[Window]:
    sizes = [size for size in (extent.embedding_fixed_len_a_time, encoder.longest, length) if size]
    return windows(
        length,
        max(min(sizes), 1 + extent.embedding_complete_seg_overlap),
        overlap=extent.embedding_complete_seg_overlap,
        side=extent.trunc_type,
    )


def _join(encoder: Encoder, modality: str, plan: list[Window], parts: list[tuple[np.ndarray, int]], extent: Extent) -> Rows:
    """Kept rows of all windows between the frame of the first pass."""
    before, after = (len(ids) for ids in encoder.frame(modality))
    own = [rows[before + w.keep_start - w.start : before + w.keep_stop - w.start] for w, (rows, _) in zip(plan, parts, strict=True)]
    frame = parts[plan.index(first_pass(plan, extent.trunc_type))][0]
    return Rows(frame[:before], np.concatenate(own) if len(own) > 1 else own[0], frame[len(frame) - after :], sum(n for _, n in parts))


def _rows(encoder: Encoder, batch: Sequence[Piece], extent: Extent) -> list[tuple[np.ndarray, int]]:
    """Framed rows of each piece and the number of passes, in smaller portions where memory runs out."""
    try:
        return [(rows, 1) for rows in encoder.rows(batch)]
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    if encoder.device.type == "cuda":
        torch.cuda.empty_cache()
    if len(batch) > 1:
        half = len(batch) // 2
        return _rows(encoder, batch[:half], extent) + _rows(encoder, batch[half:], extent)
    modality, ids = batch[0]
    if len(ids) > SHORTEST:
        plan = windows(len(ids), max(SHORTEST, -(-len(ids) // 2)), overlap=extent.embedding_complete_seg_overlap, side=extent.trunc_type)
        parts = [_rows(encoder, [(modality, ids[w.start : w.stop])], extent)[0] for w in plan]
        joined = _join(encoder, modality, plan, parts, extent)
        return [(joined.matrix(special=True), joined.passes)]
    if encoder.device.type == "cpu":
        raise UserError(f"{encoder.name}: memory does not hold a pass over {len(ids)} tokens; free memory or take a smaller encoder")
    encoder.move(torch.device("cpu"))
    return _rows(encoder, batch, extent)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in ("out of memory", "not enough memory", "can't allocate memory"))
