"""What a hostile job tries fails, is told in one line, and leaves the next job in its slot unharmed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from crossfarm.engines.container.limits import GIB, ResourceLimits

pytestmark = pytest.mark.integration

Trial = Any
"""The class of conftest.py, which pytest does not let be imported."""

GOOD = """
import os
assert os.listdir("/tmp") == [] and os.listdir("/dev/shm") == [], "something was left"
alive = {int(name) for name in os.listdir("/proc") if name.isdigit()}
assert alive == {1, os.getpid()}, "somebody was left"
assert (job.inputs["input"] / "file").read_text() == "content"
(job.output / "good").write_text("good")
"""


def _next_job_works(trial: Trial) -> None:
    outcome, folder = trial.run(GOOD)
    assert outcome.good, outcome.cause
    assert (folder / "output" / "good").read_text() == "good"


@pytest.fixture
def trial(begin: Any) -> Trial:
    made = begin()
    _next_job_works(made)
    return made


def test_a_job_reaches_no_network(trial: Trial) -> None:
    code = """
        import socket
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        socket.create_connection(("192.0.2.1", 53), timeout=5)
    """
    outcome, _ = trial.run(code)
    assert not outcome.good
    assert "Network is unreachable" in outcome.cause
    _next_job_works(trial)


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/cron.d/evil', 'w')",
        "open('/project/crossfarm/stages/job.py', 'a')",
        "open('/job/in/evil', 'w')",
        "(job.inputs['input'] / 'file').chmod(0o666)",
        "(job.inputs['input'] / 'file').unlink()",
        "open('/proc/sys/kernel/core_pattern', 'w')",
    ],
)
def test_a_job_writes_nowhere_but_into_its_output(trial: Trial, attempt: str) -> None:
    outcome, folder = trial.run(attempt)
    assert not outcome.good
    assert "Read-only file system" in outcome.cause or "Permission denied" in outcome.cause, outcome.cause
    assert (folder.parent / "object").read_text() == "content"
    assert (folder.parent / "object").stat().st_mode & 0o777 == 0o444
    _next_job_works(trial)


def test_a_fork_bomb_ends_with_its_job(trial: Trial) -> None:
    code = """
        import os, time
        while True:
            try:
                if os.fork() == 0:
                    os.setsid()
            except BlockingIOError as error:
                if os.getpid() != first:
                    continue
                time.sleep(1)
                raise
    """
    outcome, _ = trial.run("import os\nfirst = os.getpid()\n" + "\n".join(line[8:] for line in code.splitlines()))
    assert not outcome.good
    assert "Resource temporarily unavailable" in outcome.cause
    _next_job_works(trial)


def test_ten_gigabytes_are_more_than_a_job_may_take(trial: Trial) -> None:
    code = """
        taken = []
        for _ in range(10):
            taken.append(b"x" * (1 << 30))
    """
    outcome, _ = trial.run(code)
    assert not outcome.good
    assert outcome.fault == "infrastructure"
    assert "ran out of memory" in outcome.cause
    assert "0.5 GiB" in outcome.cause
    assert "--memory" in outcome.cause
    _next_job_works(trial)


def test_a_full_scratch_folder_is_the_jobs_own_trouble(trial: Trial) -> None:
    outcome, _ = trial.run("with open('/tmp/big', 'wb') as big:\n    while True: big.write(bytes(1 << 24))")
    assert not outcome.good
    assert "No space left" in outcome.cause
    _next_job_works(trial)


def test_a_job_sees_neither_the_callers_home_nor_environment(
    begin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "secret")
    secret = Path.home() / f".crossfarm-test-{os.getpid()}"
    secret.write_text("secret")
    try:
        trial = begin()
        outcome, _ = trial.run(f"import os\nassert 'SECRET_OF_THE_CALLER' not in os.environ\nopen({str(secret)!r})")
        assert not outcome.good
        assert "No such file" in outcome.cause or "Permission denied" in outcome.cause, outcome.cause
        listed, folder = trial.run("import os\n(job.output / 'root').write_text(' '.join(os.listdir('/job')))")
        assert listed.good
        assert sorted((folder / "output" / "root").read_text().split()) == ["in", "out"]
        _next_job_works(trial)
    finally:
        secret.unlink()


def test_a_job_has_the_callers_user_and_no_capabilities(trial: Trial) -> None:
    code = """
        import os
        status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
        (job.output / "said").write_text(f"{os.getuid()} {os.getgid()} {int(status['CapEff'], 16)} "
            f"{int(status['CapBnd'], 16)} {int(status['NoNewPrivs'])}")
    """
    outcome, folder = trial.run(code)
    assert outcome.good, outcome.cause
    assert (folder / "output" / "said").read_text() == f"{os.getuid()} {os.getgid()} 0 0 1"
    assert (folder / "output" / "said").stat().st_uid == os.getuid()


def test_what_a_job_leaves_behind_is_gone_when_the_next_one_comes(trial: Trial) -> None:
    code = """
        import os, time
        os.makedirs("/tmp/closed/inside"); open("/tmp/closed/inside/file", "w"); os.chmod("/tmp/closed", 0)
        open("/dev/shm/file", "w"); os.symlink("/project", "/tmp/link")
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
    """
    before = trial.boxes()
    outcome, _ = trial.run(code)
    assert outcome.good, outcome.cause
    _next_job_works(trial)
    assert trial.boxes() == before


def test_a_job_that_never_ends_is_ended(begin: Any) -> None:
    trial = begin(limits=ResourceLimits(memory=GIB // 2, cpus=1.0, processes=64, seconds=2.0))
    outcome, _ = trial.run("import time\nprint('still here', flush=True)\ntime.sleep(600)")
    assert not outcome.good
    assert outcome.fault == "infrastructure"
    assert "longer than 2 s" in outcome.cause
    assert "still here" in outcome.cause
    _next_job_works(trial)
