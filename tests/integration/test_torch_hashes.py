"""How PyTorch is installed: real pip, an environment of its own, and a page of small wheels as the index."""

from __future__ import annotations

import hashlib
import io
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from crossfarm.errors import ToolError
from crossfarm.setup import install as installing
from crossfarm.setup.install import install_torch
from crossfarm.util.console import Console

pytestmark = pytest.mark.integration


class Index:
    """A page of wheels, an empty environment, and the lists of packages of a project."""

    def __init__(self, folder: Path) -> None:
        self.wheels = folder / "wheels"
        self.page = folder / "page.html"
        self.home = folder / "home"
        self.environment = folder / "environment"
        self.wheels.mkdir()
        (self.home / "requirements").mkdir(parents=True)
        venv.create(self.environment, with_pip=False)
        pip = f'exec "{sys.executable}" -m pip --python "{self.environment}/bin/python" "$@"'
        self.python = folder / "python"
        self.python.write_text(f"#!/bin/sh\nshift 2\n{pip}\n")
        self.python.chmod(0o755)

    @property
    def site(self) -> Path:
        return next(self.environment.glob("lib/python3*/site-packages"))

    def wheel(self, name: str, version: str, *, needs: str = "", content: str = "") -> str:
        """Put a wheel into the index, and return its sha256."""
        path = self.wheels / f"{name}-{version}-py3-none-any.whl"
        about = f"{name}-{version}.dist-info"
        requires = f"Requires-Dist: {needs}\n" if needs else ""
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{name}.py", content)
            archive.writestr(
                f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
            )
            archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{about}/RECORD", "")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        with self.page.open("a") as page:
            page.write(f'<a href="wheels/{path.name}#sha256={sha256}">{path.name}</a>\n')
        return sha256

    def pin(self, file: str, name: str, sha256: str) -> None:
        cuda = self.home / "requirements" / "torch-build-cuda.txt"
        if not cuda.exists():
            cuda.write_text(f"torch==1.0 \\\n    --hash=sha256:{'1' * 64}\n")
        (self.home / "requirements" / file).write_text(f"{name}==1.0 \\\n    --hash=sha256:{sha256}\n")

    def install(self) -> list[str]:
        said = io.StringIO()
        install_torch(self.home, console=Console(said, interactive=False))
        return said.getvalue().splitlines()[1:]

    def installed(self) -> set[str]:
        return {path.name.removesuffix(".dist-info") for path in self.site.glob("*.dist-info")}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    made = Index(tmp_path)
    monkeypatch.setattr(sys, "executable", str(made.python))
    monkeypatch.setattr(installing, "_SECONDS_BETWEEN_TRIES", 0.0)
    monkeypatch.syspath_prepend(str(made.site))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.page))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    made.pin("torch.txt", "friend-of-torch", made.wheel("friend_of_torch", "1.0"))
    return made


def test_a_build_whose_hash_is_known_is_checked_and_nothing_more_is_said(index: Index) -> None:
    index.pin("torch-build.txt", "torch", index.wheel("torch", "1.0"))
    assert index.install() == []
    assert index.installed() == {"friend_of_torch-1.0", "torch-1.0"}


def test_another_build_is_taken_and_told_as_not_checked(index: Index) -> None:
    index.wheel("torch", "1.0")
    index.pin("torch-build.txt", "torch", "0" * 64)
    assert index.install() == [
        "setup: not checked by hash: torch 1.0, "
        "because the index offers another build than those whose hashes are known"
    ]
    assert index.installed() == {"friend_of_torch-1.0", "torch-1.0"}


def test_the_known_build_is_taken_where_the_index_has_others_too(index: Index) -> None:
    index.wheel("torch", "1.0+zz", content="other = 1")
    index.pin("torch-build.txt", "torch", index.wheel("torch", "1.0+aa"))
    assert index.install() == []
    assert index.installed() == {"friend_of_torch-1.0", "torch-1.0+aa"}


def test_the_small_build_comes_first_though_the_index_tells_the_hash_of_the_large_one_alone(index: Index) -> None:
    index.pin("torch-build-cuda.txt", "torch", index.wheel("torch", "1.0"))
    listed = index.page.read_text()
    index.pin("torch-build.txt", "torch", index.wheel("torch", "1.0+cpu"))
    index.page.write_text(f'{listed}<a href="wheels/torch-1.0%2Bcpu-py3-none-any.whl">torch</a>\n')
    assert index.install() == []
    assert index.installed() == {"friend_of_torch-1.0", "torch-1.0+cpu"}


def test_a_build_with_cuda_is_checked_where_there_is_no_other(index: Index) -> None:
    index.pin("torch-build.txt", "torch", "0" * 64)
    index.pin("torch-build-cuda.txt", "torch", index.wheel("torch", "1.0"))
    assert index.install() == []
    assert index.installed() == {"friend_of_torch-1.0", "torch-1.0"}


def test_the_libraries_of_a_build_with_cuda_are_told_as_not_checked(index: Index) -> None:
    index.wheel("cuda_library", "7.0")
    index.pin("torch-build.txt", "torch", index.wheel("torch", "1.0", needs="cuda-library"))
    assert index.install() == [
        "setup: not checked by hash: cuda_library 7.0, because this build needs them, and other builds do not"
    ]


def test_what_torch_needs_is_refused_when_its_hash_is_another(index: Index) -> None:
    index.wheel("torch", "1.0")
    index.pin("torch-build.txt", "torch", "0" * 64)
    index.wheel("friend_of_torch", "1.0", content="evil = True")
    with pytest.raises(ToolError, match="DO NOT MATCH THE HASHES"):
        index.install()
    assert index.installed() == set()
