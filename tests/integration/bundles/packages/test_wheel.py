"""The wheel is installed by pip beside NumPy alone, and answers what the reference answers."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tarfile
import textwrap
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossfarm.util.paths import HOME
from tests.integration.bundles.packages.building import CLASSES, Built, command

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the wheel of this machine is tried on x86_64"),
]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has NumPy and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    here = Path(np.__file__).parents[1]
    for path in (*here.glob("numpy"), *here.glob("numpy.libs"), *here.glob("numpy-*.dist-info")):
        shutil.copytree(path, packages / path.name)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def installed(python: Path, built: Callable[[str], Built]) -> Built:
    """Install the wheel of this machine."""
    model = built("x86_64")
    words = [python, "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check", model.packages.wheel]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return model


def _say(python: Path, code: str, *arguments: object, **environment: str) -> str:
    """Run Python code far from this project, and return what it prints."""
    done = subprocess.run(
        [python, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def _close(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> bool:
    return bool(np.max(np.abs(found - expected)) <= 1e-5 * np.max(np.abs(expected)))


def test_predict_answers_what_the_reference_answers(python: Path, installed: Built, tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", installed.inputs)
    _say(
        python,
        """
        import sys
        import numpy, shapes
        inputs = numpy.load(sys.argv[1])
        numpy.save(sys.argv[2], numpy.stack([shapes.predict(case) for case in inputs]))
        """,
        tmp_path / "inputs.npy",
        tmp_path / "scores.npy",
    )
    assert _close(np.load(tmp_path / "scores.npy"), installed.scores)


def test_the_weights_are_mapped_and_not_read(python: Path, installed: Built) -> None:
    mapped = _say(
        python,
        """
        import shapes
        model = shapes.Model()
        with open("/proc/self/maps") as maps:
            print([line.split()[1] for line in maps if "/shapes/weights.bin" in line])
        """,
    )
    assert mapped.strip() == "['r--s']" or mapped.strip() == "['r--p']"


def test_threads_at_once_answer_alike_and_a_forked_child_too(python: Path, installed: Built) -> None:
    said = _say(
        python,
        """
        import os, threading
        import numpy, shapes
        array = numpy.linspace(-1, 1, 3 * 32 * 32, dtype="float32").reshape(1, 3, 32, 32)
        alone, right = shapes.predict(array), []
        def work():
            right.extend((shapes.predict(array) == alone).all() for _ in range(50))
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(len(right), all(right))
        child = os.fork()
        if child == 0:
            os._exit(0 if (shapes.predict(array) == alone).all() else 1)
        print(os.waitpid(child, 0)[1])
        with shapes.Model(threads=3) as model:
            print(bool(numpy.allclose(model.predict(array), alone, rtol=1e-5)))
        """,
    )
    assert said.split() == ["300", "True", "0", "True"]


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        ("shapes.predict(array.astype('float64'))", "TypeError", "float32 [1, 3, 32, 32] got dtype float64"),
        ("shapes.predict(array.astype('>f4'))", "TypeError", "got dtype >f4"),
        ("shapes.predict(array[0])", "ValueError", "got shape [3, 32, 32]"),
        ("shapes.predict()", "TypeError", "takes 1 inputs (image: float32 [1, 3, 32, 32]), got 0"),
        ("shapes.predict_image('photo.png')", "ImportError", "images need Pillow"),
        ("shapes.Model(threads=0)", "ValueError", "give 1 to 256"),
        ("shapes.text(array)", "ValueError", "shapes does not read texts"),
    ],
)
def test_a_wrong_call_is_told_in_words(python: Path, installed: Built, call: str, kind: str, words: str) -> None:
    said = _say(
        python,
        f"""
        import numpy, shapes
        array = numpy.zeros((1, 3, 32, 32), "float32")
        try:
            {call}
        except Exception as error:
            print(type(error).__name__, error)
        """,
    )
    assert said.startswith(f"{kind} ")
    assert words in said


def test_what_numpy_has_in_another_order_is_taken_as_it_is_meant(python: Path, installed: Built) -> None:
    said = _say(
        python,
        """
        import numpy, shapes
        array = numpy.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype("float32").transpose(0, 3, 1, 2)
        print((shapes.predict(array) == shapes.predict(array.copy(order="C"))).all(), array.flags.c_contiguous)
        """,
    )
    assert said.split() == ["True", "False"]


def test_the_model_says_what_it_is(python: Path, installed: Built) -> None:
    code = "import json, shapes as m; print(json.dumps([m.MODEL.classes, m.__version__, str(m.MODEL.inputs[0])]))"
    classes, version, port = json.loads(_say(python, code))
    assert tuple(classes) == CLASSES
    assert f"shapes-{version}-" in installed.packages.wheel.name
    assert port == "image: float32 [1, 3, 32, 32]"


def test_pip_finds_nothing_wrong_and_takes_everything_away_again(python: Path, installed: Built) -> None:
    packages = next(python.parents[1].glob("lib/python*/site-packages"))
    checked = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "shapes"], check=True)
    assert not list(packages.glob("shapes*"))
    words = [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", installed.packages.wheel]
    subprocess.run(words, check=True)


def test_the_module_works_from_the_unpacked_archive(python: Path, installed: Built, tmp_path: Path) -> None:
    with tarfile.open(installed.packages.archive) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "x86_64-shapes-float32"
    said = _say(python, "import shapes; print(shapes.__file__)", PYTHONPATH=str(folder / "python"))
    assert said.startswith(str(folder))
    done = subprocess.run([folder / "program", folder], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["model"] == "shapes"


def test_a_wheel_whose_files_were_mixed_up_is_refused(python: Path, installed: Built, tmp_path: Path) -> None:
    shutil.unpack_archive(installed.packages.wheel, tmp_path, "zip")
    path = tmp_path / "shapes" / "model.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["identity"], "0" * 64))
    code = """
    import numpy, shapes
    try:
        shapes.predict(numpy.zeros((1, 3, 32, 32), "float32"))
    except shapes.ModelError as error:
        print(error)
    """
    assert "different builds" in _say(python, code, PYTHONPATH=str(tmp_path))
    (tmp_path / "shapes" / "weights.bin").write_bytes(b"CFWEIGHT")
    assert "weights.bin" in _say(python, code, PYTHONPATH=str(tmp_path))


def test_the_command_writes_the_same_bytes_again(project: Path, installed: Built) -> None:
    folder = project / "again"
    words = command(project, "package", "x86_64-shapes-float32", "--to", str(folder))
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=HOME)
    assert done.returncode == 0, done.stderr
    for made in (installed.packages.wheel, installed.packages.archive):
        assert (folder / made.name).read_bytes() == made.read_bytes()
        assert made.name in done.stdout
