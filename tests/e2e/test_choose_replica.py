"""A slot of one of two real replicas, held for a block and used by one call: controller, gateway and replicas."""

import os
import signal

import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.exceptions import BackPressureError, DeadlineExceededError, ReplicaUnavailableError


@serve.deployment(num_replicas=2, max_ongoing_requests=1, max_queued_requests=1)
class Worker:
    async def where(self, *args):
        return serve.get_replica_context().replica_id, args

    async def items(self, count):
        for number in range(count):
            yield serve.get_replica_context().replica_id, number

    async def process(self):
        return os.getpid()


@serve.deployment
class Dispatcher:
    """Chooses and dispatches within a replica, where the wire loop is the user's."""

    def __init__(self, worker):
        self.worker = worker

    async def __call__(self, value):
        async with self.worker.where.choose_replica() as selection:
            return selection.replica_id, await self.worker.where.dispatch(selection, value)


@pytest.fixture(scope="module", autouse=True)
def instance(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path_factory.mktemp("s")))
        patch.delenv("FAIRLEAD_ADDRESS", raising=False)
        api.start(http_options={"port": 0}, grpc_options={"port": 0})
        yield
        api.shutdown()


@pytest.fixture(scope="module")
def dispatcher(instance):
    return serve.run(Dispatcher.bind(Worker.bind()), name="chosen", route_prefix=None)


@pytest.fixture(scope="module")
def worker(dispatcher):
    return serve.get_deployment_handle("Worker", "chosen")


async def test_calls_run_where_they_were_dispatched(worker):
    for number in range(20):
        async with worker.where.choose_replica() as selection:
            assert await worker.where.dispatch(selection, number) == (selection.replica_id, (number,))


async def test_slots_are_held_for_the_block_and_no_longer(worker):
    limited = worker.options(timeout_s=1)
    async with worker.choose_replica() as one, worker.choose_replica() as other:
        assert one.replica_id != other.replica_id
        with pytest.raises(DeadlineExceededError):
            await limited.where.remote()
        waiting = worker.where.remote("waits")
        with pytest.raises(BackPressureError):
            await worker.where.remote()
        items = [item async for item in worker.options(method_name="items", stream=True).dispatch(one, 3)]
        assert items == [(one.replica_id, number) for number in range(3)]
        assert (await waiting)[0] == one.replica_id
    assert {(await worker.where.remote())[0] for _ in range(20)} <= {one.replica_id, other.replica_id}


async def test_a_replica_chooses_and_dispatches(dispatcher):
    for value in range(5):
        chosen, (ran_on, args) = await dispatcher.remote(value)
        assert (ran_on, args) == (chosen, (value,))


async def test_a_replica_that_was_killed_after_it_was_chosen(worker):
    async with worker.choose_replica() as doomed, worker.choose_replica() as other:
        process = await worker.process.dispatch(doomed)
    async with worker.choose_replica() as one, worker.choose_replica() as two:
        selection = one if one.replica_id == doomed.replica_id else two
        rest = two if selection is one else one
        os.kill(process, signal.SIGKILL)
        with pytest.raises(ReplicaUnavailableError):
            await worker.where.dispatch(selection)
        assert (await worker.where.dispatch(rest))[0] == rest.replica_id == other.replica_id
