"""What the driver tells gateways and replicas of classes with hints, and of those without."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest
from google.protobuf import descriptor_pb2

from fairlead import serve
from fairlead.serve.derived import building
from fairlead.serve.derived.errors import BreakingChangeError, HintError, LockFileError
from fairlead.serve.graph import application_spec
from fairlead.v1 import control_pb2, serving_pb2_grpc


class Shop:
    def find_all(self, text: str) -> int:
        return len(text)


class Unhinted:
    def find(self, text):  # type: ignore[no-untyped-def]
        return text


class Half(Shop):
    def find(self, text):  # type: ignore[no-untyped-def]
        return text


def interface_of(target: Any, *others: Any) -> control_pb2.DeploymentInterface:
    """The interface of an application's ingress deployment."""
    bound = [serve.deployment(other).bind() for other in others]
    return application_spec(serve.deployment(target).bind(*bound)).deployments[-1].interface


def names(interface: control_pb2.DeploymentInterface) -> list[str]:
    return [service.name for service in interface.typed_services]


def test_an_ingress_deployment_with_hints_has_a_service() -> None:
    interface = interface_of(Shop)
    assert names(interface) == list(interface.derived_services) == ["shop.v1.ShopService"]
    assert dict(interface.typed_services[0].methods) == {"FindAll": "find_all"}
    files = descriptor_pb2.FileDescriptorSet.FromString(interface.descriptor_set).file
    assert files[-1].name == "shop/v1/shop.proto"
    known = {file.name for file in files}
    assert all(dependency in known for file in files for dependency in file.dependency)


@pytest.mark.parametrize("target", [Unhinted, Half, "tests.serve.derived.test_description:Shop"])
def test_others_keep_to_calls_by_name(target: Any) -> None:
    assert names(interface_of(target)) == []


def test_modules_of_pydantic_that_nobody_has_imported_yet_are_not_needed() -> None:
    """pydantic imports its own modules when they are asked for: in a program of its own none has been."""
    program = """
import sys, typing
import annotated_types, pydantic
from fairlead import serve
from fairlead.serve.graph import application_spec
assert "pydantic.fields" not in sys.modules

@serve.deployment
class Shop:
    def find(self, number: typing.Annotated[int, annotated_types.Gt(0)], many: list[int]) -> int:
        return number

print(*application_spec(Shop.bind()).deployments[-1].interface.derived_services)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("shop.v1.ShopService\n", "")


def test_other_deployments_have_one_only_if_they_say_so() -> None:
    @serve.typed
    class Said:
        def one(self) -> int:
            return 1

    said, plain, ingress = application_spec(
        serve.deployment(Unhinted).bind(serve.deployment(Said).bind(), serve.deployment(Shop).bind())
    ).deployments
    assert names(said.interface) == ["said.v1.SaidService"]
    assert names(plain.interface) == []
    assert names(ingress.interface) == []


def test_who_asks_for_a_service_hears_of_hints_that_cannot_be_mapped() -> None:
    typed = serve.typed(type("Half", (Half,), {"__module__": __name__}))
    with pytest.raises(HintError, match=r"Half.find: parameter 'text': it has no type hint"):
        interface_of(typed)
    with pytest.raises(ValueError, match="Nothing has no public method"):
        interface_of(serve.typed(type("Nothing", (), {"__module__": __name__})))


def test_options_of_the_decorator() -> None:
    class Mine(Shop):
        pass

    off = serve.typed(enabled=False)(type("Off", (Shop,), {}))
    assert names(interface_of(off)) == []
    named = serve.typed(serve.deployment(serve.typed(package="books.v3")(Mine)).func_or_class, package="films.v2")
    assert names(interface_of(named)) == ["films.v2.MineService"]
    above = serve.typed(package="a.v1")(serve.deployment(Mine))
    assert names(application_spec(above.bind()).deployments[0].interface) == ["a.v1.MineService"]
    again = cloudpickle.loads(cloudpickle.dumps(Mine))
    assert names(interface_of(again)) == ["a.v1.MineService"]
    with pytest.raises(TypeError, match="for classes and functions, not int"):
        serve.typed(3)
    with pytest.raises(ValueError, match="a protobuf service is called like 'DigitsService', not 'Digits'"):
        interface_of(serve.typed(service="Digits")(type("Called", (Shop,), {})))
    with pytest.raises(TypeError, match="pakage"):
        serve.typed(pakage="a.v1")  # type: ignore[call-overload]


def test_a_class_with_a_service_of_its_own_has_no_other() -> None:
    class Both(serving_pb2_grpc.ServingServiceServicer):
        def find(self, text: str) -> int:
            return 1

    assert names(interface_of(Both)) == ["fairlead.v1.ServingService"]


def test_a_function_still_answers_http_requests() -> None:
    def greet(name: str) -> str:
        return name

    interface = interface_of(greet)
    assert names(interface) == ["greet.v1.GreetService"]
    assert dict(interface.typed_services[0].methods) == {"Call": "__call__"}
    assert interface.handles_requests


BY_VALUE = """\
from __future__ import annotations
import datetime, enum
from collections.abc import Iterator
from dataclasses import dataclass, field
import numpy as np
import numpy.typing as npt
import pydantic
class Colour(enum.Enum):
    RED = 1
@dataclass
class Part:
    name: str
    parts: list[Part] = field(default_factory=list)
    colour: Colour = Colour.RED
class Order(pydantic.BaseModel):
    part: Part
    due: datetime.datetime | None = None
    copies: int = 1
class Shop:
    def find(self, order: Order, pixels: npt.NDArray[np.float32]) -> Iterator[Part]: ...
    def __call__(self, texts: list[str]) -> dict[str, Part]: ...
