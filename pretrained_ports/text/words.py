"""The words that a sentence's tokens are pieces of."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32

START, END, PADDING = -1, -2, -3  # of a token that is of no word
_APART = {"start": START, "end": END, "padding": PADDING}


class Words(NamedTuple):
    """The words of a sentence, and the word that each token is a piece of.

    Attributes:
        words: As the network reads them.
        owners: For each token the number of its word, or `START`, `END` or `PADDING`.
    """

    words: tuple[str, ...]
    owners: Int32[np.ndarray, " n"]

    def sums(
        self, values: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " words"], dict[str, float]]:
        """Values of tokens summed over each word, and apart those of the tokens of no word.

        All of it sums to the sum of the values.

        Examples:
            >>> dog = Words(("a", "dog"), np.array([START, 0, 1, 1, END], np.int32))
            >>> words, apart = dog.sums(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
            >>> words.tolist(), apart
            ([2.0, 7.0], {'start': 1.0, 'end': 5.0, 'padding': 0.0})
        """
        inside = self.owners >= 0
        sums = np.zeros(len(self.words), values.dtype)
        np.add.at(sums, self.owners[inside], values[inside])
        return sums, {name: float(values[self.owners == own].sum()) for name, own in _APART.items()}
