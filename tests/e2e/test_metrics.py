"""One scrape of a real instance: the doors, the router, the replicas, batches, models, and metrics of the user's."""

from __future__ import annotations

import asyncio

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairlead import serve
from fairlead.serve import metrics
from fairlead.v1 import serving_pb2, serving_pb2_grpc
from tests.e2e.conftest import Ports
from tests.e2e.peers import body

Samples = dict[str, list[tuple[dict[str, str], float]]]


@serve.deployment(num_replicas=2)
class Measured:
    def __init__(self) -> None:
        self.answers = metrics.Counter("answers", "Answers given.", tag_keys=("kind",))

    async def __call__(self, request) -> str:
        self.answers.inc(tags={"kind": "http"})
        return "ok"

    async def fail(self) -> None:
        raise KeyError("no")

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
    async def doubled(self, numbers: list[int]) -> list[int]:
        return [number * 2 for number in numbers]

    @serve.multiplexed(max_num_models_per_replica=1)
    async def model(self, model_id: str) -> str:
        return model_id

    async def named(self) -> str:
        return await self.model(serve.get_multiplexed_model_id())


@pytest.fixture(scope="module")
def page(ports: Ports) -> Samples:
    handle = serve.run(Measured.bind())
    for _ in range(6):
        assert httpx.get(ports.http, trust_env=False).text == "ok"
    assert httpx.get(f"{ports.http}/-/nothing", trust_env=False).status_code == 200  # goes to the handler
    with grpc.insecure_channel(ports.grpc) as channel:
        stub = serving_pb2_grpc.ServingServiceStub(channel)
        target = serving_pb2.Target(application="default", method="doubled")
        stub.Call(serving_pb2.CallRequest(target=target, payload=body(3)))
        with pytest.raises(grpc.RpcError):
            target.method = "fail"
            stub.Call(serving_pb2.CallRequest(target=target, payload=body()))
    for model in ("a", "b"):
        assert handle.options(multiplexed_model_id=model).named.remote().result(timeout_s=30) == model
    return scraped(ports.http)


def scraped(url: str, query: str = "") -> Samples:
    answer = httpx.get(f"{url}/-/metrics{query}", trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(page: Samples, name: str, **labels: str) -> float:
    return sum(value for found, value in page[f"fairlead_{name}"] if labels.items() <= found.items())


def test_the_doors(page: Samples):
    http = {"application": "default", "route": "/", "method": "GET", "status_code": "200"}
    assert total(page, "serve_num_http_requests_total", **http) == 7
    assert total(page, "serve_http_request_latency_ms_count", **http) == 7
    call = "/fairlead.v1.ServingService/Call"
    assert total(page, "serve_num_grpc_requests_total", route=call, status_code="OK") == 1
    assert total(page, "serve_num_grpc_error_requests_total", route=call) == 1
    assert total(page, "serve_num_ongoing_http_requests") == 0


def test_the_router(page: Samples):
    names = {"application": "default", "deployment": "Measured"}
    assert total(page, "serve_num_router_requests_total", **names) == 11
    assert total(page, "serve_num_replicas", **names) == 2
    assert total(page, "serve_deployment_queued_queries", **names) == 0
    assert total(page, "serve_processes_not_scraped") == 0


def test_both_replicas(page: Samples):
    names = {"application": "default", "deployment": "Measured"}
    assert total(page, "serve_deployment_request_counter_total", **names) == 11
    assert total(page, "serve_deployment_error_counter_total", exception_type="KeyError", **names) == 1
    assert total(page, "serve_deployment_processing_latency_ms_count", **names) == 11
    starts = page["fairlead_serve_deployment_replica_starts_total"]
    assert len({labels["replica"] for labels, _ in starts}) == 2
    assert total(page, "serve_deployment_replica_healthy", **names) == 2, "without a check_health, too"


def test_batches_and_models(page: Samples):
    assert total(page, "serve_batches_processed_total", function_name="Measured.doubled") == 1
    assert total(page, "serve_actual_batch_size_sum") == 1
    assert total(page, "serve_multiplexed_models_load_counter_total") == 2
    assert total(page, "serve_multiplexed_get_model_requests_counter_total") == 2


def test_the_users_own(page: Samples):
    assert total(page, "answers_total", kind="http", deployment="Measured") == 7


def test_another_prefix(page: Samples, ports: Ports):
    assert "ray_serve_num_http_requests_total" in scraped(ports.http, "?prefix=ray_")
    refused = httpx.get(f"{ports.http}/-/metrics?prefix=a%20b", trust_env=False)
    assert refused.status_code == 400
    assert "prefix must be" in refused.text


async def test_scrapes_beside_each_other(page: Samples, ports: Ports):
    async with httpx.AsyncClient(base_url=ports.http, trust_env=False) as client:
        answers = await asyncio.gather(*(client.get("/-/metrics") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
