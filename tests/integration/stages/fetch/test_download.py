"""The real pip against a package index on this machine that is out of order at first."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.errors import FetchError
from crossfarm.stages.fetch.download import download_wheel

pytestmark = pytest.mark.integration

WHEEL = "thing-1.0-cp311-cp311-manylinux2014_x86_64.whl"


class Index:
    """A simple index (PEP 503) that holds one wheel and answers the first `failures` requests with 503."""

    def __init__(self, folder: Path, failures: int) -> None:
        self.failures = failures
        owner = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if owner.failures > 0:
                    owner.failures -= 1
                    self.send_error(503)
                    return
                super().do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *arguments: Handler(*arguments, directory=str(folder))
        )
        self.url = f"http://127.0.0.1:{self.http.server_port}/simple/"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Return a wheel below a folder that is laid out as a simple index."""
    folder = tmp_path / "served/simple/thing"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{WHEEL}">{WHEEL}</a>')
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        info = "thing-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nRequires-Python: <3\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: cp311-cp311-manylinux2014_x86_64\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return folder / WHEEL


@pytest.fixture
def index(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    made = Index(wheel.parents[2], failures=0)
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", made.url)
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def test_an_index_that_is_out_of_order_for_a_while_is_waited_out(index: Index, wheel: Path, tmp_path: Path) -> None:
    index.failures = 2
    waits: list[float] = []
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fetched = download_wheel("thing==1.0", sha256=digest, folder=tmp_path, sleep=waits.append)
    assert fetched.path.read_bytes() == wheel.read_bytes()
    assert 1 <= len(waits) <= 2


def test_a_version_that_the_index_lacks_is_told_at_once(index: Index, tmp_path: Path) -> None:
    waits: list[float] = []
    with pytest.raises(FetchError, match=r"no wheel of thing==2\.0: No matching distribution"):
        download_wheel("thing==2.0", sha256="0" * 64, folder=tmp_path, sleep=waits.append)
    assert waits == []


def test_a_wheel_that_is_not_the_pinned_one_is_refused_and_leaves_nothing(
    index: Index, wheel: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    with pytest.raises(FetchError, match=f"got .*{hashlib.sha256(wheel.read_bytes()).hexdigest()}"):
        download_wheel("thing==1.0", sha256="0" * 64, folder=output)
    assert list(output.iterdir()) == []


def test_of_two_wheels_of_a_version_the_pinned_one_is_taken(index: Index, wheel: Path, tmp_path: Path) -> None:
    """An index may get a second one at any time, and pip by itself takes whichever it likes best."""
    other = wheel.with_name("thing-1.0-1-cp311-cp311-manylinux2014_x86_64.whl")
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        target.writestr("thing.txt", "another one")
    links = "".join(
        f'<a href="{each.name}#sha256={hashlib.sha256(each.read_bytes()).hexdigest()}">{each.name}</a>'
        for each in (wheel, other)
    )
    wheel.with_name("index.html").write_text(f"<!DOCTYPE html>{links}")
    for number, each in enumerate((wheel, other)):
        folder = tmp_path / str(number)
        folder.mkdir()
        digest = hashlib.sha256(each.read_bytes()).hexdigest()
        assert download_wheel("thing==1.0", sha256=digest, folder=folder).path.name == each.name


def test_a_wheel_that_is_not_the_pinned_one_is_told_with_its_digest(index: Index, wheel: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.raises(FetchError, match=f"expected sha256 {'0' * 64}, got {WHEEL} with sha256 {digest}"):
        download_wheel("thing==1.0", sha256="0" * 64, folder=tmp_path)
