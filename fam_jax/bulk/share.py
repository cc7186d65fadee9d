"""Which chunks, and which pictures, fall to this process."""

from collections.abc import Callable, Sequence

import numpy as np

from fam_jax.bulk.programs import Spread


class Share(Sequence):
    """This process's chunks, step by step: one for each of its devices, None when they run out."""

    def __init__(self, todo: np.ndarray, spread: Spread) -> None:
        self.todo, self.devices, self._local = todo, spread.mesh.size, spread.local

    def __len__(self) -> int:
        return -(-len(self.todo) // self.devices)

    def __getitem__(self, step: int) -> list[int | None]:
        chunks = self.all(step)
        return [chunks[i] if i < len(chunks) else None for i in self._local]

    def all(self, step: int) -> list[int]:
        """The chunks of a step, of all processes."""
        return self.todo[step * self.devices : (step + 1) * self.devices].tolist()


class SharePaths(Sequence):
    """The pictures of a share by number, so many for each chunk; "" where a chunk has fewer.

    Args:
        share: the chunks.
        rows: pictures of a chunk.
        names: a chunk -> its pictures, at most `rows`.
    """

    def __init__(self, share: Share, rows: int, names: Callable[[int], Sequence[str]]) -> None:
        self._share, self._rows, self._names = share, rows, names
        self._local = len(share[0])

    def __len__(self) -> int:
        return len(self._share) * self._local * self._rows

    def __getitem__(self, number: int) -> str:
        chunk, row = divmod(number, self._rows)
        step, mine = divmod(chunk, self._local)
        at = self._share[step][mine]
        names = () if at is None else self._names(at)
        return names[row] if row < len(names) else ""  # None would be left out by grain
