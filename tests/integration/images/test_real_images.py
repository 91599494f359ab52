"""The project's own images: built, built again by a stock client, and the smoke pipeline run in them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.cli.image_commands import image_names
from crossfarm.config.loading import load_pipeline
from crossfarm.images.identity import ImageIdentity, identities
from crossfarm.images.lock import Pin
from crossfarm.util import docker
from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

TARGETS = ("x86_64", "aarch64", "armv7")
MODEL = "ppocr_cls"
SECONDS = 1800
DOCKER = "/usr/bin/docker"


def _inv(*arguments: str) -> str:
    command = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME), *arguments]
    done = subprocess.run(
        command, cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def images(debian: Pin) -> Mapping[str, ImageIdentity]:
    """The images of three targets, which the engine has."""
    _inv("images", "--targets", ",".join(TARGETS))
    return identities(HOME, image_names(load_targets(HOME / "toolchains"), TARGETS))


@pytest.fixture(scope="module")
def store(images: Mapping[str, ImageIdentity], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after the smoke pipeline has run in containers, and one of its models once more for Debian's GCC."""
    folder = tmp_path_factory.mktemp("smoke")
    run = ["pipeline", "--pipeline", "smoke", "--engine", "container", "--store", str(folder / "store")]
    _inv(*run, "--out", str(folder / "out"))
    _inv(*run, "--out", str(folder / "gcc"), "--targets", "armv7_gcc", "--only", f"*-{MODEL}-*")
    return folder / "store"


def _artifacts(store: Path, stage: str) -> dict[str, dict[str, str]]:
    """Return cell -> path -> digest of what a stage made."""
    found = {}
    for path in (store / "artifacts").glob("*/*"):
        artifact = json.loads(path.read_text())
        made, _, cell = artifact["job"].partition(":")
        if made == stage:
            found[cell] = {file: digest for file, digest, *_ in artifact["files"]}
    return found


def _python(image: ImageIdentity, program: str) -> str:
    with contextlib.closing(docker.client()) as client:
        output: bytes = client.containers.run(
            image.reference, ["python", "-c", program], remove=True, network_mode="none", user="4711:4711"
        )
    return output.decode()


def test_the_base_holds_what_compiles_and_no_source_of_the_project(images: Mapping[str, ImageIdentity]) -> None:
    program = (
        "import importlib.util, sys, tvm, onnx, onnxruntime\n"
        "print(sys.version_info[:2], tvm.__version__, importlib.util.find_spec('crossfarm'))"
    )
    assert _python(images["base"], program).startswith("(3, 11) 0.27.0")
    assert _python(images["base"], program).strip().endswith("None")


@pytest.mark.parametrize(
    ("name", "target", "compiler"),
    [
        ("x86_64", "x86_64-linux-gnu.2.17", "gcc"),
        ("aarch64", "aarch64-linux-gnu.2.17", "aarch64-linux-gnu-gcc"),
        ("armv7", "arm-linux-gnueabihf.2.17", "arm-linux-gnueabihf-gcc"),
    ],
)
def test_zig_finds_its_c_library_built_and_gcc_compiles(
    images: Mapping[str, ImageIdentity], name: str, target: str, compiler: str
) -> None:
    program = f"""
import os, pathlib, shutil, subprocess, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
shutil.copytree(os.environ["ZIG_GLOBAL_CACHE_DIR"], folder / "zig", copy_function=shutil.copy)
os.environ.update(ZIG_GLOBAL_CACHE_DIR=str(folder / "zig"), ZIG_LOCAL_CACHE_DIR=str(folder / "zig"))
os.chdir(folder)
program = "int main(int n, char **words) {{ return sin(atof(words[n - 1])) > 2; }}"
pathlib.Path("p.c").write_text("#include <math.h>\\n#include <stdlib.h>\\n" + program)
before = len(list(pathlib.Path("zig/o").iterdir()))
zig = ["python", "-m", "ziglang", "cc", "-target", "{target}"]
subprocess.run([*zig, "-O2", "-g0", "-fPIC", "-fno-sanitize=undefined", "-c", "p.c", "-o", "p.o"], check=True)
flags = ["-s", "-Wl,--gc-sections", "-Wl,--build-id=none", "-lm", "-pthread"]
subprocess.run([*zig, "p.o", *flags, "-o", "p"], check=True)
print(len(list(pathlib.Path("zig/o").iterdir())) - before)
subprocess.run(["{compiler}", "-O2", "p.c", "-lm", "-o", "q"], check=True)
subprocess.run(["gdb-multiarch", "--batch", "-ex", "info functions main", "q"], check=True, capture_output=True)
"""
    # Two are the program's own, its object and its executable; a C library would be dozens.
    assert int(_python(images[name], program).split()[0]) <= 3


@pytest.mark.parametrize("builder", ["0", "1"])
def test_a_stock_client_builds_the_same_file(images: Mapping[str, ImageIdentity], builder: str) -> None:
    if not os.access(DOCKER, os.X_OK):
        pytest.skip("Debian's docker client is not installed")
    tag = f"crossfarm-stock:{os.getpid()}"
    base = f"BASE_IMAGE={images['base'].reference}"
    command = [DOCKER, "build", "--file", "dockerfiles/x86_64.Dockerfile", "--build-arg", base]
    done = subprocess.run(
        [*command, "--tag", tag, "."],
        cwd=HOME,
        env={**os.environ, "DOCKER_BUILDKIT": builder},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        built = docker.ask(f"/images/{tag}/json")["Config"]
        assert built["User"] == "farm"
        assert built["Labels"]["org.opencontainers.image.title"] == "crossfarm x86_64"
    finally:
        subprocess.run([DOCKER, "rmi", tag], capture_output=True, check=False, timeout=60)


def test_the_smoke_pipeline_runs_in_the_images(store: Path, images: Mapping[str, ImageIdentity]) -> None:
    cells = set(_artifacts(store, "check"))
    models = load_pipeline(HOME / "pipelines" / "smoke.yaml").models
    assert {f"{target}-{model}-float32" for target in TARGETS for model in models} <= cells
    used = {json.loads(path.read_text())["document"]["image"] for path in (store / "artifacts").glob("*/*")}
    assert {image.digest for image in images.values()} <= used


def test_debians_gcc_gives_the_same_answers_as_zig(store: Path) -> None:
    zig, gcc = f"armv7-{MODEL}-float32", f"armv7_gcc-{MODEL}-float32"
    bundles, measured = _artifacts(store, "bundle"), _artifacts(store, "measure")
    assert bundles[zig]["program"] != bundles[gcc]["program"], "another compiler makes another program"
    outputs = {path: digest for path, digest in measured[zig].items() if path.startswith("outputs/")}
    assert outputs
    assert outputs == {path: measured[gcc][path] for path in outputs}, "to the byte"
