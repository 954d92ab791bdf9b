import io
import threading

from fairlead.serve.progress import Progress
from fairlead.v1 import control_pb2


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Notifying(io.StringIO):
    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def flush(self):
        self.written.set()


def status(running, message="", state=control_pb2.DEPLOYMENT_STATE_UPDATING):
    replicas = [control_pb2.ReplicaStatus(state=control_pb2.REPLICA_STATE_RUNNING) for _ in range(running)]
    return control_pb2.ApplicationStatus(
        name="default",
        state=control_pb2.APPLICATION_STATE_RUNNING if running == 2 else control_pb2.APPLICATION_STATE_DEPLOYING,
        deployments=[
            control_pb2.DeploymentStatus(
                name="Echo", state=state, target_replicas=2, replicas=replicas, message=message
            )
        ],
    )


def test_a_terminal_sees_every_change_at_once():
    terminal = Terminal()
    with Progress(terminal) as progress:
        progress.show(status(0))
        progress.show(status(0))
        progress.show(status(1, "Traceback\n  somewhere\nValueError: no"))
        progress.show(status(2, state=control_pb2.DEPLOYMENT_STATE_HEALTHY))
    lines = terminal.getvalue().splitlines()
    assert lines[0] == "fairlead: default/Echo  0/2 replicas  UPDATING"
    assert lines[1] == "fairlead: default/Echo  1/2 replicas  UPDATING  ValueError: no"
    assert "\x1b[32mHEALTHY\x1b[0m" in lines[2]
    assert lines[3].startswith("fairlead: default is running after ")
    assert len(lines) == 4


def test_of_a_process_that_ended_how_it_ended_is_shown():
    terminal = Terminal()
    with Progress(terminal) as progress:
        progress.show(status(0, "It failed to start. Error:\nIt ended with signal 9 (SIGKILL).\nloading weights"))
        progress.show(status(1, "Replica a died: it ended with exit status 1.\nloading weights"))
    first, second = terminal.getvalue().splitlines()
    assert first.endswith("UPDATING  It ended with signal 9 (SIGKILL).")
    assert second.endswith("UPDATING  Replica a died: it ended with exit status 1.")


def test_elsewhere_a_quick_deploy_says_nothing():
    stream = io.StringIO()
    with Progress(stream, quiet_s=1000) as progress:
        progress.show(status(0))
        progress.show(status(2))
    assert stream.getvalue() == ""


def test_elsewhere_a_slow_deploy_speaks_up():
    stream = Notifying()
    with Progress(stream, quiet_s=0.01) as progress:
        progress.show(status(1))
        assert stream.written.wait(60)
    assert stream.getvalue() == "fairlead: default/Echo  1/2 replicas  UPDATING\n"
