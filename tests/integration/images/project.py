"""A small project whose images are built on a real Debian by the engine of this machine, within seconds."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

from crossfarm.images.identity import BASE, dockerfile_path, identities, known_names
from crossfarm.images.lock import LOCK, OWN_LOCK, Pin, write_pin
from crossfarm.util import docker

HEAD = "ARG BASE_IMAGE=debian:bookworm-slim\nFROM ${BASE_IMAGE}\n"


class Project:
    """A folder with dockerfiles/ and images.lock, and what was said about its images.

    Every Dockerfile holds a word of its own project, so that nothing of it is in any cache.
    """

    def __init__(self, folder: Path, pin: Pin) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.word = uuid.uuid4().hex
        (folder / "dockerfiles").mkdir()
        write_pin(folder / LOCK, Pin(name="debian", digest=pin.digest, tag=pin.tag))
        write_pin(folder / (OWN_LOCK if pin.is_own else LOCK), pin)
        self.dockerfile(BASE, "RUN echo made >/made\n")

    def dockerfile(self, name: str, steps: str) -> None:
        """Write the Dockerfile of an image."""
        (self.folder / dockerfile_path(name)).write_text(f"{HEAD}ENV WORD={self.word}\n{steps}")

    def say(self, text: str) -> None:
        self.said.append(text)

    def remove_images(self) -> None:
        with contextlib.closing(docker.client()) as client:
            present = docker.present_references()
            for image in reversed(identities(self.folder, known_names(self.folder)).values()):
                if image.reference in present:
                    client.images.remove(image.reference)
