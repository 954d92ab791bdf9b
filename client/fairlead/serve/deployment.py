"""``@serve.deployment``, and what it makes: deployments, and applications bound from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, overload

from fairlead.serve.batching.decorator import capacity
from fairlead.serve.config import AutoscalingConfig, BackpressureConfig, RequestRouterConfig
from fairlead.serve.settings import DEFAULT, DeploymentConfig
from fairlead.serve.validation import check_text
from fairlead.v1 import control_pb2

logger = logging.getLogger("fairlead.serve")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F", bound=Callable[..., Any])


class Application(Generic[T_co]):
    """A deployment bound to the arguments of its constructor; what ``serve.run`` takes.

    Applications may stand anywhere in the arguments of others: their constructors get a ``DeploymentHandle`` there.
    One object stands for one deployment, however often it is bound.
    """

    __slots__ = ("_args", "_deployment", "_kwargs")

    def __init__(self, deployment: Deployment[T_co], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._deployment = deployment
        self._args = args
        self._kwargs = kwargs

    @property
    def deployment(self) -> Deployment[T_co]:
        """What was bound."""
        return self._deployment

    @property
    def init_args(self) -> tuple[Any, ...]:
        """The positional arguments of the constructor."""
        return self._args

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the constructor."""
        return self._kwargs

    def __repr__(self) -> str:
        return f"Application({self._deployment.name!r})"


