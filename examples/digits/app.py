"""Handwritten digits: a pre-processing deployment in front of a model that trains itself when its replica starts.

The model is a support vector classifier, the data the 1,797 digits of 8 × 8 pixels that scikit-learn brings
along. `make run` serves it; `fairlead run examples.digits.app:app` does the same by hand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException
from starlette.requests import Request

from fairlead import serve
from fairlead.serve.handle import DeploymentHandle

SIZE = 8
"""Pixels in each direction of the images that the model knows."""
DARKEST = 16.0
"""The value of a black pixel in the data set."""
Image = npt.NDArray[np.float32]
"""Rows of pixels from 0 (white) to anything (black). As JSON it is lists of numbers."""


@dataclass
class Answer:
    """What is on an image."""

    digit: int
    """The digit, 0 to 9."""
    margin: float
    """How far ahead of the next digit it was."""


@dataclass
class NumberedAnswer:
    """What is on one of several images."""

    image: int
    """Its position among them, from 0."""
    digit: int
    """The digit, 0 to 9."""
    margin: float
    """How far ahead of the next digit it was."""


@serve.deployment(num_replicas=1, max_ongoing_requests=16)
class Model:
    """Tells digits by 64 pixel values from 0 to 16."""

    def __init__(self) -> None:
        # Imported where it is used: the replica of this deployment is the only process that needs it.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
        from sklearn.svm import SVC

        digits = load_digits()
        train, self._test, labels, self._test_labels = train_test_split(
            digits.data, digits.target, test_size=0.25, random_state=7
        )
        self._classifier = SVC(gamma=0.001, C=10.0).fit(train, labels)

    def predict(self, pixels: list[float]) -> Answer:
        """The digit, and how far ahead of the next one it was."""
        votes = self._classifier.decision_function(np.asarray([pixels]))[0]
        order = np.argsort(votes)[::-1]
        return Answer(digit=int(order[0]), margin=round(float(votes[order[0]] - votes[order[1]]), 3))

    def accuracy(self) -> float:
        """The share of right answers on digits that it has not seen."""
        return round(float(self._classifier.score(self._test, self._test_labels)), 4)


@serve.deployment
class Digits:
    """The door: takes images of any size and any brightness, and asks the model."""

    def __init__(self, model: DeploymentHandle[Any]) -> None:
        self._model = model

    async def __call__(self, request: Request) -> Answer:
        """Over HTTP: ``{"image": [[...], ...]}``, rows of pixels from 0 (white) to anything (black)."""
        try:
            pixels = prepare((await request.json())["image"])
        except (ValueError, TypeError, KeyError) as error:
            raise HTTPException(400, f'send {{"image": [[...], ...]}} in JSON: {error}') from error
        return await self._model.predict.remote(pixels)

    async def classify(self, image: Image) -> Answer:
        """One image, as rows of pixels."""
        return await self._model.predict.remote(prepare(image))

    async def classify_all(self, images: Image) -> AsyncIterator[NumberedAnswer]:
        """Several images, all of one size: each answer comes as soon as it is known, in order."""
        pending = [self._model.predict.remote(prepare(image)) for image in images]
        for position, response in enumerate(pending):
            answer = await response
            yield NumberedAnswer(position, answer.digit, answer.margin)

    async def classify_stream(self, images: AsyncIterator[Image]) -> AsyncIterator[Answer]:
        """Images as they come, of any size: each is answered before the next one is looked at."""
        async for image in images:
            yield await self.classify(image)

    async def accuracy(self) -> float:
        """The model's accuracy on digits that it has not seen."""
        return await self._model.accuracy.remote()


def prepare(image: Image) -> list[float]:
    """An image as the model's 64 pixels: averaged down to 8 × 8, stretched to the full range. Raises ValueError."""
    pixels = np.asarray(image, dtype=float)
    if pixels.ndim != 2 or min(pixels.shape) < SIZE:
        raise ValueError(f"an image is at least {SIZE} rows of {SIZE} pixels, not {' x '.join(map(str, pixels.shape))}")
    rows = np.array_split(pixels, SIZE, axis=0)
    small = np.array([[block.mean() for block in np.array_split(row, SIZE, axis=1)] for row in rows])
    peak = small.max()
    scaled: list[float] = (small * (DARKEST / peak if peak > 0 else 1.0)).ravel().tolist()
    return scaled


app = Digits.bind(Model.bind())
