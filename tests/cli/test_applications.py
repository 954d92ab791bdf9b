"""What is made of a configuration file: how its instance is reached."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.cli.applications import doors_of, with_options
from fairlead.cli.errors import ConfigFileError
from fairlead.serve.deploy_schema import ServeDeploySchema


def config(**options: Any) -> ServeDeploySchema:
    return ServeDeploySchema.model_validate({"applications": [], **options})


def test_options_that_are_given_win_over_those_of_the_file() -> None:
    file = config(http_options={"port": 8001, "root_path": "/x"}, grpc_options={"port": 9001}, gateways=3)
    doors = doors_of(with_options(file, "config.yaml", http={"port": 0}, grpc={}, gateways=None))
    assert doors.http is not None
    assert doors.grpc is not None
    assert (doors.http.port, doors.http.root_path, doors.grpc.port, doors.gateways) == (0, "/x", 9001, 3)
    assert doors_of(with_options(file, "config.yaml", http={}, grpc={}, gateways=1)).gateways == 1


@pytest.mark.parametrize(
    "options", [{"proxy_location": "Disabled"}, {"http_options": {"host": None}}, {"http_options": {"location": None}}]
)
def test_a_port_of_a_file_that_opens_none_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigFileError, match=r"config\.yaml: it opens no HTTP port; leave out --http-host"):
        with_options(config(**options), "config.yaml", http={"port": 0}, grpc={}, gateways=None)
    with_options(config(**options), "config.yaml", http={"ssl_certfile": "c", "ssl_keyfile": "k"}, grpc={}, gateways=2)
