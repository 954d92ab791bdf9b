"""How many replicas a deployment shall have, by the calls that gateway workers have for it. Pure, also of the clock.

The rule is Ray Serve's: as many as it takes for each to have ``target_ongoing_requests`` calls, running and waiting,
once that has been so for a while. Differences: delays are seconds rather than counted turns of a loop; what is measured
are exact numbers, four times a second, rather than samples of each replica and handle; and the number falls to the
most that was wanted during the delay rather than to what is wanted when it ends, so that it need not rise again.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from fairlead.v1 import control_pb2

_ROUNDING = 1e-9
"""What sums of fractions may be above a whole number without asking for one replica more."""


class LoadWindow:
    """A deployment's calls over the recent past, a step function of time."""

    def __init__(self, now: float) -> None:
        self._steps: deque[tuple[float, float]] = deque([(now, 0.0)])

    def __repr__(self) -> str:
        return f"<LoadWindow current={self.current} steps={len(self._steps)}>"

    @property
    def current(self) -> float:
        """How many calls there are now."""
        return self._steps[-1][1]

    def note(self, now: float, calls: float) -> None:
        """From now on there are so many."""
        since, known = self._steps[-1]
        if known == calls:
            return
        if since == now:
            self._steps.pop()
        self._steps.append((now, calls))

    def forget(self, before: float) -> None:
        """Drops what ended before a time."""
        steps = self._steps
        while len(steps) > 1 and steps[1][0] <= before:
            steps.popleft()

    def aggregate(self, now: float, period_s: float, how: control_pb2.LoadAggregation.ValueType) -> float:
        """The last ``period_s`` seconds as one number, or as much of them as is known."""
        start = max(now - period_s, self._steps[0][0])
        if start >= now:
            return self.current
        ends = [*[since for since, _ in self._steps][1:], now]
        pieces = [
            (calls, end - max(since, start))
            for (since, calls), end in zip(self._steps, ends, strict=True)
            if end > start
        ]
        if how == control_pb2.LOAD_AGGREGATION_MAX:
            return max(calls for calls, _ in pieces)
        if how == control_pb2.LOAD_AGGREGATION_MIN:
            return min(calls for calls, _ in pieces)
        return sum(calls * length for calls, length in pieces) / (now - start)


def wanted_replicas(settings: control_pb2.AutoscalingSettings, running: int, calls: float) -> int:
    """How many replicas so many calls ask for; within no bounds. ``running``: how many there are, at least 1."""
    ratio = calls / (settings.target_ongoing_requests * running)
    factor = settings.upscaling_factor if ratio >= 1 else settings.downscaling_factor
    wanted = ceil(running * (1 + (ratio - 1) * factor) - _ROUNDING)
    if ratio == 0 and wanted >= running:
        return running - 1  # a factor below 1 would never let the last ones go
    return wanted


class Autoscaler:
    """Decides for one deployment. Times are seconds of one monotonic clock."""

    def __init__(self, settings: control_pb2.AutoscalingSettings, target: int, now: float) -> None:
        """``target``: how many replicas it has been given so far."""
        self.target = target
        """How many replicas it shall have."""
        self.window = LoadWindow(now)
        self.wish: int | None = None
        """What the user's own policy last answered; None: there is none, or it has not answered yet."""
        self.asked_at: float | None = None
        """When that policy was last asked."""
        self.failure = ""
        """Why it did not answer; empty: it did."""
        self.scaled_up_at: float | None = None
        """When it last got more."""
        self.scaled_down_at: float | None = None
        """When it last got fewer."""
        self.settings = settings
        """By which it decides; :meth:`configure` changes them."""
        self._since = now
        self._more_since: float | None = None
        self._wishes: deque[tuple[float, int]] = deque()
        self.configure(settings)

    def __repr__(self) -> str:
        return f"<Autoscaler target={self.target} {self.window!r}>"

    @property
    def has_policy(self) -> bool:
        """Whether a function of the user's decides."""
        return self.settings.WhichOneof("policy") is not None

    def configure(self, settings: control_pb2.AutoscalingSettings) -> None:
        """Takes in settings; the bounds count at once."""
        if settings.WhichOneof("policy") != self.settings.WhichOneof("policy"):
            self.wish = None
        self.settings = settings
        self.target = self._bounded(self.target)

    def load(self, now: float) -> float:
        """The calls of the look-back period as one number."""
        self.window.forget(now - self.settings.look_back_period_s)
        return self.window.aggregate(now, self.settings.look_back_period_s, self.settings.aggregation)

    def decide(self, now: float, running: int) -> int:
        """How many replicas there shall be from now on; ``running`` of them can be called now."""
        wanted = self._wanted(now, running)
        self._remember(now, wanted)
        if wanted > self.target:
            self._more_since = now if self._more_since is None else self._more_since
            if self.target == 0 or now - self._more_since >= self.settings.upscale_delay_s:
                self.target, self.scaled_up_at, self._more_since = wanted, now, None
            return self.target
        self._more_since = None
        last = self.target == 1
        delay = self.settings.downscale_to_zero_delay_s if last else self.settings.downscale_delay_s
        fewer = max(self._most_wanted(now, delay), 0 if last else 1)
        if fewer < self.target:
            self.target, self.scaled_down_at = fewer, now
        return self.target

    def _remember(self, now: float, wanted: int) -> None:
        """Notes what is wanted now: what was less before is of no interest any more."""
        wishes = self._wishes
        while wishes and wishes[-1][1] <= wanted:
            wishes.pop()
        wishes.append((now, wanted))
        longest = max(self.settings.downscale_delay_s, self.settings.downscale_to_zero_delay_s)
        while wishes[0][0] < now - longest:
            wishes.popleft()

    def _most_wanted(self, now: float, delay: float) -> int:
        """The most replicas that were wanted at any time of the last so many seconds."""
        if now - self._since < delay:
            return self.target
        return next(wanted for since, wanted in self._wishes if since >= now - delay)

    def _wanted(self, now: float, running: int) -> int:
        current = self.window.current
        if self.has_policy:
            wanted = self.target if self.wish is None else self.wish
        elif self.target == 0:
            # What wakes a sleeping deployment is there now, whatever the last half minute was like.
            wanted = wanted_replicas(self.settings, 1, current)
        else:
            wanted = wanted_replicas(self.settings, running or self.target, self.load(now))
        return self._bounded(max(wanted, 1) if current else wanted)

    def _bounded(self, replicas: int) -> int:
        return max(self.settings.min_replicas, min(replicas, self.settings.max_replicas))