"""
ELSEWHERE = """\
import pickle, sys
from google.protobuf import descriptor_pool, descriptor_pb2
from fairlead.v1 import control_pb2
from fairlead_replica.typed.derived import derived_conversion
spec = control_pb2.DeploymentSpec.FromString(sys.stdin.buffer.read())
assert not spec.import_path
pool = descriptor_pool.DescriptorPool()
for file in descriptor_pb2.FileDescriptorSet.FromString(spec.interface.descriptor_set).file:
    pool.Add(file)
method = pool.FindServiceByName("shop.v1.ShopService").methods_by_name["Find"]
shop = pickle.loads(spec.pickled_code)()
conversion = derived_conversion(method, shop)
request = conversion._request(order={"part": {"name": "a", "parts": [{"name": "b"}]}})
request.pixels.data_type = 11
request.pixels.shape.append(0)
_, found = conversion.arguments(request.SerializeToString())
print(found["order"], found["pixels"].shape)
message = conversion._response.FromString(conversion.dump(found["order"].part))
print(message.result.parts[0].name, message.result.colour)
"""


def test_a_class_that_travels_by_value_takes_along_what_its_hints_mean(module: Any) -> None:
    spec = application_spec(serve.deployment(module(BY_VALUE).Shop).bind()).deployments[0]
    assert names(spec.interface) == ["shop.v1.ShopService"]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=spec.SerializeToString(), capture_output=True, check=False
    )
    assert done.stderr.decode() == ""
    assert done.stdout.decode().splitlines() == [
        "part=Part(name='a', parts=[Part(name='b', parts=[], colour=<Colour.RED: 1>)], colour=<Colour.RED: 1>) "
        "due=None copies=1 (0,)",
        "b 1",
    ]


# -- the lock file


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Any]:
    """Makes a module of a folder of its own, with a lock file beside it if one is given."""

    def make(code: str) -> ModuleType:
        path = tmp_path / "derived_locked_module.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location("derived_locked_module", path)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = made
        spec.loader.exec_module(made)
        return made

    yield make
    sys.modules.pop("derived_locked_module", None)


SHOP = "class Shop:\n    def find(self, {}) -> None: ...\n"


def locked(module: Any, parameters: str, name: str = "fairlead.lock.json") -> Path:
    """Writes the lock file of a class with those parameters."""
    application = serve.deployment(module(SHOP.format(parameters)).Shop).bind()
    path = Path(sys.modules["derived_locked_module"].__file__ or "").parent / name
    building.write(building.lock_texts(building.derivations(application, path)))
    return path


def numbers(interface: control_pb2.DeploymentInterface) -> dict[str, int]:
    file = descriptor_pb2.FileDescriptorSet.FromString(interface.descriptor_set).file[-1]
    return {field.name: field.number for field in file.message_type[0].field}


def test_numbers_come_from_the_lock_file(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    locked(module, "a: int, b: int")
    assert numbers(interface_of(module(SHOP.format("b: int, a: int")).Shop)) == {"a": 1, "b": 2}
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        assert numbers(interface_of(module(SHOP.format("c: int, b: int")).Shop)) == {"b": 2, "c": 3}
    assert "Shop has changed since" in caplog.messages[0]
    assert "run `fairlead build --proto`" in caplog.messages[0]


def test_what_would_break_callers_is_not_deployed(module: Any) -> None:
    path = locked(module, "a: int")
    with pytest.raises(BreakingChangeError) as raised:
        interface_of(module(SHOP.format("a: str")).Shop)
    assert str(raised.value) == (
        "callers of shop.v1.ShopService would break:\n  field 'a' of FindRequest: its type was int64 and is string. "
        "Keep it as it was and add a field with another name\n"
        f"If nobody calls it yet, `fairlead build --proto --allow-breaking` writes {path} anew"
    )


def test_a_class_that_is_gone_or_called_otherwise_breaks_its_callers(module: Any) -> None:
    path = locked(module, "a: int")
    renamed = module(SHOP.format("a: int").replace("Shop", "Store")).Store
    with pytest.raises(BreakingChangeError) as raised:
        interface_of(renamed)
    said = str(raised.value)
    assert "service shop.v1.ShopService: it is gone: Shop is not there any more, or has another service." in said
    assert "If Store took its place, say @serve.typed(package='shop.v1', service='ShopService')" in said
    kept = serve.typed(package="shop.v1", service="ShopService")(renamed)
    assert names(interface_of(kept)) == ["shop.v1.ShopService"]
    with pytest.raises(BreakingChangeError, match=r"service shop.v1.ShopService: it is gone"):
        interface_of(serve.typed(package="shop.v2")(module(SHOP.format("a: int")).Shop))
    both = module(SHOP.format("a: int") + SHOP.format("b: int").replace("Shop", "Store"))
    assert names(interface_of(both.Store)) == ["store.v1.StoreService"]
    renamed = module(SHOP.format("a: int").replace("Shop", "Store")).Store
    accepted = building.derivations(serve.deployment(renamed).bind())
    building.write(building.lock_texts(accepted))
    assert json.loads(path.read_text())["services"].keys() == {"store.v1.StoreService"}


def test_a_damaged_lock_file_stops_the_deploy(module: Any) -> None:
    locked(module, "a: int").write_text("<<<<<<<")
    with pytest.raises(LockFileError, match="restore it from version control"):
        interface_of(module(SHOP.format("a: int")).Shop)


def test_the_lock_file_may_be_elsewhere(module: Any) -> None:
    path = locked(module, "a: int, b: int", "locks/shop.json")
    assert json.loads(path.read_text())["services"].keys() == {"shop.v1.ShopService"}
    shop = serve.typed(lock="locks/shop.json")(module(SHOP.format("b: int, a: int")).Shop)
    assert numbers(interface_of(shop)) == {"a": 1, "b": 2}
