"""What an image is, before anybody builds it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends import load_backend
from crossfarm.backends.project_files import load_targets
from crossfarm.errors import ConfigError
from crossfarm.images.identity import BASE, context, identities, known_names
from crossfarm.images.lock import LOCK, OWN_LOCK, Pin, pinned_base, write_pin
from crossfarm.util.paths import HOME

DIGEST = "sha256:" + "5" * 64


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with a copy of all that images are made from."""
    shutil.copytree(HOME / "dockerfiles", tmp_path / "dockerfiles")
    shutil.copy(HOME / "images.lock", tmp_path)
    shutil.copy(HOME / "requirements.lock", tmp_path)
    return tmp_path


def test_each_image_comes_after_its_base_under_a_name_with_its_digest(clone: Path) -> None:
    found = identities(clone, ["armv7", "aarch64"])
    assert list(found) == ["base", "aarch64", "armv7"]
    assert found["base"].base is None
    assert found["armv7"].base == "base"
    for name, image in found.items():
        assert image.reference == f"crossfarm-{name}:{image.digest[:16]}"
    assert len({image.digest for image in found.values()}) == 3


def test_the_same_files_elsewhere_give_the_same_images(clone: Path) -> None:
    own = clone / OWN_LOCK
    assert not own.exists()
    write_pin(own, Pin(name="crossfarm-debian", digest=DIGEST, tag="bookworm-slim"))
    copy = clone / "elsewhere"
    shutil.copytree(clone / "dockerfiles", copy / "dockerfiles")
    shutil.copy(clone / "requirements.lock", copy)
    shutil.copytree(clone / ".crossfarm", copy / ".crossfarm")
    assert identities(clone, ["armv7"]) == identities(copy, ["armv7"])


@pytest.mark.parametrize("path", ["requirements.lock", "dockerfiles/base.Dockerfile", "dockerfiles/prebuild-c-library"])
def test_what_goes_into_the_base_changes_every_image(clone: Path, path: str) -> None:
    before = identities(clone, ["armv7", "x86_64"])
    (clone / path).write_bytes((clone / path).read_bytes() + b"\n# another line\n")
    after = identities(clone, ["armv7", "x86_64"])
    assert all(before[name].digest != after[name].digest for name in before)


def test_what_goes_into_one_image_changes_no_other(clone: Path) -> None:
    before = identities(clone, ["armv7", "x86_64"])
    (clone / "dockerfiles" / "armv7.Dockerfile").write_text("ARG BASE_IMAGE=x\nFROM ${BASE_IMAGE}\n")
    after = identities(clone, ["armv7", "x86_64"])
    assert {name for name in before if before[name] != after[name]} == {"armv7"}


def test_another_debian_changes_every_image(clone: Path) -> None:
    before = identities(clone, ["armv7"])
    write_pin(clone / LOCK, Pin(name="debian", digest=DIGEST, tag="bookworm-slim"))
    after = identities(clone, ["armv7"])
    assert all(before[name].digest != after[name].digest for name in before)


def test_a_file_that_may_be_run_is_another_than_one_that_may_not(clone: Path) -> None:
    before = identities(clone, [])
    (clone / "dockerfiles" / "prebuild-c-library").chmod(0o644)
    assert identities(clone, []) != before


def test_what_lies_about_in_the_clone_changes_nothing(clone: Path) -> None:
    before = identities(clone, ["armv7"])
    (clone / "stray.bin").write_bytes(b"x")
    (clone / "dockerfiles" / "notes.txt").write_text("x")
    assert identities(clone, ["armv7"]) == before


def test_a_debian_made_here_counts_more_than_the_projects(clone: Path) -> None:
    assert pinned_base(clone).reference.startswith("debian@sha256:")
    write_pin(clone / OWN_LOCK, Pin(name="crossfarm-debian", digest=DIGEST, tag="bookworm-slim"))
    assert pinned_base(clone).reference == f"crossfarm-debian:{'5' * 16}"
    assert pinned_base(clone, own=False).name == "debian"


def test_a_misspelt_image_gets_the_nearest_name(clone: Path) -> None:
    with pytest.raises(ConfigError, match=r"dockerfiles/armv77\.Dockerfile: .*perhaps you meant 'armv7'"):
        identities(clone, ["armv77"])


def test_a_file_that_is_copied_and_missing_is_named(clone: Path) -> None:
    (clone / "requirements.lock").unlink()
    with pytest.raises(ConfigError, match=r"dockerfiles/base\.Dockerfile: copies requirements\.lock: No such file"):
        identities(clone, [])


def test_a_symbolic_link_is_not_followed_out_of_the_project(clone: Path) -> None:
    (clone / "requirements.lock").unlink()
    (clone / "requirements.lock").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match="symbolic link"):
        identities(clone, [])


@pytest.mark.parametrize(
    "text", ["", "debian:bookworm\n", f"debian@{DIGEST}\n", f"debian@{DIGEST}  # a\ndebian@{DIGEST}  # b\n"]
)
def test_a_lock_that_pins_not_exactly_one_image_is_refused(clone: Path, text: str) -> None:
    (clone / "images.lock").write_text(text)
    with pytest.raises(ConfigError, match=r"images\.lock:\d+: one line like"):
        identities(clone, [])


@given(digest=st.binary(min_size=32, max_size=32), tag=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True))
def test_a_lock_says_what_was_written_and_keeps_its_comments(
    tmp_path_factory: pytest.TempPathFactory, digest: bytes, tag: str
) -> None:
    folder = tmp_path_factory.mktemp("lock")
    pin = Pin(name="ghcr.io/a/debian", digest=f"sha256:{digest.hex()}", tag=tag)
    (folder / LOCK).write_text("# why\n")
    write_pin(folder / LOCK, pin)
    assert pinned_base(folder) == pin
    assert (folder / LOCK).read_text().startswith("# why\n")


def test_every_target_has_an_image_that_the_project_makes() -> None:
    targets = load_targets(HOME / "toolchains").values()
    images = {target.image or BASE for target in targets if not load_backend(target.backend).DECLARATION.on_this_host}
    assert images <= set(known_names(HOME))
    assert {"x86_64", "aarch64", "armv7", "armv6", "riscv64"} <= images


@pytest.mark.parametrize("name", known_names(HOME))
def test_a_context_is_small(name: str) -> None:
    assert sum(len(file.content) for file in context(HOME, name)) < 1_000_000
