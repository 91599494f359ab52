"""To a registry and back: Debian's docker-registry on a free port of this machine."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from crossfarm.errors import EngineError
from crossfarm.images.ensure import BuildOptions, supply_images, update_lock
from crossfarm.images.identity import BASE
from crossfarm.images.lock import LOCK, Pin, pinned_base, write_pin
from crossfarm.images.registry import push_images, remote_name
from crossfarm.util import docker
from tests.integration.images.project import Project
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@pytest.fixture(scope="module")
def registry_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of Debian's package, which is not installed: that would start a service for good."""
    if found := shutil.which("docker-registry"):
        return found
    folder = tmp_path_factory.mktemp("registry")
    for command in (
        ["apt-get", "-q", "download", "docker-registry"],
        ["sh", "-c", "dpkg-deb -x docker-registry*.deb ."],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            pytest.skip(f"Debian's docker-registry cannot be had: {done.stderr.strip()[-200:]}")
    return str(folder / "usr" / "bin" / "docker-registry")


@pytest.fixture(scope="module")
def registry(registry_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry that runs as long as these tests."""
    tmp_path = tmp_path_factory.mktemp("running")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "registry.yml"
    config.write_text(CONFIG.format(folder=tmp_path / "registry", port=port))
    process = subprocess.Popen(
        [registry_program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/v2/", process)
        yield f"127.0.0.1:{port}/farm"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310 (an address of ours)
            return True
        return False

    wait_until(answers, process=process, told=lambda: "the registry does not answer")


def test_what_was_pushed_is_pulled_in_place_of_being_built(project: Project, registry: str) -> None:
    project.dockerfile("one", "RUN echo one >/one\n")
    images = supply_images(project.folder, ["one"], say=project.say)
    push_images(images.values(), registry, say=project.say)
    pushed = [":".join(remote_name(image, registry)) for image in images.values()]
    assert [text for text in project.said if "pushed" in text] == [
        f"{name}: pushed {reference}" for name, reference in zip(images, pushed, strict=True)
    ]
    with contextlib.closing(docker.client()) as client:
        for reference in (*reversed(pushed), images["one"].reference, images[BASE].reference):
            client.images.remove(reference)
        project.said.clear()
        again = supply_images(project.folder, ["one"], terms=BuildOptions(registry=registry), say=project.say)
        assert again == images
        assert project.said == [f"{name}: got {image.reference} from {registry}" for name, image in images.items()]
        for reference in pushed:
            client.images.remove(reference)


def test_another_image_under_the_name_is_not_believed(project: Project, registry: str) -> None:
    project.dockerfile("one", "RUN echo one >/one\n")
    images = supply_images(project.folder, ["one"], say=project.say)
    repository, tag = remote_name(images["one"], registry)
    with contextlib.closing(docker.client()) as client:
        client.api.tag(images[BASE].reference, repository, tag)
        client.images.push(repository, tag=tag)
        client.images.remove(f"{repository}:{tag}")
        client.images.remove(images["one"].reference)
        supply_images(project.folder, ["one"], terms=BuildOptions(registry=registry), say=project.say)
        client.images.remove(f"{repository}:{tag}")
    assert not any("got" in text for text in project.said)
    assert any(text.startswith("one: built") for text in project.said)


def test_a_registry_that_is_not_there_is_named(project: Project) -> None:
    images = supply_images(project.folder, [], say=project.say)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens, so a connection is refused
        registry = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EngineError, match=rf"{registry}/crossfarm-base:.*see that the registry answers"):
            push_images(images.values(), registry, say=project.say)
    with contextlib.closing(docker.client()) as client:
        client.images.remove(":".join(remote_name(images[BASE], registry)))


def test_a_pinned_debian_is_pulled_from_its_registry(project: Project, registry: str, debian: Pin) -> None:
    own = f"{registry}/debian"
    zeros = Pin(name=own, digest=f"sha256:{'0' * 64}", tag="bookworm-slim")
    with contextlib.closing(docker.client()) as client:
        client.api.tag(debian.reference, own, zeros.tag)
        client.images.push(own, tag=zeros.tag)
        client.images.remove(f"{own}:{zeros.tag}")
        write_pin(project.folder / LOCK, zeros)

        update_lock(project.folder, say=project.say)
        pin = pinned_base(project.folder)
        assert (pin.name, pin.tag, pin.is_own) == (own, zeros.tag, False)
        assert pin.digest != zeros.digest
        assert project.said == [f"images.lock: {own}:bookworm-slim is now {pin.digest}"]

        image = supply_images(project.folder, [], say=project.say)[BASE]
        assert f"getting {own}:bookworm-slim from its registry" in project.said
        assert client.containers.run(image.reference, ["cat", "/made"], network_mode="none", remove=True) == b"made\n"

        update_lock(project.folder, say=project.say)
        assert project.said[-1] == f"images.lock: {own}:bookworm-slim has not changed"
        client.images.remove(image.reference)
        client.images.remove(pin.reference)


def test_a_lock_stays_as_it_is_when_the_registry_does_not_answer(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = Pin(
            name=f"127.0.0.1:{taken.getsockname()[1]}/debian", digest=f"sha256:{'0' * 64}", tag="bookworm-slim"
        )
        write_pin(project.folder / LOCK, nowhere)
        with pytest.raises(EngineError, match=r"its registry does not answer: .*; images\.lock stays as it is"):
            update_lock(project.folder, say=project.say)
    assert pinned_base(project.folder, own=False) == nowhere
