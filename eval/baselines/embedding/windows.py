"""Windows over a sequence that is longer than one pass, and which rows of each are kept.

The rows kept of all windows, one after the other, are those of the whole sequence, each once and in order. `right` grows from the
first letter, `left` is its exact mirror image (upstream's own left mode without overlap returns wrong rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Side = Literal["right", "left"]


@dataclass(frozen=True, slots=True)
class Window:
    """Letters `[start, stop)` are embedded together, and the rows of `[keep_start, keep_stop)` are kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def mirrored(self, length: int) -> Window:
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
