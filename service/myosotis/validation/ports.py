"""What validation needs of the world."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Detector(Protocol):
    """Names what pictures show, out of given labels."""

    @property
    def profile(self) -> str:
        """Kind, weights digest, input size and rule, as one string."""
        ...

    def classify(
        self, pictures: "NDArray[np.uint8]", labels: Sequence[Sequence[str]]
    ) -> list[int]:
        """Index of the label that each picture shows best.

        Args:
            pictures: uint8 [n, height, width, 3], RGB.
            labels: each a group of phrases that mean the same.

        Raises:
            ValueError: no labels, or pictures of another form. A detector that
                cannot run raises; it never answers without having looked.
        """
        ...
