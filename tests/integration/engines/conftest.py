"""Containers of the real images, and a stage that runs whatever a test hands it, as a hostile model might."""

from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfarm.engines.container.engine import ContainerEngine
from crossfarm.engines.container.limits import GIB, ResourceLimits
from crossfarm.images.ensure import BuildOptions, supply_images
from crossfarm.images.identity import BASE
from crossfarm.stages.job import Job, Outcome
from crossfarm.util.docker import Daemon, find_daemon
from crossfarm.util.paths import HOME

STAGE = '''
"""A stage whose job is the text that it is given."""

from crossfarm.stages.protocol import Declaration

DECLARATION = Declaration(version=1, scope="cell", sources=())


def run(job):
    exec(compile(job.parameters["code"], "hostile", "exec"), {"job": job})
'''
DIGEST = "d" * 64


@pytest.fixture(scope="session")
def daemon() -> Daemon:
    found = find_daemon()
    if found.problem:
        pytest.skip(found.problem)
    return found


@pytest.fixture(scope="session")
def base_image(daemon: Daemon) -> str:
    """Return the reference of the image that all targets' images build on."""
    return supply_images(HOME, [BASE], say=print, terms=BuildOptions(may_bootstrap=True))[BASE].reference


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project's source whose stage `check` runs any code."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("crossfarm", "runner"):
        shutil.copytree(HOME / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "crossfarm" / "stages" / "check" / "stage.py").write_text(STAGE)
    folder.chmod(0o755)
    return folder


@pytest.fixture
def changed_home(home: Path, tmp_path: Path) -> Callable[[str, str, str], Path]:
    """Return a function that copies that source once more, with a text in one of its modules replaced by another."""

    def change(module: str, text: str, other: str) -> Path:
        folder = tmp_path / "changed-home"
        shutil.copytree(home, folder)
        path = folder / "crossfarm" / "engines" / module
        source = path.read_text()
        assert text in source
        path.write_text(source.replace(text, other))
        return folder

    return change


@dataclasses.dataclass(kw_only=True)
class Trial:
    """Runs code as jobs of one engine."""

    engine: ContainerEngine
    folder: Path
    count: int = 0

    def lay_out(self, code: str, *, image: str = DIGEST) -> Path:
        """Lay out a job as the schedule does, with an input that is a link to an object of a store."""
        self.count += 1
        folder = self.folder / f"job-{self.count}"
        (folder / "inputs" / "0").mkdir(parents=True)
        (folder / "output").mkdir()
        thing = self.folder / "object"
        if not thing.exists():
            thing.write_text("content")
            thing.chmod(0o444)
        os.link(thing, folder / "inputs" / "0" / "file")
        Job(
            id=f"check:{self.count}",
            stage="check",
            key="k",
            parameters={"code": textwrap.dedent(code)},
            inputs={"input": folder / "inputs" / "0"},
            output=folder / "output",
            root=folder,
            image=image,
        ).write(folder / "job.json")
        return folder

    def run(self, code: str | Callable[..., None], *, image: str = DIGEST) -> tuple[Outcome, Path]:
        """Run code, or the body of a function, to its end; returns its outcome and its folder."""
        text = code if isinstance(code, str) else "".join(inspect.getsource(code).split(":\n", 1)[1:])
        folder = self.lay_out(text, image=image)
        return self.engine.run(folder, folder / "log"), folder

    def start(self, code: str) -> tuple[threading.Thread, list[Outcome], Path]:
        """Run code in a thread of its own; the list gets the outcome. Returns when the code has said `ready`."""
        folder = self.lay_out(code)
        ended: list[Outcome] = []
        thread = threading.Thread(target=lambda: ended.append(self.engine.run(folder, folder / "log")))
        thread.start()
        return thread, ended, folder

    def boxes(self) -> list[Path]:
        """Return the containers' folders on this host."""
        return sorted(self.folder.glob("container-*"))


Begin = Callable[..., Trial]


@pytest.fixture
def begin(tmp_path: Path, home: Path, request: pytest.FixtureRequest) -> Iterator[Begin]:
    """Return a function that makes a trial: one slot, and whatever is said otherwise."""
    engines: list[ContainerEngine] = []

    def make(**different: Any) -> Trial:
        limits = ResourceLimits(memory=GIB // 2, cpus=1.0, processes=64)
        chosen: dict[str, Any] = {"limits": limits, "home": home, "work": tmp_path, **different}
        if "daemon" not in chosen:
            chosen["daemon"] = request.getfixturevalue("daemon")
        if "images" not in chosen:
            chosen["images"] = {DIGEST: request.getfixturevalue("base_image")}
        engine = ContainerEngine(slots=1, run="test", **chosen)
        engines.append(engine)
        return Trial(engine=engine, folder=chosen["work"])

    yield make
    for engine in engines:
        engine.__exit__()