class Deployment(Generic[T_co]):
    """A class or function with the settings it runs with. Immutable; made by ``@serve.deployment``."""

    __slots__ = ("_config", "_func_or_class", "_name")

    def __init__(self, func_or_class: Any, name: str, config: DeploymentConfig) -> None:
        check_text("name", name)
        if "#" in name:
            raise ValueError(f"a deployment's name must not contain '#': {name!r}")
        self._func_or_class = func_or_class
        self._name = name
        self._config = config

    @property
    def name(self) -> str:
        """The name; unique in an application."""
        return self._name

    @property
    def func_or_class(self) -> Any:
        """The class, the function, or an import path ``package.module:name``."""
        return self._func_or_class

    @property
    def config(self) -> DeploymentConfig:
        """All settings."""
        return self._config

    @property
    def version(self) -> None:
        """Always None: versions are told apart by code and arguments."""
        return

    @property
    def num_replicas(self) -> int:
        """How many replicas; at first, where it scales by itself."""
        return self._config.num_replicas

    @property
    def user_config(self) -> Any:
        """What ``reconfigure`` gets."""
        return self._config.user_config

    @property
    def max_ongoing_requests(self) -> int:
        """How many calls one replica runs at once. Where it was not given: 5, or as many as its batches can hold."""
        return self._config.ongoing_limit(capacity(self._func_or_class))

    @property
    def max_queued_requests(self) -> int:
        """How many calls may wait for a slot; -1: no limit of its own."""
        return self._config.max_queued_requests

    @property
    def backpressure_config(self) -> BackpressureConfig:
        """How a HTTP call that finds the queue full is answered."""
        return self._config.backpressure_config

    @property
    def autoscaling_config(self) -> AutoscalingConfig | None:
        """None: the number of replicas is fixed."""
        return self._config.autoscaling_config

    @property
    def ray_actor_options(self) -> Mapping[str, Any] | None:
        """As given."""
        return self._config.ray_actor_options

    @property
    def logging_config(self) -> Any:
        """As given."""
        return self._config.logging_config

    @property
    def init_args(self) -> tuple[Any, ...]:
        """Empty: arguments belong to the ``Application`` that ``bind`` makes."""
        return ()

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """Empty, as ``init_args``."""
        return {}

    def bind(self, *args: Any, **kwargs: Any) -> Application[T_co]:
        """An application: this deployment with arguments for its constructor.

        Raises ValueError for a function with arguments: functions have no constructor. Raises TypeError for an
        argument that is a deployment and was not bound.
        """
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, Deployment):
                raise TypeError(f"the deployment `{argument.name}` is not bound: pass `{argument.name}.bind()`")
        target = self._func_or_class
        if (args or kwargs) and not isinstance(target, type | str):
            raise ValueError("`args` and `kwargs` are not supported for function deployments: they have no constructor")
        return Application(self, args, kwargs)

    def options(self, *, func_or_class: Any = None, name: Any = DEFAULT.VALUE, **settings: Any) -> Deployment[T_co]:
        """A copy with other settings: the parameters of ``@serve.deployment``, by keyword.

        Raises TypeError for an unknown one, and what the checks of values raise.
        """
        _refuse_unknown(settings)
        new_name = self._name if name is DEFAULT.VALUE or name is None else name
        return Deployment(func_or_class or self._func_or_class, new_name, self._config.update(settings))

    def to_settings(self) -> control_pb2.DeploymentSettings:
        """What the controller is told. Warns of batches that can never be full."""
        batched = capacity(self._func_or_class)
        if self.max_ongoing_requests < batched:
            logger.warning(
                "The batches of %r can hold %d calls (`max_batch_size` * `max_concurrent_batches`), which is larger "
                "than `max_ongoing_requests` (%d): they will never be full.",
                self._name,
                batched,
                self.max_ongoing_requests,
            )
        return self._config.to_settings(batched)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises RuntimeError: deployments are bound and run, not called."""
        raise RuntimeError(
            f"Deployments cannot be constructed directly. Use `{self._name}.bind()` to make an application, "
            "`serve.run()` to run it, and the handle that it returns to call it."
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Deployment):
            return NotImplemented
        return (self._name, self._config, self._func_or_class) == (other._name, other._config, other._func_or_class)

    def __hash__(self) -> int:
        return hash((self._name, id(self._func_or_class)))

    def __repr__(self) -> str:
        return f"Deployment(name={self._name!r}, num_replicas={self._config.num_replicas})"


_KNOWN = frozenset(DeploymentConfig.__dataclass_fields__)


def _refuse_unknown(settings: Mapping[str, Any]) -> None:
    if "version" in settings:
        raise ValueError("`version` is not supported: versions are told apart by code and arguments")
    unknown = sorted(set(settings) - _KNOWN)
    if unknown:
        raise TypeError(f"deployments have no option {', '.join(map(repr, unknown))}; they have {sorted(_KNOWN)}")


def _make(func_or_class: Any, name: Any, settings: Mapping[str, Any]) -> Deployment[Any]:
    if isinstance(func_or_class, Deployment):
        raise TypeError(f"{func_or_class!r} is a deployment already; use its .options()")
    if isinstance(func_or_class, str):
        if not all(func_or_class.partition(":")):
            raise ValueError(f"an import path is 'package.module:name', not {func_or_class!r}")
        own_name = func_or_class.rpartition(":")[2].rpartition(".")[2]
    elif callable(func_or_class):
        own_name = getattr(func_or_class, "__name__", type(func_or_class).__name__)
    else:
        raise TypeError(f"@serve.deployment takes a class or a function, not {type(func_or_class).__name__}")
    given = own_name if name is DEFAULT.VALUE or name is None else name
    return Deployment(func_or_class, given, DeploymentConfig().update(settings))


class DeploymentDecorator:
    """``@serve.deployment(...)``, waiting for the class or function."""

    def __init__(self, name: Any, settings: Mapping[str, Any]) -> None:
        self._name = name
        self._settings = settings

    @overload
    def __call__(self, func_or_class: type[T]) -> Deployment[T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, func_or_class: F) -> Deployment[F]: ...
    def __call__(self, func_or_class: Any) -> Deployment[Any]:
        """The deployment."""
        return _make(func_or_class, self._name, self._settings)


@overload
def deployment(_func_or_class: type[T]) -> Deployment[T]: ...  # type: ignore[overload-overlap]
@overload
def deployment(_func_or_class: F) -> Deployment[F]: ...
@overload
def deployment(
    _func_or_class: None = None,
    *,
    name: str | DEFAULT | None = DEFAULT.VALUE,
    version: DEFAULT = DEFAULT.VALUE,
    num_replicas: int | str | DEFAULT | None = DEFAULT.VALUE,
    ray_actor_options: Mapping[str, Any] | DEFAULT | None = DEFAULT.VALUE,
    placement_group_bundles: list[dict[str, float]] | DEFAULT | None = DEFAULT.VALUE,
    placement_group_strategy: str | DEFAULT | None = DEFAULT.VALUE,
    placement_group_bundle_label_selector: list[dict[str, str]] | DEFAULT | None = DEFAULT.VALUE,
    max_replicas_per_node: int | DEFAULT | None = DEFAULT.VALUE,
    user_config: Any = DEFAULT.VALUE,
    max_ongoing_requests: int | DEFAULT = DEFAULT.VALUE,
    max_queued_requests: int | DEFAULT = DEFAULT.VALUE,
    backpressure_config: BackpressureConfig | Mapping[str, Any] | DEFAULT | None = DEFAULT.VALUE,
    autoscaling_config: AutoscalingConfig | Mapping[str, Any] | DEFAULT | None = DEFAULT.VALUE,
    graceful_shutdown_wait_loop_s: float | DEFAULT = DEFAULT.VALUE,
    graceful_shutdown_timeout_s: float | DEFAULT = DEFAULT.VALUE,
    health_check_period_s: float | DEFAULT = DEFAULT.VALUE,
    health_check_timeout_s: float | DEFAULT = DEFAULT.VALUE,
    logging_config: Any = DEFAULT.VALUE,
    request_router_config: RequestRouterConfig | Mapping[str, Any] | DEFAULT | None = DEFAULT.VALUE,
    max_constructor_retry_count: int | DEFAULT = DEFAULT.VALUE,
    gang_scheduling_config: Any = DEFAULT.VALUE,
    deployment_actors: Any = DEFAULT.VALUE,
    rolling_update_percentage: float | DEFAULT = DEFAULT.VALUE,
    max_surge_percent: float | DEFAULT = DEFAULT.VALUE,
) -> DeploymentDecorator: ...
@overload
def deployment(_func_or_class: str, *, name: str | None = None, **settings: Any) -> Deployment[Any]: ...
def deployment(_func_or_class: Any = None, *, name: Any = DEFAULT.VALUE, **settings: Any) -> Any:
    """Makes a class or function deployable; bare, or with settings (``DeploymentConfig`` says what they mean).

    Also takes an import path, ``serve.deployment("package.module:Class", num_replicas=2)``, for code that this program
    need not import. Raises TypeError for unknown settings, TypeError or ValueError for values that cannot be.
    """
    if settings.get("version") is DEFAULT.VALUE:
        del settings["version"]
    _refuse_unknown(settings)
    if _func_or_class is None:
        DeploymentConfig().update(settings)  # so that a mistake shows where the settings stand
        return DeploymentDecorator(name, settings)
    return _make(_func_or_class, name, settings)
