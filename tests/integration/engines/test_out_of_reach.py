"""No job answers for itself or for a later one: the worker and its connection are out of the reach of jobs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from crossfarm.engines.container import container
from crossfarm.engines.container.limits import GIB, ResourceLimits
from crossfarm.util.docker import Daemon

pytestmark = pytest.mark.integration

Trial = Any
"""The class of conftest.py, which pytest does not let be imported."""

GENUINE = """
assert (job.inputs["input"] / "file").read_text() == "content"
(job.output / "result").write_text("genuine")
"""

REACH = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
reached = []

def attempt(what, action):
    try:
        if action() == -1:
            return
    except OSError:
        return
    reached.append(what)

class Span(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

others = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}
assert 1 in others
for process in others:
    for task in (f"{process}", f"{process}/task/{process}"):
        for name in [f"fd/{number}" for number in range(64)] + ["mem"]:
            for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                attempt(f"open {name}", lambda: os.open(f"/proc/{task}/{name}", mode | os.O_NONBLOCK))
        for name in ("maps", "environ", "auxv", "syscall", "stack", "io", "map_files", "fdinfo/1"):
            attempt(f"read {name}", lambda: os.read(os.open(f"/proc/{task}/{name}", os.O_RDONLY), 1))
        for name in ("root", "cwd", "exe", "fd/1", "ns/pid"):
            attempt(f"follow {name}", lambda: os.readlink(f"/proc/{task}/{name}"))
        attempt("list root", lambda: os.listdir(f"/proc/{task}/root"))
    attempt("ptrace attach", lambda: libc.ptrace(16, process, None, None))
    attempt("ptrace seize", lambda: libc.ptrace(0x4206, process, None, None))
    here = ctypes.create_string_buffer(8)
    mine, theirs = Span(ctypes.addressof(here), 8), Span(ctypes.addressof(here), 8)
    for call in (libc.process_vm_readv, libc.process_vm_writev):
        attempt("memory", lambda: call(process, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0))
    handle = os.pidfd_open(process)
    for number in range(16):
        attempt(f"pidfd_getfd {number}", lambda: libc.syscall(438, handle, number, 0))
(job.output / "reached").write_text(" ".join(reached))
"""

SIGNALS = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
for number in range(1, 65):
    try:
        os.kill(1, number)
        signal.pidfd_send_signal(os.pidfd_open(1), number)
    except OSError:
        pass
for code in (-1, -2, -6):  # SI_QUEUE, SI_TIMER, SI_TKILL, each as if from outside of the container: process 0
    made_up = (ctypes.c_int * 32)(signal.SIGTERM, 0, code, 0, 0, 0)
    libc.syscall(129, 1, signal.SIGTERM, ctypes.byref(made_up))
"""

ANSWERS = """
import json, os, time
REPLY = json.dumps({"status": 0, "out_of_memory": False, "reusable": True, "secret": "0" * 32}).encode() + b"\\n"

