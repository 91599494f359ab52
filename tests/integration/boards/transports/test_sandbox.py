"""Hostile programs in real sandboxes of bubblewrap and by unshare: what they reach, what they leave, how they end."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from crossfarm.boards.transports.bundle_run import ProgramResult, run_bundle
from crossfarm.errors import BoardError, BundleError
from crossfarm.util import sandbox
from tests.waiting import stretched, wait_until

pytestmark = pytest.mark.integration

Kind = Literal["bubblewrap", "unshare"]
MANIFEST = {"cases": 2, "outputs": [{"name": "y", "dtype": "float32", "shape": [3]}]}
WRITE = 'while [ $# -gt 0 ]; do case "$1" in --result) result=$2 ;; --outputs) outputs=$2 ;; esac; shift; done\n'
"""Finds out where the program may write."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prison:
    """A bundle whose program is a shell script, and a folder for what it writes."""

    kind: Kind
    folder: Path

    def run(self, script: str, *, timeout: float = 30.0, prefix: tuple[str, ...] = ()) -> ProgramResult:
        """Run a script as a bundle's program."""
        bundle, output = self.folder / "bundle", self.folder / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        (bundle / "program").write_text(f"#!/bin/sh\n{WRITE}{script}\n")
        (bundle / "program").chmod(0o755)
        return run_bundle(bundle, [], output=output, timeout=timeout, prefix=prefix, kind=self.kind)

    def said(self, script: str) -> str:
        """Return what a script writes into its result."""
        self.run(f"{{ {script}\n}} >$result 2>&1\nexit 0")
        return (self.folder / "output" / "result.json").read_text()


@pytest.fixture(params=["bubblewrap", "unshare"])
def prison(request: pytest.FixtureRequest, tmp_path: Path) -> Prison:
    """Return a prison of each kind; both must work wherever these tests run."""
    kind: Kind = request.param
    if not sandbox.works(kind):
        pytest.skip(f"{kind} cannot make namespaces on this machine; {sandbox.ADVICE}")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text(json.dumps(MANIFEST))
    (bundle / "weights.bin").write_bytes(b"weights")
    return Prison(kind=kind, folder=tmp_path)


@pytest.fixture
def home_file() -> Iterator[Path]:
    """Yield a file in the caller's home that anybody may read."""
    path = Path.home() / f".crossfarm-test-{os.getpid()}"
    path.write_text("a secret")
    path.chmod(0o644)
    yield path
    path.unlink()


def test_neither_the_home_nor_any_other_folder_of_this_host_is_seen(prison: Prison, home_file: Path) -> None:
    (prison.folder / "neighbour").write_text("a secret of the store")
    places = (
        f"{home_file} {prison.folder}/neighbour {Path(__file__)} /etc/passwd /etc/shadow /var /run /sys /root /home"
    )
    assert "secret" not in prison.said(f"cat {home_file} {prison.folder}/neighbour")
    assert prison.said(f"for path in {places}; do [ -e $path ] && echo $path; done; echo end") == "end\n"
    assert sorted(prison.said("ls /").split()) == sorted(
        {"bundle", "dev", "etc", "out", "proc", "tmp", "usr", *(name for name in _system_folders())}
    )


def _system_folders() -> Iterator[str]:
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if Path("/", name).exists():
            yield name


def test_nothing_but_the_declared_files_and_a_small_tmp_can_be_written(prison: Prison) -> None:
    places = "/x /bundle/x /bundle/program /bundle/weights.bin /out/x /out/outputs/9.bin /usr/x /dev/x /etc/x /proc/x"
    text = prison.said(f"for path in {places}; do (echo x >$path) 2>/dev/null && echo wrote $path; done; echo end")
    assert text == "end\n"
    text = prison.said(
        "rm -f $result; mv $result $result.old; ln -s /etc/shadow $outputs/0.bin; chmod 777 /out; echo end"
    )
    assert text.endswith("end\n") and "Read-only file system" in text
    assert (prison.folder / "bundle" / "weights.bin").read_bytes() == b"weights"
    assert sorted(path.name for path in (prison.folder / "bundle").iterdir()) == [
        "manifest.json",
        "program",
        "weights.bin",
    ]


def test_a_full_tmp_and_a_full_output_end_at_their_limits(prison: Prison) -> None:
    text = prison.said("head -c 200000000 /dev/zero >/tmp/full; wc -c </tmp/full")
    assert int(text.split()[-1]) <= 64 << 20
    with pytest.raises(BundleError, match=r"wrote more than 24 bytes of outputs/0.bin"):
        prison.run("head -c 25 /dev/zero >$outputs/0.bin")
    prison.run("head -c 600000000 /dev/zero >/dev/null; head -c 24 /dev/zero >$outputs/0.bin")
    assert (prison.folder / "output/outputs/0.bin").read_bytes() == bytes(24)


