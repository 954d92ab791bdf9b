"""The OpenAPI document of a real instance, and the page that shows it, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from fairlead import serve
from fairlead.serve.api import RunTarget
from tests.browser import browser
from tests.e2e.conftest import Ports
from tests.e2e.routes_app import Rest, Shop, Slow, double
from tests.e2e.stage import PATIENCE_S, Stage


@pytest.fixture(scope="module")
def base(ports: Ports, stage: Stage) -> str:
    serve.run_many(
        [
            RunTarget(target=Shop.bind(stage, Slow.bind(stage)), name="shop", route_prefix="/shop"),
            RunTarget(target=Rest.bind(), name="rest", route_prefix="/rest"),
            RunTarget(target=double.bind(), name="double", route_prefix="/"),
        ]
    )
    return ports.http


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("chrome")) as chrome:
        yield chrome


@pytest.fixture
def page(chrome: Chrome, base: str) -> Chrome:
    """The page, loaded."""
    chrome.get(f"{base}/-/docs")
    WebDriverWait(chrome, PATIENCE_S).until(lambda chrome: chrome.find_elements(By.CSS_SELECTOR, "details.operation"))
    return chrome


def opened(page: Chrome, operation: str) -> WebElement:
    """An operation, expanded."""
    element = page.find_element(By.CSS_SELECTOR, f'details[data-operation="{operation}"]')
    assert not element.find_elements(By.TAG_NAME, "form")
    element.find_element(By.TAG_NAME, "summary").click()
    WebDriverWait(page, PATIENCE_S).until(lambda _: element.find_elements(By.TAG_NAME, "form"))
    return element


def tried(page: Chrome, element: WebElement) -> tuple[str, str]:
    """The status line and the body of the answer, once it is complete."""
    element.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    WebDriverWait(page, PATIENCE_S).until(
        lambda _: "ms" in _text(element, ".status") and "…" not in _text(element, ".status")
    )
    return _text(element, ".status"), _text(element, "pre.answer")


def _text(element: WebElement, selector: str) -> str:
    found = element.find_elements(By.CSS_SELECTOR, selector)
    return found[0].text if found else ""


class TestDocument:
    @pytest.fixture
    def document(self, base: str) -> Any:
        return httpx.get(f"{base}/-/openapi.json").json()

    def test_it_is_valid(self, document: Any) -> None:
        OpenAPIV31SpecValidator(document).validate()
        assert document["openapi"].startswith("3.1")

    def test_it_describes_parameters_bodies_and_answers(self, document: Any) -> None:
        item = document["paths"]["/shop/items/{number}"]
        assert set(item) == {"get", "put", "patch"}
        assert item["get"]["summary"] == "Shows one item."
        parameters = {each["name"]: each for each in item["get"]["parameters"]}
        assert (parameters["number"]["in"], parameters["number"]["schema"]) == ("path", {"type": "integer"})
        assert parameters["tags"]["in"] == "query"
        assert not parameters["tags"]["required"]
        create = document["paths"]["/shop/items"]["post"]
        schema = create["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Item"}
        assert document["components"]["schemas"]["Item"]["description"] == "Something to sell."
        assert set(document["paths"]["/shop/count/{upto}"]["get"]["responses"]["200"]["content"]) == {
            "application/x-ndjson",
            "text/event-stream",
            "application/json",
        }
        assert "/double" in document["paths"]
        assert "/rest/known" in document["paths"]


class TestPage:
    def test_it_needs_nothing_from_elsewhere(self, page: Chrome) -> None:
        loaded = page.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
        assert [name.rpartition("/-/")[2] for name in loaded] == ["openapi.json"]
        assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []

    def test_an_operation_with_a_body(self, page: Chrome) -> None:
        element = opened(page, "POST /shop/items")
        body = element.find_element(By.CSS_SELECTOR, "textarea[name='body!']")
        assert '"price"' in body.get_property("value")
        body.clear()
        body.send_keys('{"name": "cup", "price": 2}')
        Select(element.find_element(By.NAME, "dry_run")).select_by_value("true")
        status, answer = tried(page, element)
        assert status.startswith("200")
        assert '"name": "cup True"' in answer

    def test_an_operation_with_parameters(self, page: Chrome) -> None:
        element = opened(page, "GET /shop/items/{number}")
        element.find_element(By.NAME, "number").send_keys("12")
        Select(element.find_element(By.NAME, "color")).select_by_value("blue")
        element.find_element(By.NAME, "tags").send_keys("a b\nc")
        status, answer = tried(page, element)
        assert "/shop/items/12?color=blue&tags=a+b&tags=c" in status
        assert '"tags": [\n    "a b",\n    "c"\n  ]' in answer

    def test_a_refusal_is_shown(self, page: Chrome) -> None:
        element = opened(page, "GET /double")
        element.find_element(By.NAME, "value").send_keys("two")
        status, answer = tried(page, element)
        assert status.startswith("400")
        assert "query.value" in answer

    def test_a_stream_is_shown(self, page: Chrome) -> None:
        element = opened(page, "GET /shop/count/{upto}")
        element.find_element(By.NAME, "upto").send_keys("2")
        Select(element.find_element(By.NAME, "accept!")).select_by_value("text/event-stream")
        status, answer = tried(page, element)
        assert "text/event-stream" in status
        assert answer.splitlines()[0] == 'data: {"number":0}'

    def test_operations_can_be_filtered(self, page: Chrome) -> None:
        page.find_element(By.ID, "filter").send_keys("rest/KNOWN")
        shown = [each for each in page.find_elements(By.CSS_SELECTOR, "details.operation") if each.is_displayed()]
        assert [each.get_attribute("data-operation") for each in shown] == ["GET /rest/known"]
