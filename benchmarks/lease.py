"""lease: how soon a board goes to the next one after its release, and 200 leases by 20 processes over 5 boards.

Runs on SQLite and on a PostgreSQL of its own. Holders are processes; a double holder ends the benchmark, and so does a
PostgreSQL that is not there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measuring import SPREAD, Benchmark
from crossfarm.boards.leases.leases import Leases
from crossfarm.util.paths import HOME

GOAL = 50.0
PROCESSES, LEASES, BOARDS = 20, 200, tuple(f"board-{number}" for number in range(5))
HANDOVERS = 60

BENCHMARK = Benchmark(
    name="lease",
    what="from the release of a board in one process to its grant in another; "
    f"{LEASES} leases by {PROCESSES} processes over {len(BOARDS)} boards",
    how=f"{HANDOVERS} handovers, the 95th percentile, on SQLite and on a PostgreSQL of its own, the worse of both; a "
    "double holder ends it",
    goal=f"under {GOAL:.0f} ms",
    minutes=1,
)


def use(database: str, count: int) -> None:
    """Take `count` leases one after another and print a line for each; runs in a process of its own."""
    with Leases(database) as leases:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(count):
            lease = leases.acquire(BOARDS, user=f"user-{os.getpid() % 3}", purpose="bench", timeout=120)
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            time.sleep(0.01)
            leases.confirm(lease)
            ended = time.clock_gettime(time.CLOCK_BOOTTIME)
            leases.release(lease)
            print(json.dumps([lease.board, lease.token, began, ended]), flush=True)


def take_turns(database: str, count: int) -> None:
    """Wait for the board `turn` again and again; print when it was granted. Runs in a process of its own."""
    with Leases(database) as leases:
        for _ in range(count):
            print("asking", flush=True)
            lease = leases.acquire(["turn"], user="bench", purpose="bench", timeout=60)
            print(time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
            leases.release(lease)
            sys.stdin.readline()


def start(verb: str, database: str, *arguments: str) -> subprocess.Popen[str]:
    """Start this file as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.lease", verb, database, *arguments]
    return subprocess.Popen(command, cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def say(process: subprocess.Popen[str]) -> None:
    """Let a process go on."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline()


def handovers(database: str, count: int) -> list[float]:
    """Return the milliseconds from the call of release in one process to the grant in another."""
    found = []
    with Leases(database) as leases:
        lease = leases.acquire(["turn"], user="bench", purpose="bench", timeout=30)
        other = start("turns", database, str(count))
        for _ in range(count):
            hear(other)
            while not leases.status().waiting:
                time.sleep(0.01)
            released = time.clock_gettime(time.CLOCK_BOOTTIME)
            leases.release(lease)
            found.append((float(hear(other)) - released) * 1e3)
            lease = leases.acquire(["turn"], user="bench", purpose="bench", timeout=30)
            say(other)
        other.wait(60)
    return found


def crowd(database: str, *, each: int, many: int) -> float:
    """Let `many` processes take `each` leases over 5 boards; returns the seconds, ends when two held one board."""
    processes = [start("use", database, str(each)) for _ in range(many)]
    for process in processes:
        hear(process)
    began = time.monotonic()
    for process in processes:
        say(process)
    held = [json.loads(line) for process in processes for line in process.communicate(timeout=300)[0].splitlines()]
    seconds = time.monotonic() - began
    if len(held) != each * many:
        raise SystemExit(f"{len(held)} of {each * many} leases were granted")
    for board in BOARDS:
        mine = sorted((token, since, end) for name, token, since, end in held if name == board)
        for (first, _, end), (second, began_next, _) in itertools.pairwise(mine):
            if first == second or began_next < end:
                raise SystemExit(f"{board} had two holders, with tokens {first} and {second}")
    return seconds


@contextlib.contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """Run a PostgreSQL of our own; yields the URL of its database."""
    folder = Path(tempfile.mkdtemp(prefix="crossfarm-lease-"))
    owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    os.chown(folder, owner.pw_uid, owner.pw_gid)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs / program), "-D", str(folder / "data"), *arguments],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=owner.pw_uid,
            group=owner.pw_gid,
        )

    try:
        run("initdb", "-A", "trust", "-U", "farm")
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-c listen_addresses='' -k {folder} -N 200", "start")
        yield f"postgresql://farm@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def measure(kind: str, database: str, *, small: bool) -> tuple[float, str]:
    """Print the figures of one database; returns the 95th percentile of the handovers in ms, and how they spread."""
    times = sorted(handovers(database, 5 if small else HANDOVERS))
    p95 = times[int(0.95 * (len(times) - 1))]
    said = f"{kind}: median {statistics.median(times):.1f} ms, 95th percentile {p95:.1f}, max {times[-1]:.1f}"
    print(f"grant after release, {said}")
    many = 4 if small else PROCESSES
    seconds = crowd(database, each=LEASES // PROCESSES, many=many)
    print(
        f"{kind}: {many * (LEASES // PROCESSES)} leases by {many} processes over {len(BOARDS)} boards in "
        f"{seconds:.1f} s, each alone"
    )
    return p95, said


def main() -> None:
    """Measure both databases."""
    small = BENCHMARK.parser(__doc__).parse_args().small
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise SystemExit("PostgreSQL is not installed, so one of two databases cannot be measured; ./inv setup does it")
    with tempfile.TemporaryDirectory() as folder:
        first, of_first = measure("SQLite", f"sqlite:///{folder}/leases.db", small=small)
    with postgresql(programs[-1]) as database:
        second, of_second = measure("PostgreSQL", database, small=small)
    print(f"{SPREAD}{of_first}; {of_second}")
    worst = max(first, second)
    BENCHMARK.finish(worst, "ms until the grant, 95th percentile", good=worst < GOAL, small=small)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["use", url, number]:
            use(url, int(number))
        case ["turns", url, number]:
            take_turns(url, int(number))
        case _:
            main()
