"""image_cold: building a target's image from nothing but its base, against a plain `docker build` of the same file.

Both ways take turns, every time with a word in the Dockerfile that no cache has seen. Both use the engine's own
(classic) builder, the same base and the same network. What is removed afterwards is what was built.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, between
from crossfarm.images.ensure import BuildOptions, supply_images
from crossfarm.images.identity import dockerfile_path, identities
from crossfarm.images.lock import pinned_base
from crossfarm.util import docker
from crossfarm.util.paths import HOME

GOAL = 1.2
ROUNDS = 3
TARGET = "x86_64"

BENCHMARK = Benchmark(
    name="image_cold",
    what=f"the image of {TARGET} built on its base, against `docker build` of the same file",
    how=f"{ROUNDS} rounds, the two ways in turns, nothing of it in a cache; median of the ratios",
    goal=f"at most {GOAL} x",
    minutes=5,
)


def fresh_clone(folder: Path, *, small: bool) -> Path:
    """Return a folder with what images are made from, whose target image is in no cache; a small one does nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("dockerfiles", ".crossfarm/images.lock", "images.lock", "requirements.lock", ".dockerignore"):
        source = HOME / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    path = folder / dockerfile_path(TARGET)
    head, line, rest = path.read_text().partition("FROM ${BASE_IMAGE}\n")
    rest = "RUN true\n" if small else rest
    path.write_text(f"{head}{line}ENV CROSSFARM_BENCHMARK={uuid.uuid4().hex}\n{rest}")
    return folder


def ours(folder: Path) -> str:
    """Build as `./inv images` does; returns the image."""
    return supply_images(folder, [TARGET], say=lambda _: None)[TARGET].reference


def plain(folder: Path) -> str:
    """Build with docker's own client; returns the image."""
    tag = f"crossfarm-benchmark:{uuid.uuid4().hex[:16]}"
    base = identities(folder, [])["base"].reference
    command = ["docker", "build", "-q", "-f", str(dockerfile_path(TARGET)), "--build-arg", f"BASE_IMAGE={base}"]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    subprocess.run(
        [*command, "--force-rm", "-t", tag, "."], cwd=folder, env=environment, capture_output=True, check=True
    )
    return tag


def seconds(way: Callable[[Path], str], *, small: bool) -> float:
    """Return how long one way takes in seconds; the image goes again."""
    folder = fresh_clone(SCRATCH / "image_cold", small=small)
    started = time.perf_counter()
    image = way(folder)
    took = time.perf_counter() - started
    with contextlib.closing(docker.client()) as client:
        client.images.remove(image)
    return took


if __name__ == "__main__":
    small = BENCHMARK.parser(__doc__).parse_args().small
    supply_images(HOME, [], terms=BuildOptions(may_bootstrap=True), say=print)
    print(f"Debian {pinned_base(HOME).reference}, target {TARGET}")
    ratios = []
    for number in range(1 if small else ROUNDS):
        pair = (ours, plain) if number % 2 == 0 else (plain, ours)
        took = {way.__name__: seconds(way, small=small) for way in pair}
        ratios.append(took["ours"] / took["plain"])
        print(f"round {number + 1}: ours {took['ours']:.1f} s, plain {took['plain']:.1f} s, {ratios[-1]:.3f} times")
        sys.stdout.flush()
    shutil.rmtree(SCRATCH / "image_cold", ignore_errors=True)
    value = statistics.median(ratios)
    print(f"{SPREAD}{between(ratios, 'x')}")
    BENCHMARK.finish(value, "x a plain docker build", good=value <= GOAL, small=small)
