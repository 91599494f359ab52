"""The packages on a board without a compiler: an ARM userland with Python and NumPy, reached over ssh."""

from __future__ import annotations

import contextlib
import dataclasses
import ensurepip
import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from crossfarm.boards.virtual.containers import BoardSet, boards_down, boards_up
from crossfarm.config.boards import Board
from crossfarm.errors import EngineError, ToolError
from tests.integration.bundles.packages.building import Built

pytestmark = pytest.mark.integration

PREDICT = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.environ.update(argument.split("=", 1) for argument in sys.argv[2:])
import numpy, shapes
inputs = numpy.load("inputs.npy")
numpy.save("scores.npy", numpy.stack([shapes.predict(case) for case in inputs]))
print(os.uname().machine, shapes.MODEL.target)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remote:
    """A board that is reached by OpenSSH's own programs.

    Attributes:
        options: for ssh and scp alike.
        address: user and host.
    """

    options: tuple[str, ...]
    address: str

    def run(self, command: str) -> str:
        """Run a shell command there and return what it prints."""
        words = ["ssh", *self.options, self.address, command]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def send(self, *paths: Path) -> None:
        """Copy files into the home folder."""
        words = ["scp", "-q", *self.options, *map(str, paths), f"{self.address}:"]
        subprocess.run(words, check=True, timeout=120)

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file back."""
        subprocess.run(["scp", "-q", *self.options, f"{self.address}:{name}", str(path)], check=True, timeout=120)


def _remote(board: Board, place: BoardSet) -> Remote:
    known = place.root / "known_hosts"
    known.write_text(f"[{board.address}]:{board.port} {board.host_key}\n{board.address} {board.host_key}\n")
    told = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", f"Port={board.port}")
    key = str(place.boards.parent / str(board.key))
    options = ("-F", "none", "-i", key, *(word for option in told for word in ("-o", option)))
    return Remote(options=options, address=f"{board.user}@{board.address}")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    root = tmp_path_factory.mktemp("board")
    place = BoardSet(root=root, boards=root / "boards.yaml")
    try:
        up = boards_up(place, target="armv7", count=1, say=io.StringIO())
    except (EngineError, ToolError) as error:
        with contextlib.suppress(EngineError):
            boards_down(place)
        pytest.skip(f"no virtual boards here: {error}")
    try:
        yield _remote(up[0], place)
    finally:
        boards_down(place)


def _scores(board: Remote, model: Built, folder: Path, *words: str) -> tuple[str, np.ndarray]:  # type: ignore[type-arg]
    """Run the module there over all cases; return what it says and the scores."""
    np.save(folder / "inputs.npy", model.inputs)
    (folder / "predict.py").write_text(PREDICT)
    board.send(folder / "inputs.npy", folder / "predict.py")
    said = board.run(f"python3 predict.py {' '.join(words)}").strip()
    board.fetch("scores.npy", folder / "scores.npy")
    return said, np.load(folder / "scores.npy")


def _agree(found: np.ndarray, model: Built) -> bool:  # type: ignore[type-arg]
    return bool(np.max(np.abs(found - model.scores)) <= 1e-5 * np.max(np.abs(model.scores)))


def test_pip_on_the_board_takes_the_wheel_and_the_module_answers_as_the_reference(
    board: Remote, built: Callable[[str], Built], tmp_path: Path
) -> None:
    model = built("armv7")
    pip = next(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
    board.send(model.packages.wheel, pip)
    options = "--no-index --no-deps --no-compile --disable-pip-version-check --target installed"
    board.run(f"python3 {pip.name}/pip install -q {options} {model.packages.wheel.name}")
    said, scores = _scores(board, model, tmp_path, "installed")
    assert said == "armv7l armv7"
    assert _agree(scores, model)


def test_the_archive_brings_the_program_the_module_and_nothing_that_needs_a_compiler(
    board: Remote, built: Callable[[str], Built], tmp_path: Path
) -> None:
    model = built("armv7")
    board.send(model.packages.archive)
    board.run(f"tar -x -f {model.packages.archive.name} 2>&1 || python3 -m tarfile -e {model.packages.archive.name}")
    folder = "armv7-shapes-float32"
    assert '"model":"shapes"' in board.run(f"{folder}/program {folder} --repeat 1")
    said, scores = _scores(board, model, tmp_path, f"{folder}/python")
    assert said == "armv7l armv7"
    assert _agree(scores, model)


def test_the_module_of_a_raspberry_pi_zero_runs_on_its_processor(
    board: Remote, built: Callable[[str], Built], tmp_path: Path
) -> None:
    model = built("armv6")
    assert model.packages.wheel.name.endswith("-py3-none-linux_armv6l.linux_armv7l.whl")
    board.send(model.packages.wheel)
    board.run(f"python3 -m zipfile -e {model.packages.wheel.name} zero && chmod +x zero/shapes/server")
    said, scores = _scores(board, model, tmp_path, "zero", "QEMU_CPU=arm1176")
    assert said == "armv7l armv6"
    assert _agree(scores, model)
