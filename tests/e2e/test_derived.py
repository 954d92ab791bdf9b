"""Services that are derived from type hints, at every door of a real instance."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from fairlead import serve
from fairlead.serve.api import instance_status
from fairlead.v1 import tensor_pb2
from tests.e2e import derived_app
from tests.e2e.derived_app import Book, Order

LIBRARY = "library.v1.LibraryService"


class Client:
    """A gRPC client that knows what reflection tells it."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self._database = ProtoReflectionDescriptorDatabase(self.channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> list[str]:
        return list(self._database.get_services())

    def call(self, path: str, *requests: dict[str, Any], application: str = "") -> Any:
        """Calls a method as its descriptor says; messages as dictionaries of their fields."""
        service, _, name = path.rpartition(".")
        method = self._pool.FindServiceByName(service).methods_by_name[name]
        asked = message_factory.GetMessageClass(method.input_type)
        answered = message_factory.GetMessageClass(method.output_type)
        kind = "_".join(
            "stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming)
        )
        stub = getattr(self.channel, kind)(
            f"/{service}/{name}", request_serializer=asked.SerializeToString, response_deserializer=answered.FromString
        )
        messages = [asked(**request) for request in requests]
        metadata = (("application", application),) if application else None
        answer = stub(iter(messages) if method.client_streaming else messages[0], timeout=60, metadata=metadata)
        return list(answer) if method.server_streaming else answer


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, httpx.Client]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path_factory.mktemp("s")))
        serve.start(http_options={"port": 0}, grpc_options={"port": 0})
        try:
            serve.run(derived_app.library, name="library", route_prefix="/library")
            serve.run(derived_app.unhinted, name="unhinted", route_prefix="/unhinted")
            serve.run(derived_app.function, name="shout", route_prefix="/shout")
            serve.run(derived_app.batched, name="doubler", route_prefix="/doubler")
            (gateway,) = instance_status().gateways
            client = Client(gateway.grpc_address)
            with httpx.Client(base_url=f"http://{gateway.http_address}", timeout=60) as http:
                yield client, http
            client.channel.close()
        finally:
            serve.shutdown()


@pytest.fixture
def client(instance: tuple[Client, httpx.Client]) -> Client:
    return instance[0]


@pytest.fixture
def http(instance: tuple[Client, httpx.Client]) -> httpx.Client:
    return instance[1]


def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details()


def test_reflection_lists_what_has_hints(client: Client) -> None:
    services = client.services()
    assert {LIBRARY, "stock.v2.StockService", "shout.v1.ShoutService", "doubler.v1.DoublerService"} <= set(services)
    assert not any("Unhinted" in service for service in services)
    assert "fairlead.v1.ServingService" in services


def test_records_go_both_ways(client: Client) -> None:
    order = {"book": {"title": "Emma", "pages": 3, "sold": {"seconds": 86400}}, "size": "SIZE_LARGE"}
    answer = client.call(f"{LIBRARY}.Order", {"order": order, "note": "new"}).result
    assert (answer.book.title, answer.book.tags, answer.copies, answer.size) == ("Emma", ["new"], 1, 2)
    assert answer.book.sold.seconds == 86400


def test_arrays_are_tensors(client: Client) -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    tensor = {"data_type": tensor_pb2.DATA_TYPE_FLOAT32, "shape": values.shape, "data": values.tobytes()}
    answer = client.call(f"{LIBRARY}.Double", {"values": tensor}).result
    assert answer.shape == [2, 3]
    assert np.frombuffer(answer.data, "<f4").tolist() == [0, 2, 4, 6, 8, 10]


def test_streams_both_ways(client: Client) -> None:
    pages = client.call(f"{LIBRARY}.Pages", {"book": {"title": "Emma", "pages": 3}})
    assert [each.result.title for each in pages] == [f"Emma, page {page}" for page in range(3)]
    items = [{"pages": {"title": "", "pages": pages}} for pages in (1, 2, 3)]
    assert client.call(f"{LIBRARY}.Total", *items).result == 6
    assert client.call(f"{LIBRARY}.Total").result == 0


def test_the_first_message_of_a_stream_has_the_other_arguments(client: Client) -> None:
    def call(name: str, *requests: dict[str, Any]) -> Any:
        return client.call(f"{LIBRARY}.{name}", *requests)

    def results(name: str, *requests: dict[str, Any]) -> list[str]:
        return [each.result for each in call(name, *requests)]

    books = [{"title": "a", "pages": 1}, {"title": "b", "pages": 2}]
    items = [{"pages": book} for book in books]
    assert call("Scaled", *items).result == 3
    assert call("Scaled", {"scale": 10}, *items).result == 30
    assert call("Scaled", items[0] | {"scale": 10}, items[1]).result == 30
    assert call("Scaled").result == 0
    assert results("Stamped", {"stamp": "SIZE_LARGE"}, *items) == ["a LARGE", "b LARGE"]
    assert call("Joined", {"titles": "a"}, {"titles": ""}, {"titles": "b"}).result == "a, , b"
    assert call("Joined", {"titles": "a", "separator": ""}, {"titles": "b"}).result == "ab"
    assert results("Numbered", {"first": 3}, {"titles": "a"}, {"titles": "b"}) == ["3. a", "4. b"]
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert refused(lambda: call("Stamped", *items)) == (invalid, "stamp: is missing")
    assert refused(lambda: call("Joined", {"titles": "a"}, {})) == (invalid, "titles: is missing")


