"""Background DNA of the simulated organism: a second-order Markov chain."""

from __future__ import annotations

import numpy as np

BASES = "ACGT"
_LETTERS = np.frombuffer(BASES.encode(), dtype=np.uint8)
_CHAINS, _STEPS = 512, 512  # chains are drawn side by side, then laid end to end: 262,144 bases in one go


class Background:
    """An endless supply of background bases."""

    def __init__(self, rng: np.random.Generator, gc: float, cpg: float) -> None:
        """Draw the chain's chances around a GC share.

        Args:
            cpg: factor on the weight of G after C, before the chances are scaled back to the GC share: below 1, CpG is
                rare, as in most animal DNA; above 1, frequent, as in CpG islands. The ratio that comes out is nearer to 1.
        """
        self._rng = rng
        self._buffer = ""
        self._next = 0
        base = np.array([1 - gc, gc, gc, 1 - gc]) / 2
        chances = base * rng.lognormal(0, 0.2, size=(4, 4, 4))  # [one before last, last, next]
        chances[:, 1, 2] *= cpg
        chances[:, 3, 0] *= 0.5  # TpA is rare nearly everywhere, which lets a TATA box stand out
        gc_side = chances[..., 1:3].sum(axis=-1, keepdims=True)
        # The perturbation must not move the GC share, which would otherwise differ from seed to seed.
        scale = np.array([0.0, 1.0, 1.0, 0.0]) * gc / gc_side + np.array([1.0, 0.0, 0.0, 1.0]) * (1 - gc) / (
            chances.sum(axis=-1, keepdims=True) - gc_side
        )
        self._cumulative = (chances * scale).cumsum(axis=-1).reshape(16, 4)[:, :3]

    def take(self, count: int) -> str:
        """The next `count` bases."""
        while self._next + count > len(self._buffer):
            self._buffer = self._buffer[self._next :] + self._draw()
            self._next = 0
        piece = self._buffer[self._next : self._next + count]
        self._next += count
        return piece

    def _draw(self) -> str:
        context = self._rng.integers(16, size=_CHAINS)
        uniform = self._rng.random((_STEPS, _CHAINS))
        bases = np.empty((_CHAINS, _STEPS), dtype=np.uint8)
        for step in range(_STEPS):
            base = (uniform[step][:, None] > self._cumulative[context]).sum(axis=1)
            bases[:, step] = base
            context = context % 4 * 4 + base
        return _LETTERS[bases].tobytes().decode()
