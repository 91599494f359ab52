"""The worker: nothing that a job leaves behind outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from crossfarm.engines.worker import descendants, processes, session_members
from tests.waiting import PATIENCE_SECONDS, wait_until

DAEMONS = """
import os, signal, time
from crossfarm.engines import worker

def daemon(forks):
    os.setsid()
    if forks and os.fork() == 0:
        signal.pause()
    os.write(start, b"x")
    while forks:
        if os.fork() == 0:
            signal.pause()
        time.sleep(0.001)
    signal.pause()

worker._adopt_orphans()
started, start = os.pipe()
if os.fork() == 0:
    # A job that leaves three daemons, each in a session of its own; one of them forks all the time.
    for number in range(3):
        if os.fork() == 0:
            daemon(forks=number == 0)
    for _ in range(3):
        os.read(started, 1)
    os._exit(0)
os.wait()
print(len(worker.descendants(os.getpid())) >= 3, flush=True)
worker.end_descendants()
print(worker.descendants(os.getpid()), flush=True)
"""


def test_daemons_of_a_job_end_even_when_they_fork_meanwhile() -> None:
    command = [sys.executable, "-c", DAEMONS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert done.stdout.split("\n")[:2] == ["True", "[]"], done


def test_members_of_a_session_are_found_when_its_leader_is_gone() -> None:
    script = "import os, signal\nif os.fork() == 0: signal.pause()\nprint(os.getsid(0), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        session = int(leader.stdout.readline())
        leader.wait(timeout=PATIENCE_SECONDS)
        members = session_members(session)
        assert len(members) == 1
        os.kill(members[0], signal.SIGKILL)
        wait_until(lambda: not session_members(session))


def test_this_process_is_among_the_processes_and_below_its_parent() -> None:
    own = next(process for process in processes() if process.id == os.getpid())
    assert own.parent == os.getppid()
    assert os.getpid() in descendants(own.parent)


def test_a_worker_that_is_alone_refuses_to_be_anything_but_the_first_process() -> None:
    command = [sys.executable, "-m", "crossfarm.engines.worker", "--alone"]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 1
    assert "must be the first process of a container" in done.stderr
