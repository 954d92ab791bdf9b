"""Updates, scaling and deaths while calls are coming: real controller, gateway worker and replicas."""

import os
import signal
import threading
import time

import pytest

from fairlead.serve import api
from fairlead.serve.deployment import deployment
from fairlead.serve.exceptions import ConnectionLostError, ReplicaUnavailableError


@deployment(num_replicas=2)
class Versioned:
    def __init__(self, version):
        self.version = version

    async def __call__(self):
        return self.version


@deployment(num_replicas=1)
class Fragile:
    def __init__(self, fails):
        if fails:
            raise ValueError("a bad release")

    async def __call__(self):
        return "works"


class Load:
    """Callers that never pause. A context manager: leaving it stops them."""

    def __init__(self, handle):
        self.handle = handle
        self.answers = []
        self.errors = []
        self._stopping = False
        self._threads = [threading.Thread(target=self._call) for _ in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, *error):
        self._stopping = True
        for thread in self._threads:
            thread.join()

    def _call(self):
        while not self._stopping:
            try:
                self.answers.append(self.handle.remote().result(timeout_s=20))
            except Exception as error:
                self.errors.append(error)

    def wait_for_more(self):
        """Blocks until further calls were answered."""
        before, deadline = len(self.answers), time.monotonic() + 60
        while len(self.answers) < before + 20:
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.005)


@pytest.fixture(scope="module", autouse=True)
def instance(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path_factory.mktemp("s")))
        patch.delenv("FAIRLEAD_ADDRESS", raising=False)
        api.start(http_options={"port": 0}, grpc_options={"port": 0})
        yield
        api.shutdown()


@pytest.fixture
def load():
    handle = api.run(Versioned.bind(1))
    with Load(handle) as load:
        yield load


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_call_fails_while_an_application_is_updated_and_scaled(load):
    api.run(Versioned.bind(2))
    load.wait_for_more()
    assert set(load.answers[-10:]) == {2}
    api.run(Versioned.options(num_replicas=3).bind(2))
    load.wait_for_more()
    api.run(Versioned.options(num_replicas=1, max_ongoing_requests=50).bind(2))
    wait_for(lambda: api.status().applications["default"].deployments["Versioned"].replica_states == {"RUNNING": 1})
    load.wait_for_more()
    assert load.errors == []
    assert set(load.answers) == {1, 2}


def test_a_bad_release_leaves_the_good_one_serving():
    handle = api.run(Fragile.bind(fails=False), name="fragile", route_prefix=None)
    with Load(handle) as load:
        with pytest.raises(RuntimeError, match="a bad release"):
            api.run(Fragile.bind(fails=True), name="fragile", route_prefix=None)
        load.wait_for_more()
        assert load.errors == []
    api.delete("fragile")


def test_a_killed_replica_costs_the_calls_it_had_and_no_others(load):
    replica = api.instance_status().applications[0].deployments[0].replicas[0]
    os.kill(replica.pid, signal.SIGKILL)
    load.wait_for_more()
    wait_for(lambda: api.status().applications["default"].status == "RUNNING" and not is_there(replica.pid))
    load.wait_for_more()
    assert len(load.errors) <= 4
    assert all(isinstance(error, ReplicaUnavailableError) for error in load.errors)


def test_a_killed_gateway_worker_costs_the_calls_under_way_and_no_others(load):
    gateway = api.instance_status().gateways[0]
    os.kill(gateway.pid, signal.SIGKILL)
    wait_for(lambda: api.instance_status().gateways[0].ready and api.instance_status().gateways[0].pid != gateway.pid)
    load.wait_for_more()
    assert len(load.errors) <= 4
    assert all(isinstance(error, ConnectionLostError) for error in load.errors)
    assert api.instance_status().gateways[0].http_address == gateway.http_address


def is_there(pid):
    return pid in [
        replica.pid
        for application in api.instance_status().applications
        for one in application.deployments
        for replica in one.replicas
    ]
