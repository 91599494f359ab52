"""Images that are really built: what is sent, what is there afterwards, and how a failure is told."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time

import pytest

from crossfarm.errors import EngineError, ToolError
from crossfarm.images.ensure import missing_images, supply_images
from crossfarm.images.identity import identities
from crossfarm.images.lock import pinned_base
from crossfarm.util import docker as engine
from crossfarm.util.paths import HOME
from tests.integration.images.project import Project

pytestmark = pytest.mark.integration

SUPPLY = """
import sys
from pathlib import Path
from crossfarm.images.lock import pinned_base
from crossfarm.images.ensure import supply_images
supply_images(Path(sys.argv[1]), ["one"], say=lambda text: print(text, flush=True))
"""


def _output(reference: str, *command: str) -> str:
    with contextlib.closing(engine.client()) as client:
        output: bytes = client.containers.run(reference, list(command), remove=True, network_mode="none")
    return output.decode()


def test_an_image_is_built_after_its_base_and_found_the_next_time(project: Project) -> None:
    project.dockerfile("one", "RUN test -e /made && echo one >/one\n")
    images = supply_images(project.folder, ["one"], say=project.say)
    assert _output(images["one"].reference, "cat", "/one") == "one\n"
    assert any("one: step 4 of 4: RUN test -e /made" in text for text in project.said)
    project.said.clear()
    assert supply_images(project.folder, ["one"], say=project.say) == images
    assert project.said == []


def test_an_image_carries_its_digest_as_a_label(project: Project) -> None:
    image = supply_images(project.folder, [], say=project.say)["base"]
    labels = engine.ask(f"/images/{image.reference}/json")["Config"]["Labels"]
    assert labels["crossfarm.image"] == "base"
    assert labels["crossfarm.digest"] == image.digest


def test_an_image_that_somebody_removed_is_built_again(project: Project) -> None:
    image = supply_images(project.folder, [], say=project.say)["base"]
    with contextlib.closing(engine.client()) as client:
        client.images.remove(image.reference)
    assert missing_images({"base": image}) == [image]
    supply_images(project.folder, [], say=project.say)
    assert missing_images({"base": image}) == []


def test_a_gigabyte_that_lies_about_in_the_clone_is_not_sent(project: Project) -> None:
    for place in ("stray.bin", "dockerfiles/stray.bin"):
        with (project.folder / place).open("wb") as file:
            file.truncate(1 << 30)
    began = time.monotonic()
    supply_images(project.folder, [], say=project.say)
    assert time.monotonic() - began < 30
    assert _output(identities(project.folder, [])["base"].reference, "find", "/", "-name", "stray.bin") == ""


@pytest.mark.parametrize("builder", ["0", "1"])
def test_a_stock_docker_client_sends_no_gigabyte_either(project: Project, builder: str) -> None:
    docker = "/usr/bin/docker"
    if not os.access(docker, os.X_OK):
        pytest.skip("Debian's docker client is not installed")
    (project.folder / ".dockerignore").write_bytes((HOME / ".dockerignore").read_bytes())
    with (project.folder / "stray.bin").open("wb") as file:
        file.truncate(1 << 30)
    tag = f"crossfarm-stray:{project.word}"
    base = f"BASE_IMAGE={pinned_base(project.folder).reference}"
    done = subprocess.run(
        [docker, "build", "--file", "dockerfiles/base.Dockerfile", "--build-arg", base, "--tag", tag, "."],
        cwd=project.folder,
        env={**os.environ, "DOCKER_BUILDKIT": builder},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    try:
        assert done.returncode == 0, done.stderr
        sent = re.search(
            r"(?:transferring context: |Sending build context to Docker daemon +)([0-9.]+)(\w+)",
            done.stderr + done.stdout,
        )
        assert sent is not None
        assert sent[2] in ("B", "kB")
    finally:
        subprocess.run([docker, "rmi", tag], capture_output=True, check=False, timeout=60)


def test_a_step_that_fails_is_named_with_file_line_command_and_last_words(project: Project) -> None:
    project.dockerfile("one", "# a comment\nRUN true\nRUN echo before; echo the reason >&2; \\\n    exit 7\n")
    with pytest.raises(ToolError) as caught:
        supply_images(project.folder, ["one"], say=project.say)
    text = str(caught.value)
    assert text.startswith("dockerfiles/one.Dockerfile:6: step 5 of 5, RUN echo before; echo the reason")
    assert "7" in text.splitlines()[0]
    # The engine reads the two streams of a step apart, so their order is not kept.
    assert "    before\n" in text
    assert "    the reason\n" in text
    log = project.folder / ".crossfarm" / "images" / "one.log"
    assert str(log) in text
    assert "the reason" in log.read_text()
    assert [image.name for image in missing_images(identities(project.folder, ["one"]))] == ["one"]


def test_a_file_that_is_no_dockerfile_is_named(project: Project) -> None:
    project.dockerfile("one", "RUNN true\n")
    with pytest.raises(ToolError, match=r"dockerfiles/one\.Dockerfile: .*(?i:runn)"):
        supply_images(project.folder, ["one"], say=project.say)


def test_a_server_that_the_image_does_not_trust_is_told_with_what_to_do(project: Project) -> None:
    project.dockerfile("one", "RUN echo 'SSL: CERTIFICATE_VERIFY_FAILED'; exit 1\n")
    with pytest.raises(ToolError, match=r"\.crt file into /usr/local/share/ca-certificates"):
        supply_images(project.folder, ["one"], say=project.say)


def test_two_at_once_build_each_image_once(project: Project) -> None:
    project.dockerfile("one", "RUN sleep 2\n")
    command = [sys.executable, "-c", SUPPLY, str(project.folder)]
    both = [
        subprocess.Popen(command, cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    texts = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert "".join(texts).count("one: built") == 1
    assert "".join(texts).count("base: built") == 1
    assert missing_images(identities(project.folder, ["one"])) == []


def test_a_killed_build_leaves_no_image_under_the_name(project: Project) -> None:
    project.dockerfile("one", "RUN sleep 60\n")
    command = [sys.executable, "-c", SUPPLY, str(project.folder)]
    with subprocess.Popen(command, cwd=HOME, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "sleep 60" in line:
                break
        process.kill()
    assert [image.name for image in missing_images(identities(project.folder, ["one"]))] == ["one"]
    project.dockerfile("one", "RUN true\n")
    supply_images(project.folder, ["one"], say=project.say)


def test_an_engine_that_is_not_there_is_told_with_its_address(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("DOCKER_HOST", f"unix://{project.folder}/none.sock")
        with pytest.raises(EngineError, match=r"no container engine answers at .*none\.sock"):
            supply_images(project.folder, [], say=project.say)