def answer():
    for process in os.listdir("/proc"):
        if process.isdigit() and int(process) != os.getpid():
            for number in range(8):
                try:
                    os.write(os.open(f"/proc/{process}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK), REPLY)
                except OSError:
                    pass

def forge():
    try:
        os.makedirs("/job/out/output", exist_ok=True)
        with open("/job/out/output/result", "w") as result:
            result.write("forged")
        with open("/job/out/outcome.json", "w") as outcome:
            outcome.write(json.dumps({"good": True, "seconds": 1.0, "cause": "", "fault": None}))
    except OSError:
        pass

def seen():
    try:
        with open("/job/out/job.json") as job_file:
            return json.load(job_file)["id"]
    except (OSError, ValueError):
        return None

def meddle(seconds):
    known, until = seen(), time.monotonic() + seconds
    forge()
    answer()
    while time.monotonic() < until:
        now = seen()
        if now is not None and now != known:  # the next job is here
            forge()
            answer()
            known = now
        time.sleep(0.01)
"""

OUTLIVES = (
    ANSWERS
    + """
def live_on(again):
    os.setsid()
    if os.fork():
        os._exit(0)
    while again:  # each process lives shortly and starts the next
        meddle(0.05)
        if os.fork():
            os._exit(0)
    meddle(60)

for again in (False, True, False, True):
    if os.fork() == 0:
        live_on(again)
meddle(0.5)
"""
)


def _next_jobs_are_genuine(trial: Trial, count: int = 2) -> None:
    for _ in range(count):
        outcome, folder = trial.run(GENUINE)
        assert outcome.good, outcome.cause
        assert (folder / "output" / "result").read_text() == "genuine"


@pytest.fixture
def trial(begin: Any) -> Trial:
    made = begin()
    _next_jobs_are_genuine(made, count=1)
    return made


def test_a_job_opens_traces_and_reads_no_other_process(trial: Trial) -> None:
    outcome, folder = trial.run(REACH)
    assert outcome.good, outcome.cause
    assert (folder / "output" / "reached").read_text() == ""
    _next_jobs_are_genuine(trial)


def test_no_signal_of_a_job_reaches_its_worker(trial: Trial) -> None:
    before = trial.boxes()
    outcome, _ = trial.run(SIGNALS)
    assert outcome.good, outcome.cause
    _next_jobs_are_genuine(trial)
    assert trial.boxes() == before, "the worker ended"


def test_a_job_that_answers_for_itself_does_not_answer_for_later_ones(trial: Trial) -> None:
    trial.run(ANSWERS + "\nmeddle(3)")
    _next_jobs_are_genuine(trial)


def test_a_job_that_outlives_its_end_does_not_answer_for_later_ones(trial: Trial) -> None:
    trial.run(OUTLIVES)
    _next_jobs_are_genuine(trial)


def test_the_secret_of_a_job_is_nowhere_in_its_memory(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def new_secret() -> str:
        made.append("c0ffee" + secrets.token_hex(13))
        return made[-1]

    monkeypatch.setattr(container, "new_secret", new_secret)
    code = """
        import re
        found, searched = [], 0
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
            for line in maps:
                if line.split()[1].startswith("rw"):
                    first, last = (int(end, 16) for end in line.split()[0].split("-"))
                    try:
                        memory.seek(first)
                        content = memory.read(last - first)
                    except OSError:
                        continue
                    searched += len(content)
                    found += re.findall(rb"c0ffe[e][0-9a-f]{26}", content)
        assert searched > 1 << 20
        (job.output / "found").write_text(repr(sorted(set(found))))
    """
    # An earlier job's secret may stand there; it is worth nothing any more.
    for _ in range(2):
        outcome, folder = trial.run(code)
        assert outcome.good, outcome.cause
        assert made[-1] not in (folder / "output" / "found").read_text()


@pytest.mark.parametrize(
    "change",
    [
        "resource.prlimit(1, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))",
        "os.sched_setaffinity(1, {min(os.sched_getaffinity(1))})",
        "os.setpriority(os.PRIO_PROCESS, 1, 19)",
        "open('/proc/1/oom_score_adj', 'w').write('900')",
        "os.rename('/dev/null', '/dev/nothing'); open('/dev/null', 'w').write('something')",
        "open('/dev/left-here', 'w').write('something')",
    ],
)
def test_a_worker_that_a_job_changed_gets_no_other_job(trial: Trial, change: str) -> None:
    before = trial.boxes()
    code = f"""
        import os, resource
        try:
            {change}
            said = "changed"
        except OSError:
            said = "refused"
        (job.output / "said").write_text(said)
    """
    outcome, folder = trial.run(code)
    assert outcome.good, outcome.cause
    was_changed = (folder / "output" / "said").read_text() == "changed"
    assert (trial.boxes() != before) == was_changed
    _next_jobs_are_genuine(trial, count=1)
    outcome, _ = trial.run(
        "import os\nassert open('/dev/null').read() == ''\nassert not os.path.exists('/dev/left-here')"
    )
    assert outcome.good, outcome.cause


@pytest.mark.parametrize(
    "said",
    [
        "",
        "good",
        '{"status": 0}',
        '{"status": 0, "out_of_memory": false, "reusable": true, "secret": "' + "0" * 32 + '"}',
        '{"status": 0, "out_of_memory": false, "reusable": true, "secret": 1}',
        "[" * 60_000,
        "x" * 200_000,
    ],
    ids=["empty", "no JSON", "no secret", "wrong secret", "no text", "deep", "long"],
)
def test_what_is_no_reply_is_told_and_nothing_is_taken(
    begin: Any, changed_home: Callable[[str, str, str], Path], daemon: Daemon, said: str
) -> None:
    reply = f"import sys; os.write(replies, {said!r}.encode() + bytes([10]))"
    home = changed_home("worker.py", "os.write(replies, reply.encoded(secret.decode()))", reply)
    trial = begin(home=home)
    outcome, folder = trial.run(GENUINE)
    assert not outcome.good
    assert outcome.fault == "infrastructure"
    assert "none of this job" in outcome.cause
    assert not list((folder / "output").iterdir())
    assert trial.boxes() == []


def test_where_a_process_of_a_job_cannot_be_ended_there_is_no_reply_and_nothing_is_taken(
    begin: Any, changed_home: Callable[[str, str, str], Path]
) -> None:
    home = changed_home("container/isolation.py", "            os.kill(-1, signal.SIGKILL)", "            pass")
    trial = begin(home=home)
    outcome, folder = trial.run("import os, time\nif os.fork() == 0:\n    time.sleep(600)\n" + GENUINE)
    assert not outcome.good
    assert outcome.fault == "infrastructure"
    assert "could not be ended" in outcome.cause
    assert not list((folder / "output").iterdir())
    assert trial.boxes() == []


def test_nothing_of_a_job_that_took_too_long_is_taken(begin: Any) -> None:
    trial = begin(limits=ResourceLimits(memory=GIB // 2, cpus=1.0, processes=64, seconds=3.0))
    outcome, folder = trial.run(ANSWERS + "\nmeddle(600)")
    assert not outcome.good
    assert "longer than 3 s" in outcome.cause
    assert not list((folder / "output").iterdir())
    assert trial.boxes() == []


def test_a_container_that_is_stopped_from_outside_ends_at_once(trial: Trial, daemon: Daemon) -> None:
    api = docker.APIClient(base_url=daemon.address, version="auto")
    try:
        (mine,) = trial.engine._all
        started = time.monotonic()
        api.stop(mine.id, timeout=60)
        assert time.monotonic() - started < 30
    finally:
        api.close()