def test_a_file_ends_at_the_largest_that_is_declared(prison: Prison) -> None:
    ran = prison.run("yes >$outputs/0.bin; echo ended with $? >$result; : >$outputs/0.bin")
    assert ran.code == 0
    assert "ended with" in (prison.folder / "output/result.json").read_text()


def test_there_is_no_network_not_even_this_hosts_own(prison: Prison) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 3)"
        python = Path("/usr/bin/python3")
        if not python.exists():
            pytest.skip("the program that connects is a script of /usr/bin/python3, which is not installed")
        text = prison.said(f'{python} -c "{connect}" && echo connected; cat /proc/net/dev')
    assert "ConnectionRefusedError" in text or "Network is unreachable" in text
    assert "connected\n" not in text
    assert [line.split(":")[0].strip() for line in text.splitlines() if re.match(r" *\w+: +\d", line)] == ["lo"]


def test_no_other_process_is_seen_signalled_or_traced(prison: Prison) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        try:
            text = prison.said(f"kill -KILL {other.pid} {os.getpid()} && echo killed; cd /proc; echo [0-9]*")
            assert other.poll() is None
        finally:
            other.kill()
    assert "killed" not in text
    assert len(text.splitlines()[-1].split()) <= 6
    text = prison.said(
        "for each in /proc/1/fd/0 /proc/1/mem /proc/1/root /proc/1/environ; do cat $each && echo read; done"
    )
    assert "read\n" not in text
    assert prison.run("kill -KILL 1 2>/dev/null; exit 4").code == 4


