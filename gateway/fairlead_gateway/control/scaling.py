"""The deployments of an instance that scale by themselves, and the calls that gateway workers have for them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from fairlead.v1 import control_pb2
from fairlead_gateway.control.actions import AskPolicy, PolicyKey
from fairlead_gateway.control.autoscaling import Autoscaler
from fairlead_gateway.control.desired import DeploymentGoal

POLICY_PERIOD_S = 0.5
"""Seconds between questions to a policy of the user's."""

Key = tuple[str, str]
"""Application and deployment."""


class Scaling:
    """Who scales, and by what. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._scalers: dict[Key, Autoscaler] = {}
        self._loads: dict[str, dict[Key, control_pb2.DeploymentLoad]] = {}

    def __repr__(self) -> str:
        return f"<Scaling {self._scalers}>"

    def __bool__(self) -> bool:
        return bool(self._scalers)

    def scaler(self, key: Key) -> Autoscaler | None:
        """That of a deployment; None: it does not scale by itself."""
        return self._scalers.get(key)

    def calls(self, key: Key) -> int:
        """The calls that gateway workers have for a deployment, running and waiting."""
        return sum(load.ongoing + load.queued for load in self._loads_of(key))

    def waiting(self, key: Key) -> int:
        """Those that wait."""
        return sum(load.queued for load in self._loads_of(key))

    def note(self, gateway_id: str, loads: Iterable[control_pb2.DeploymentLoad], now: float) -> bool:
        """What a gateway worker tells of its calls. Whether a deployment that has no replicas is called."""
        self._loads[gateway_id] = {(load.application, load.deployment): load for load in loads}
        self._measure(now)
        return any(not scaler.target and scaler.window.current for scaler in self._scalers.values())

    def lost(self, gateway_id: str) -> None:
        """A gateway worker is gone, and its calls with it."""
        self._loads.pop(gateway_id, None)

    def decide(self, goal: DeploymentGoal, running: int, now: float) -> DeploymentGoal:
        """The goal with as many replicas as the calls ask for; the same one if it does not scale by itself."""
        key = (goal.application, goal.name)
        if not goal.spec.settings.HasField("autoscaling"):
            self.forget(key)
            return goal
        settings = goal.spec.settings.autoscaling
        scaler = self._scalers.get(key)
        if scaler is None:
            scaler = self._scalers[key] = Autoscaler(settings, goal.target, now)
        elif scaler.settings != settings:
            scaler.configure(settings)
        scaler.window.note(now, self.calls(key))
        target = scaler.decide(now, running)
        return goal if goal.scaled == target else replace(goal, scaled=target)

    def wants(self, goal: DeploymentGoal, running: int, now: float) -> bool:
        """Whether there would be another number of replicas now, or the user's policy is to be asked."""
        scaler = self._scalers.get((goal.application, goal.name))
        if scaler is None or self.decide(goal, running, now) is not goal:
            return True
        return scaler.has_policy and (scaler.asked_at is None or now - scaler.asked_at >= POLICY_PERIOD_S)

    def question(self, goal: DeploymentGoal, running: Callable[[str], list[str]], now: float) -> AskPolicy | None:
        """What to ask the user's policy now, if there is one and it is time: once for all that scale by it.

        ``running``: the ids of the replicas that run, of a deployment of the application.
        """
        key = (goal.application, goal.name)
        scaler = self._scalers.get(key)
        if scaler is None or not scaler.has_policy:
            return None
        if scaler.asked_at is not None and now - scaler.asked_at < POLICY_PERIOD_S:
            return None
        policy = _policy_of(key, scaler)
        asked = self._deciding(policy)
        for each in asked:
            self._scalers[each].asked_at = now
        contexts = {name: self._context((application, name), running(name), now) for application, name in asked}
        return AskPolicy(
            key=policy, policy=_policy_settings(scaler.settings), environment=goal.environment, contexts=contexts
        )

    def _deciding(self, policy: PolicyKey) -> list[Key]:
        """The deployments that scale by a policy."""
        return [key for key, scaler in self._scalers.items() if scaler.has_policy and _policy_of(key, scaler) == policy]

    def _context(self, key: Key, running: list[str], now: float) -> dict[str, object]:
        scaler = self._scalers[key]
        return {
            "app_name": key[0],
            "deployment_name": key[1],
            "current_num_replicas": len(running),
            "target_num_replicas": scaler.target,
            "running_replicas": running,
            "total_num_requests": scaler.load(now),
            "total_queued_requests": self.waiting(key),
            "capacity_adjusted_min_replicas": scaler.settings.min_replicas,
            "capacity_adjusted_max_replicas": scaler.settings.max_replicas,
            "last_scale_up_time": scaler.scaled_up_at,
            "last_scale_down_time": scaler.scaled_down_at,
            "current_time": now,
        }

    def answered(self, policy: PolicyKey, replicas: Mapping[str, int], failure: str) -> bool:
        """What a user's policy wants, by deployment: what it wanted last of those that are missing. ``failure``: why it
        did not answer; empty: it did. Whether that it fails is news.
        """
        deciding = [(name, self._scalers[application, name]) for application, name in self._deciding(policy)]
        news = bool(failure) and not any(scaler.failure for _, scaler in deciding)
        for name, scaler in deciding:
            scaler.failure = failure
            scaler.wish = replicas.get(name, scaler.wish)
        return news

    def failure(self, key: Key) -> str:
        """Why the user's policy does not decide; empty: it does, or there is none."""
        scaler = self._scalers.get(key)
        return f"The autoscaling policy failed: {scaler.failure}" if scaler is not None and scaler.failure else ""

    @property
    def policies(self) -> set[PolicyKey]:
        """The policies of the users'."""
        return {_policy_of(key, scaler) for key, scaler in self._scalers.items() if scaler.has_policy}

    def forget(self, key: Key) -> None:
        """The deployment is gone, or has a fixed number of replicas now."""
        self._scalers.pop(key, None)

    def _loads_of(self, key: Key) -> list[control_pb2.DeploymentLoad]:
        return [loads[key] for loads in self._loads.values() if key in loads]

    def _measure(self, now: float) -> None:
        for key, scaler in self._scalers.items():
            scaler.window.note(now, self.calls(key))


def _policy_of(key: Key, scaler: Autoscaler) -> PolicyKey:
    application, deployment = key
    return application, None if scaler.settings.application_policy else deployment


def _policy_settings(settings: control_pb2.AutoscalingSettings) -> control_pb2.AutoscalingSettings:
    """What says which policy it is, without bounds and delays: it goes on when these change."""
    return control_pb2.AutoscalingSettings(
        **{field.name: value for field, value in settings.ListFields() if "policy" in field.name}
    )


def carried_over(goal: DeploymentGoal, before: DeploymentGoal | None) -> DeploymentGoal:
    """A new goal that goes on with as many replicas as there are, if it scales by itself."""
    if before is None or not goal.spec.settings.HasField("autoscaling"):
        return goal
    settings = goal.spec.settings.autoscaling
    return replace(goal, scaled=max(settings.min_replicas, min(before.target, settings.max_replicas)))
