"""The stage `fetch` on files and folders of the project, and its keys."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from crossfarm.config.pipelines import Pipeline
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.errors import ConfigError, FetchError
from crossfarm.stages.fetch import stage as fetch
from crossfarm.stages.fetch.artifact import content_folder, fetched_bytes, fetched_file
from crossfarm.stages.fetch.download import Fetched
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Subject

PIPELINE = Pipeline(name="any", targets=("x86_64",))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def _fetch(source: FileSource, root: Path, tmp_path: Path) -> Path:
    output = tmp_path / "output"
    output.mkdir()
    needs = fetch.needs(Subject(pipeline=PIPELINE, source=source))
    path = root / source.file
    parameters = {**needs.parameters, "content": fetch.content_digest(path) if path.exists() else "none"}
    fetch.run(Job(id="fetch:x", stage="fetch", key="0", parameters=parameters, inputs={}, output=output, root=root))
    return output


def test_a_file_is_copied_with_its_digest(root: Path, tmp_path: Path) -> None:
    (root / "models").mkdir()
    (root / "models/net.onnx").write_bytes(b"graph")
    output = _fetch(FileSource(file="models/net.onnx"), root, tmp_path)
    assert (output / "files/net.onnx").read_bytes() == b"graph"
    told = json.loads((output / "source.json").read_text())
    assert told == {"file": "net.onnx", "bytes": 5, "sha256": hashlib.sha256(b"graph").hexdigest()}


def test_a_file_that_changed_since_the_plan_is_not_taken_for_the_planned_one(root: Path, tmp_path: Path) -> None:
    (root / "net.onnx").write_bytes(b"graph")
    planned = fetch.content_digest(root / "net.onnx")
    (root / "net.onnx").write_bytes(b"other")
    source = FileSource(file="net.onnx")
    parameters = {**fetch.needs(Subject(pipeline=PIPELINE, source=source)).parameters, "content": planned}
    job = Job(id="fetch:x", stage="fetch", key="0", parameters=parameters, inputs={}, output=tmp_path, root=root)
    with pytest.raises(FetchError, match="changed while the run was going on"):
        fetch.run(job)


def test_weights_beside_a_model_come_with_it_and_count_in_its_digest(root: Path, tmp_path: Path) -> None:
    (root / "net.onnx").write_bytes(b"graph")
    alone = fetch.content_digest(root / "net.onnx")
    (root / "net.onnx.data").write_bytes(b"weights")
    both = fetch.content_digest(root / "net.onnx")
    (root / "net.onnx.data").write_bytes(b"weightz")
    assert len({alone, both, fetch.content_digest(root / "net.onnx")}) == 3
    output = _fetch(FileSource(file="net.onnx", sha256=alone), root, tmp_path)
    assert (output / "files/net.onnx.data").read_bytes() == b"weightz"


def test_a_folder_is_copied_and_its_digest_follows_names_and_contents(root: Path, tmp_path: Path) -> None:
    (root / "images/deep").mkdir(parents=True)
    (root / "images/a.png").write_bytes(b"a")
    (root / "images/deep/b.png").write_bytes(b"b")
    before = fetch.content_digest(root / "images")
    output = _fetch(FileSource(file="images"), root, tmp_path)
    assert fetch.content_digest(output / "files/images") == before
    (root / "images/a.png").rename(root / "images/c.png")
    assert fetch.content_digest(root / "images") != before


def test_a_missing_file_gets_the_nearest_name(root: Path, tmp_path: Path) -> None:
    (root / "net.onnx").write_bytes(b"graph")
    with pytest.raises(ConfigError, match=r"'nett.onnx' does not exist.*perhaps you meant 'net.onnx'"):
        _fetch(FileSource(file="nett.onnx"), root, tmp_path)


def test_a_file_in_a_missing_folder_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        _fetch(FileSource(file="no/such/net.onnx"), root, tmp_path)


def test_another_content_than_the_pinned_one_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "net.onnx").write_bytes(b"graph")
    with pytest.raises(ConfigError, match=f"expected sha256 {'0' * 64}, got {hashlib.sha256(b'graph').hexdigest()}"):
        _fetch(FileSource(file="net.onnx", sha256="0" * 64), root, tmp_path)


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "/etc/hostname"])
def test_a_path_outside_the_project_is_refused_even_when_nothing_validated_it(
    root: Path, tmp_path: Path, path: str
) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    with pytest.raises(ConfigError, match="lies outside"):
        fetch.local_path(FileSource.model_construct(file=path, sha256=None), root=root)


def test_a_link_out_of_the_project_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    (root / "net.onnx").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="lies outside"):
        _fetch(FileSource(file="net.onnx"), root, tmp_path)


@pytest.mark.parametrize("place", ["net.onnx.data", "images/a.png"])
def test_a_link_out_of_the_project_beside_or_below_is_refused(root: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    (root / "images").mkdir()
    (root / "net.onnx").write_bytes(b"graph")
    (root / place).symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="is a link out of"):
        _fetch(FileSource(file=place.partition("/")[0].removesuffix(".data")), root, tmp_path)


def test_a_source_is_named_as_its_user_knows_it() -> None:
    digest = "0" * 64
    sources = (
        FileSource(file="a.onnx"),
        UrlSource(url="https://example.org/a.onnx", sha256=digest),
        Package(package="thing==1.0", sha256=digest),
    )
    groups = [list(fetch.needs(Subject(pipeline=PIPELINE, source=source)).parameters) for source in sources]
    assert groups == [["source a.onnx"], ["source https://example.org/a.onnx"], ["source thing==1.0"]]


@pytest.mark.parametrize("name", ["source.json", "files", "outcome.json"])
def test_a_file_that_is_called_like_one_of_ours_stays_what_it_is(name: str, root: Path, tmp_path: Path) -> None:
    (root / name).write_bytes(b"theirs")
    (root / f"{name}.data").write_bytes(b"weights")
    artifact = _fetch(FileSource(file=name), root, tmp_path)
    assert fetched_bytes(FileSource(file=name), artifact) == b"theirs"
    assert (content_folder(artifact) / f"{name}.data").read_bytes() == b"weights"


def test_a_folder_that_is_called_like_one_of_ours_stays_what_it_is(root: Path, tmp_path: Path) -> None:
    (root / "source.json").mkdir()
    (root / "source.json/source.json").write_bytes(b"theirs")
    artifact = _fetch(FileSource(file="source.json"), root, tmp_path)
    assert (fetched_file(artifact) / "source.json").read_bytes() == b"theirs"


def test_a_download_that_is_called_like_one_of_ours_stays_what_it_is(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(url: str, *, sha256: str, folder: Path) -> Fetched:
        path = folder / url.rpartition("/")[2]
        path.write_bytes(b"theirs")
        return Fetched(path=path, size=6, sha256=sha256)

    monkeypatch.setattr("crossfarm.stages.fetch.download.download_url", download)
    source = UrlSource(url="https://example.com/source.json", sha256="0" * 64)
    parameters = fetch.needs(Subject(pipeline=PIPELINE, source=source)).parameters
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    fetch.run(Job(id="fetch:x", stage="fetch", key="0", parameters=parameters, inputs={}, output=artifact, root=root))
    assert fetched_bytes(source, artifact) == b"theirs"