def test_no_right_is_left_and_none_can_be_got(prison: Prison) -> None:
    text = prison.said("cat /proc/self/status; cat /proc/self/oom_score_adj")
    facts = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert {facts[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd")} == {"0" * 16}
    assert facts["NoNewPrivs"] == "1"
    assert text.splitlines()[-1] == "1000"
    if os.geteuid() == 0:
        assert set(facts["Uid"].split()) == {str(sandbox.NOBODY)}
    text = prison.said(
        "mount -t tmpfs x /tmp && echo mounted; (echo x >/proc/sys/kernel/core_pattern) && echo set; env"
    )
    assert "mounted" not in text and "set" not in text.replace("unset", "").split()


def test_the_environment_of_the_caller_stays_outside(prison: Prison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    text = prison.said("cat /proc/[0-9]*/environ")
    assert "SECRET" not in text and "PATH=/usr/bin" in text


def _marked(mark: str) -> list[int]:
    """Return the processes of this host that have a word in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in words:
                found.append(int(entry.name))
    return found


def _wait_until_gone(mark: str) -> None:
    wait_until(lambda: not _marked(mark), seconds=10)


def test_what_a_program_leaves_behind_ends_with_it(prison: Prison) -> None:
    mark = f"{9000 + os.getpid()}.25"
    ran = prison.run(f"setsid sleep {mark} </dev/null >/dev/null 2>&1 & setsid setsid sleep {mark} & echo x >$result")
    assert ran.code == 0
    _wait_until_gone(mark)


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(prison: Prison) -> None:
    mark = f"{9000 + os.getpid()}.5"
    started, timeout = time.monotonic(), stretched(1)
    told = rf"program did not end within {timeout:g} s and was stopped; .*last line: working"
    with pytest.raises(BoardError, match=told):
        prison.run(
            f"trap '' TERM INT HUP; setsid sleep {mark} & echo working; while :; do sleep 0.05; done", timeout=timeout
        )
    assert time.monotonic() - started < stretched(10)
    _wait_until_gone(mark)


def test_a_farm_that_is_killed_takes_its_programs_along(prison: Prison) -> None:
    mark = f"{9000 + os.getpid()}.75"
    prison.run("exit 0")
    (prison.folder / "bundle/program").write_text(f"#!/bin/sh\nsleep {mark}\n")
    code = (
        "import pathlib, sys; from crossfarm.boards.transports.bundle_run import run_bundle;"
        "p = pathlib.Path(sys.argv[1]);"
        "run_bundle(p / 'bundle', [], output=p / 'output', timeout=60, kind=sys.argv[2])"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(prison.folder), prison.kind]) as farm:
        wait_until(lambda: _marked(mark), process=farm)
        farm.kill()
    _wait_until_gone(mark)


def test_processes_end_at_their_limit(prison: Prison) -> None:
    text = prison.said(
        f"i=0; while [ $i -lt 700 ]; do sleep {9000 + os.getpid()}.125 & i=$((i+1)); done; echo all of them"
    )
    assert "annot fork" in text and "all of them" not in text
    _wait_until_gone(f"{9000 + os.getpid()}.125")


BOMB = """
#include <unistd.h>
int main(int count, char **arguments) {
  (void)count;
  arguments[1][0] = '!';
  for (;;) (void)fork();
}
"""


def test_a_fork_bomb_is_killed(prison: Prison) -> None:
    program = _compiled(prison, BOMB)
    started = time.monotonic()
    with pytest.raises(BoardError, match="did not end within 2 s"):
        run_bundle(program.parent, [], output=prison.folder, timeout=2, kind=prison.kind)
    assert time.monotonic() - started < 30
    _wait_until_gone("!bundle")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGSEGV, "program was killed by SIGSEGV; it crashed"),
        (signal.SIGABRT, "program was killed by SIGABRT; it crashed"),
        (signal.SIGILL, "SIGILL; this CPU lacks an instruction"),
        (signal.SIGKILL, "SIGKILL; the machine ran out of memory"),
    ],
)
def test_a_program_killed_by_a_signal_names_it_and_its_last_words(
    prison: Prison, number: signal.Signals, message: str
) -> None:
    with pytest.raises(BoardError, match=rf"{message}.*\(its last line: so long\)"):
        prison.run(f"echo so long; kill -{number.name[3:]} $$")


def test_exit_code_and_last_words_of_both_streams_come_back(prison: Prison) -> None:
    ran = prison.run("echo out; echo err >&2; exit 3")
    assert (ran.code, ran.tail, ran.sandbox) == (3, "out\nerr\n", prison.kind)


def test_a_program_that_cannot_be_started_is_told(prison: Prison) -> None:
    prison.run("exit 0")
    program, output = prison.folder / "bundle/program", prison.folder / "output"
    program.write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(BoardError, match=r"cannot be started: Exec format error; it is damaged"):
        run_bundle(program.parent, [], output=output, timeout=10, kind=prison.kind)
    program.write_text("#!/no/such/loader\n")
    with pytest.raises(BoardError, match=r"cannot be started: it, or the loader that it names, is not there"):
        run_bundle(program.parent, [], output=output, timeout=10, kind=prison.kind)


def test_a_bundle_that_others_may_not_read_runs_from_a_copy(prison: Prison) -> None:
    bundle = prison.folder / "bundle"
    (bundle / "weights.bin").chmod(0o600)
    bundle.chmod(0o700)
    assert prison.said("cat /bundle/weights.bin") == "weights"
    assert stat.S_IMODE((bundle / "weights.bin").stat().st_mode) == 0o600


def test_an_emulator_outside_of_the_system_is_seen_with_its_library(prison: Prison) -> None:
    tools = prison.folder / "tools"
    (tools / "lib").mkdir(parents=True)
    (tools / "lib" / "libc.so").write_text("the library")
    (tools / "emulator").write_text('#!/bin/sh\ncat "$2/libc.so"; shift 2; exec "$@"\n')
    (tools / "emulator").chmod(0o755)
    ran = prison.run("echo; echo run", prefix=(str(tools / "emulator"), "-L", str(tools / "lib")))
    assert (ran.code, ran.tail) == (0, "the library\nrun\n")


THREADS = """
#include <pthread.h>
#include <stdio.h>
static void *work(void *number) { return number; }
int main(void) {
  pthread_t threads[8];
  int good = 0;
  for (int i = 0; i < 8; ++i) good += pthread_create(&threads[i], NULL, work, NULL) == 0;
  for (int i = 0; i < good; ++i) pthread_join(threads[i], NULL);
  return printf("%d threads\\n", good) < 0;
}
"""

HOG = """
#include <stdlib.h>
int main(void) {
  while (malloc(64 << 20) != NULL) continue;
  return 5;
}
"""


def _compiled(prison: Prison, source: str) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("the program of this test is made with gcc, which is not installed; ./inv setup installs it")
    prison.run("exit 0")
    program, text = prison.folder / "bundle" / "program", prison.folder / "program.c"
    text.write_text(source)
    subprocess.run([compiler, "-O0", "-o", str(program), str(text)], check=True)
    return program


def test_memory_ends_before_the_machines_does(prison: Prison) -> None:
    program = _compiled(prison, HOG)
    assert run_bundle(program.parent, [], output=prison.folder, timeout=60, kind=prison.kind).code == 5


def test_a_real_emulator_runs_a_dynamic_program_with_threads(prison: Prison) -> None:
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    libraries = Path("/usr/aarch64-linux-gnu")
    if emulator is None or not libraries.is_dir():
        pytest.skip("qemu for aarch64 and its C library are not installed; ./inv setup installs them")
    prison.run("exit 0")
    program, source = prison.folder / "bundle" / "program", prison.folder / "program.c"
    source.write_text(THREADS)
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.17", "-pthread"]
    subprocess.run([*compiler, "-o", str(program), str(source)], check=True)
    output = prison.folder / "output"
    ran = run_bundle(
        program.parent,
        [],
        output=output,
        timeout=60,
        prefix=(emulator, "-L", str(libraries)),
        kind=prison.kind,
    )
    assert (ran.code, ran.tail) == (0, "8 threads\n")
