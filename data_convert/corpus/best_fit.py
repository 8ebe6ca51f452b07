"""Putting items of unequal length into blocks or rows of one capacity, with little room left over."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def best_fit(items: Iterable[tuple[T, int]], capacity: int, most_open: int | None = None) -> Iterator[list[T]]:
    """Blocks of items: each goes, in its turn, where the least room is left over.

    Args:
        items: each with its length, in 1..capacity.
        most_open: blocks that are filled at a time, the fullest making way for a new one; None: all, until the items end.
    """
    blocks: dict[int, list[T]] = {}  # open ones, in the order in which they were begun
    with_room: dict[int, list[int]] = {}  # room left -> blocks with exactly that room
    rooms: list[int] = []  # sorted keys of with_room: at most `capacity` of them

    def take(place: int) -> int:
        room = rooms[place]
        equal = with_room[room]
        # of a few open blocks the oldest, which has waited longest; of all the last one, which is found at once
        block = equal.pop(equal.index(min(equal)) if most_open is not None else -1)
        if not equal:
            del with_room[room], rooms[place]
        return block

    for number, (item, length) in enumerate(items):
        place = bisect_left(rooms, length)
        if place == len(rooms):
            if len(blocks) == most_open:
                yield blocks.pop(take(0))
            block, room = number, capacity
            blocks[block] = []
        else:
            room, block = rooms[place], take(place)
        blocks[block].append(item)
        left = room - length
        if left not in with_room:
            insort(rooms, left)
            with_room[left] = []
        with_room[left].append(block)
    yield from blocks.values()


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """The same with the longest first, which leaves the least room. Ties go to the earlier item, so the result is the same every time.

    Returns indices into `lengths`, one list per block.
    """
    if lengths and not 0 < min(lengths) <= max(lengths) <= capacity:
        raise ValueError(f"lengths must lie in 1..{capacity}")
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return list(best_fit(((index, lengths[index]) for index in longest_first), capacity))
