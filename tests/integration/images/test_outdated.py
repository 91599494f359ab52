"""Old images: tiny ones with crossfarm's labels, made FROM scratch by the engine of this machine."""

from __future__ import annotations

import contextlib
import io
import tarfile
import uuid
from collections.abc import Iterator

import pytest

from crossfarm.images.ensure import IMAGE_LABEL
from crossfarm.images.outdated import old_images, remove_old_images
from crossfarm.util import docker

pytestmark = pytest.mark.integration


def _make(client: object, tag: str, label: str) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        content = f'FROM scratch\nCOPY Dockerfile /{uuid.uuid4().hex}\n{label}\nCMD ["none"]\n'.encode()
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    list(client.api.build(fileobj=io.BytesIO(raw.getvalue()), custom_context=True, tag=tag, rm=True))  # type: ignore[attr-defined]


@pytest.fixture
def word() -> Iterator[str]:
    """A word in the names of a test's images, which go at its end."""
    if not docker.answers():
        pytest.skip("no container engine answers; ./inv setup as root installs one")
    word = uuid.uuid4().hex[:16]
    yield word
    with contextlib.closing(docker.client()) as client:
        for image in client.images.list():
            for tag in image.tags:
                if word in tag:
                    client.images.remove(tag)


def test_only_ours_that_nothing_names_and_no_container_uses_go(word: str) -> None:
    ours = f'LABEL {IMAGE_LABEL}="x"'
    old, named, used = (f"crossfarm-{name}{word[:4]}:{word}" for name in ("old", "named", "used"))
    foreign, kept = f"crossfarm-foreign{word[:4]}:{word}", f"precious-{word[:4]}:{word}"
    with contextlib.closing(docker.client()) as client:
        for tag in (old, named, used, kept):
            _make(client, tag, ours)
        _make(client, foreign, "LABEL another=1")
        container = client.containers.create(used)
        try:
            found = [image for image in old_images({named}) if any(word in name for name in image.names)]
            assert [image.names for image in found] == [(old,)]
            assert not [image for image in old_images({named}, age_seconds=3600) if old in image.names]
            gone, freed = remove_old_images(found, say=print)
            assert gone == [old]
            assert freed >= 0
            left = {tag for image in client.images.list() for tag in image.tags if word in tag}
            assert left == {named, used, foreign, kept}
        finally:
            container.remove(force=True)
