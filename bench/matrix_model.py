"""The model that both sides serve in batches: two layers of matrix products, in NumPy, in one thread.

Requests name one of its inputs by number, so that the work is the product and not the encoding of vectors.
"""

from __future__ import annotations

import os

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # both sides have one process for the model, on a machine with few cores

import numpy as np  # noqa: E402

WIDTH = 2048
INPUTS = 256


class MatrixModel:
    """An input's number to the class with the highest score."""

    def __init__(self) -> None:
        dice = np.random.default_rng(1)
        self.inputs = dice.standard_normal((INPUTS, WIDTH), dtype=np.float32)
        self.hidden = dice.standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)
        self.scores = dice.standard_normal((WIDTH, WIDTH), dtype=np.float32)

    def classify(self, numbers: list[int]) -> list[int]:
        """The classes of several inputs, all in one product."""
        rows = self.inputs[np.asarray(numbers) % INPUTS]
        classes: list[int] = (np.maximum(rows @ self.hidden, 0) @ self.scores).argmax(axis=1).tolist()
        return classes
