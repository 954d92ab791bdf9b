"""What is deployed: a class for today's API, a function for the classic one."""

from __future__ import annotations

import random
from typing import Any

from fairlead import serve

TEXT = "hello friend , how are you today ? how is the model today ? the model is fine and you are fine , friend ."


@serve.deployment(num_replicas=2)
class Generator:
    """Continues a text, word by word, by what followed the last word in the text it has learnt from."""

    def __init__(self, text: str) -> None:
        words = text.split()
        self.followers: dict[str, list[str]] = {}
        for word, follower in zip(words, [*words[1:], words[0]], strict=True):
            self.followers.setdefault(word, []).append(follower)

    def __call__(self, query: str, length: int = 8) -> list[dict[str, str]]:
        words = query.lower().replace(",", " ,").split() or ["hello"]
        choose = random.Random(query)
        for _ in range(length):
            words.append(choose.choice(self.followers.get(words[-1], ["hello"])))
        return [{"generated_text": " ".join(words)}]


async def model(request: Any) -> str:
    """A classic backend: gets the request, not the arguments."""
    body = await request.body()
    return f"Model received data: {body}"
