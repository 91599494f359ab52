"""The pipeline with its jobs in containers: the same bytes as on this host, and what goes wrong is a row."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from crossfarm.images.ensure import BuildOptions, supply_images
from crossfarm.util.docker import find_daemon
from crossfarm.util.paths import HOME
from tests.integration.pipeline.waiting import Farm
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def contained(farm: Farm) -> Farm:
    """Return a farm whose jobs run in containers, the images of which are there."""
    problem = find_daemon().problem
    if problem:
        pytest.skip(problem)
    supply_images(HOME, ["x86_64"], say=print, terms=BuildOptions(may_bootstrap=True))
    farm.engine = "container"
    return farm


def _containers_of(process: int) -> list[Any]:
    api = docker.APIClient(base_url=find_daemon().address, version="auto")
    try:
        return list(api.containers(all=True, filters={"label": f"org.crossfarm.process={process}"}))
    finally:
        api.close()


def _files(store: Path) -> dict[tuple[str, str], str]:
    """Return job and path -> sha256, for every file of every artifact of a store."""
    manifests = [json.loads(path.read_bytes()) for path in (store / "artifacts").glob("??/*")]
    return {(found["job"], path): name for found in manifests for path, name, _ in found["files"]}


def test_a_cell_has_the_same_bytes_from_two_containers_and_from_this_host(
    contained: Farm, small_model: onnx.ModelProto, convolutions: onnx.ModelProto
) -> None:
    targets = ("x86_64", "aarch64", "armv7")
    supply_images(HOME, targets, say=print, terms=BuildOptions(may_bootstrap=True))
    contained.add("adder", small_model)
    contained.add("convolutions", convolutions)
    contained.set_targets(*targets)
    found = []
    for name, engine in (("first", "container"), ("second", "container"), ("third", "local")):
        contained.store, contained.engine = contained.folder / name, engine
        ended = contained.run("--stages", "bundle")
        assert ended.code == 0, ended.output
        found.append(_files(contained.store))
    assert found[0] == found[1]
    # On this host zig builds the C library, which the images hold already.
    here = {file: digest for file, digest in found[2].items() if not file[0].startswith("c_library:")}
    assert found[0] == here
    for model in ("adder", "convolutions"):
        for target in targets:
            cell = f"{target}-{model}-float32"
            assert {
                (f"compile:{cell}", "model.o"),
                (f"bundle:{cell}", f"lib{model}.a"),
                (f"bundle:{cell}", "program"),
            } <= {*found[0]}


def test_rows_and_numbers_name_the_image_and_a_second_run_has_nothing_to_do(
    contained: Farm, small_model: onnx.ModelProto
) -> None:
    contained.add("adder", small_model)
    ended = contained.run()
    assert ended.code == 0, ended.output
    images = {record["stage"]: record["image"] for record in contained.records()}
    assert images["fetch"] is None
    assert images["measure"] is None
    assert images["prepare"] == images["reference"]
    assert images["compile"] == images["bundle"] == images["check"]
    assert len({images["prepare"], images["compile"]}) == 2
    for record in contained.records("measurement"):
        assert record["provenance"]["image_digest"] == images["compile"]
    assert contained.run().code == 0
    assert set(contained.states().values()) == {"hit"}
    contained.engine = "local"
    planned = contained.run(task="plan").output
    assert "image changed" in planned


def test_a_model_that_takes_too_much_memory_is_a_row_and_others_go_on(
    contained: Farm, small_model: onnx.ModelProto
) -> None:
    weights = np.ones((6000, 10000), np.float32)  # 240 MB, some copies of which are needed to prepare it
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    large = onnx.ModelProto()
    large.CopyFrom(small_model)
    del large.graph.node[:], large.graph.initializer[:]
    large.graph.node.append(node)
    large.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    large.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6000
    contained.add("large", large)
    contained.add("adder", small_model)
    ended = contained.run("--memory", "0.5", "--stages", "prepare")
    assert ended.code == 3, ended.output
    assert contained.states()["prepare:adder"] == "run"
    (failed,) = (record for record in contained.records() if record["state"] == "failed")
    assert failed["job"] == "prepare:large"
    assert failed["fault"] == "infrastructure"
    assert "ran out of memory, of which a job may take 0.5 GiB" in failed["cause"]
    assert "--memory" in failed["cause"]


def test_two_runs_at_once_share_one_container_engine(contained: Farm, small_model: onnx.ModelProto) -> None:
    contained.add("adder", small_model)
    runs = []
    for name in ("one", "other"):
        contained.store, contained.out = contained.folder / f"store-{name}", contained.folder / f"out-{name}"
        runs.append(contained.start())
    for run in runs:
        output, _ = run.communicate(timeout=200)
        assert run.returncode == 0, output
        wait_until(lambda: not _containers_of(run.pid), seconds=5)  # noqa: B023 - waited for here


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_container_behind(
    contained: Farm, long_model: onnx.ModelProto, number: signal.Signals
) -> None:
    contained.add("long", long_model)
    process = contained.start("--stages", "compile")
    wait_until(
        lambda: any((contained.store / "work").glob("*/container-*/out/job.json")) and _containers_of(process.pid)
    )
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), output
    wait_until(lambda: not _containers_of(process.pid), seconds=10)


def test_without_a_container_engine_auto_takes_this_host_and_says_so(
    farm: Farm, small_model: onnx.ModelProto, tmp_path: Path
) -> None:
    farm.add("adder", small_model)
    farm.engine = "auto"
    farm.environment["DOCKER_HOST"] = f"unix://{tmp_path}/none"
    ended = farm.run("--stages", "prepare")
    assert ended.code == 0, ended.output
    assert f"engine: local, because no container engine answers at {tmp_path}/none" in ended.output
    farm.engine = "container"
    ended = farm.run("--stages", "prepare")
    assert ended.code == 3, ended.output
    assert f"--engine container: no container engine answers at {tmp_path}/none" in ended.output
    farm.engine = "contaner"
    ended = farm.run("--stages", "prepare")
    assert ended.code == 2, ended.output
    assert "perhaps you meant 'container'" in ended.output


class _Bare(http.server.BaseHTTPRequestHandler):
    """Answers as a container engine does that has no image and can build none."""

    asked: list[str]

    def do_GET(self) -> None:
        """Answer a question."""
        self.asked.append(self.path)
        body = b"OK" if self.path.endswith("/_ping") else b"[]" if "/images/json" in self.path else b"{}"
        self.send_response(200 if body != b"{}" else 500)
        self.send_header("Content-Type", "text/plain" if body == b"OK" else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """Return who asks; a Unix socket has no address."""
        return "local"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def bare_engine(tmp_path: Path) -> Iterator[list[str]]:
    """Serve a container engine without images; yields the paths that it is asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Bare,), {"asked": asked})
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "bare"), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield asked
        server.shutdown()
        thread.join(timeout=10)


def test_where_images_cannot_be_made_auto_takes_this_host_and_does_not_try_every_time(
    farm: Farm, small_model: onnx.ModelProto, tmp_path: Path, bare_engine: list[str]
) -> None:
    farm.add("adder", small_model)
    farm.engine = "auto"
    farm.environment["DOCKER_HOST"] = f"unix://{tmp_path}/bare"
    ended = farm.run("--stages", "prepare")
    assert ended.code == 0, ended.output
    assert "engine: local, because images could not be made" in ended.output
    tried = len(bare_engine)
    ended = farm.run("--stages", "prepare")
    assert ended.code == 0, ended.output
    assert "./inv images tries it again" in ended.output
    assert set(farm.states().values()) == {"hit"}
    assert len(bare_engine) - tried < 4