def test_a_deployment_that_is_no_ingress_is_typed_if_it_says_so(client: Client) -> None:
    assert client.call("stock.v2.StockService.Count", {"title": "Emma"}).result == 4
    assert client.call(f"{LIBRARY}.InStock", {"titles": ["a", "bc"]}).result == {"a": 1, "bc": 2}


def test_functions_and_batched_methods(client: Client, http: httpx.Client) -> None:
    assert client.call("shout.v1.ShoutService.Call", {"text": "hey", "times": 2}).result == "HEYHEY"
    assert client.call("shout.v1.ShoutService.Call", {"text": "hey"}).result == "HEY"
    assert client.call("doubler.v1.DoublerService.Double", {"value": 21}).result == 42
    assert http.post("/shout/shout/v1/call", json={"text": "hey"}).json() == {"result": "HEY"}


def test_what_is_wrong_is_named(client: Client) -> None:
    def order(**fields: Any) -> tuple[grpc.StatusCode, str]:
        return refused(lambda: client.call(f"{LIBRARY}.Order", {"order": {"book": {"title": "Emma"}} | fields}))

    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert refused(lambda: client.call(f"{LIBRARY}.Order", {})) == (invalid, "order: is missing")
    assert order(copies=-1) == (invalid, "order.copies: Input should be greater than 0")
    assert order(size=7) == (invalid, "order.size: 7 is no value of the enum")
    tensor = {"data_type": tensor_pb2.DATA_TYPE_FLOAT32, "shape": [2], "data": b"1234"}
    code, message = refused(lambda: client.call(f"{LIBRARY}.Double", {"values": tensor}))
    assert (code, message) == (invalid, "values: 2 of float32 are 8 bytes, and there are 4")
    code, message = refused(lambda: client.call(f"{LIBRARY}.Total", {"pages": {}}, {}))
    assert (code, message) == (invalid, "pages: is missing")
    code, message = refused(lambda: client.call(f"{LIBRARY}.Lie", {}))
    assert code is grpc.StatusCode.INTERNAL
    assert "result: 'str' object cannot be interpreted as an integer" in message


def test_json_is_transcoded_below_the_route_prefix(http: httpx.Client) -> None:
    order = {"book": {"title": "Emma", "pages": "3", "sold": "1970-01-02T00:00:00Z"}, "size": "SIZE_LARGE"}
    said = {"book": {**order["book"], "tags": []}, "size": "SIZE_LARGE"}  # what is empty is said as well
    answer = http.post("/library/library/v1/order", json={"order": order})
    assert answer.status_code == 200
    assert answer.json() == {"result": said | {"copies": "1"}}
    data = base64.b64encode(np.array([1.5], "<f4").tobytes()).decode()
    tensor = {"dataType": "DATA_TYPE_FLOAT32", "shape": ["1"], "data": data}
    doubled = http.post("/library/library/v1/double", json={"values": tensor}).json()["result"]
    assert np.frombuffer(base64.b64decode(doubled["data"]), "<f4").tolist() == [3.0]
    refusal = http.post("/library/library/v1/order", json={})
    assert refusal.status_code == 400
    assert "order: is missing" in refusal.text
    assert http.get("/library/anything").text.strip('"') == "any other path: /library/anything"


def test_streams_are_lines_of_json(http: httpx.Client) -> None:
    body = {"book": {"title": "Emma", "pages": 2}}
    answer = http.post("/library/library/v1/pages", json=body, headers={"accept": "application/x-ndjson"})
    lines = [json.loads(line)["result"]["title"] for line in answer.text.splitlines()]
    assert lines == ["Emma, page 0", "Emma, page 1"]


def test_handles_pass_values_as_before() -> None:
    handle = serve.get_app_handle("library")
    sold = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    order = Order(book=Book("Emma", 3, sold))
    assert handle.order.remote(order, note="x").result(timeout_s=20).book == Book("Emma", 3, sold, ["x"])
    assert handle.double.remote(np.ones(2, np.float32)).result(timeout_s=20).tolist() == [2, 2]
    assert serve.get_app_handle("unhinted").echo.remote({"any": "thing"}).result(timeout_s=20) == {"any": "thing"}
