"""The stage `fetch`: one file, folder, download or wheel, checked against its sha256."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.errors import ConfigError, FetchError, nearest
from crossfarm.stages.fetch.artifact import content_folder, write_description
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=2,
    scope="source",
    sources=("crossfarm/stages/fetch/",),
    runs_in="host",
    requested_by="prepare",
    usual_seconds=5.0,
)

COMPANION_SUFFIXES = (".data", "_data")
"""What ONNX exporters append to the model's file name for the weights that they keep outside it."""


def needs(subject: Subject) -> Needs:
    """Depend on the source's own fields; the plan adds the digest of a file's content as `content`."""
    if subject.source is None:
        raise ValueError("the stage `fetch` is about a source")
    fields = subject.source.model_dump(mode="json", exclude_none=True)
    return Needs(parameters={f"source {source_name(subject.source)}": fields}, inputs={})


def source_name(source: FileSource | UrlSource | Package) -> str:
    """Return the name of a source as its user knows it: the path, the address, or `name==version`."""
    if isinstance(source, FileSource):
        return source.file
    return source.url if isinstance(source, UrlSource) else source.package


def run(job: Job) -> None:
    """Write the fetched file under its own base name below files/, and source.json {"file", "bytes", "sha256"}.

    Raises:
        ConfigError: a declared file is missing, lies outside the project's folder or is not the pinned one.
        FetchError: a download failed or is not the pinned one, or a file is not the one that the plan has seen.
    """
    source = _source_of(job)
    folder = content_folder(job.output)
    folder.mkdir()
    if isinstance(source, FileSource):
        path = _copy_local(source, root=job.root, output=folder)
        if content_digest(path) != job.parameters["content"]:
            raise FetchError(f"file {source.file!r} was changed while the run was going on; run the same command again")
    else:
        from crossfarm.stages.fetch.download import download_url, download_wheel

        if isinstance(source, UrlSource):
            path = download_url(source.url, sha256=source.sha256, folder=folder).path
        else:
            path = download_wheel(source.package, sha256=source.sha256, folder=folder).path
    size = sum(file.stat().st_size for file in _files_of(path))
    write_description(job.output, name=path.name, size=size, sha256=content_digest(path))


def local_path(source: FileSource, *, root: Path) -> Path:
    """Return where a declared file or folder stands.

    Args:
        source: the declared path, relative to `root`.
        root: the folder of models.yaml.

    Raises:
        ConfigError: it does not exist, or lies outside `root` through `..`, an absolute path or a link.
    """
    path = root / source.file
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            f"file {source.file!r} lies outside {root}; put it (not a link to it) into the folder of models.yaml"
        )
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(
            f"file {source.file!r} does not exist in {root}{nearest(path.name, siblings)}; correct `file`"
        )
    return path


def content_digest(path: Path) -> str:
    """Return the sha256 of a file; with companions, or for a folder, that of the list of names and digests.

    The plan puts this into the key of a declared file, so that the key follows its content.
    """
    files = list(_files_of(path))
    if files == [path]:
        return _digest(path)
    base = path if path.is_dir() else path.parent
    lines = (f"{file.relative_to(base).as_posix()}\0{_digest(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _source_of(job: Job) -> FileSource | UrlSource | Package:
    """Read the source out of the job's parameters; `content` is the plan's, not the source's."""
    groups = [value for name, value in job.parameters.items() if name == "source" or name.startswith("source ")]
    if len(groups) != 1:
        raise ValueError(f"job {job.id} has {len(groups)} sources; the stage `fetch` takes one")
    fields: dict[str, Any] = {name: value for name, value in groups[0].items() if name != "content"}
    adapter: TypeAdapter[FileSource | UrlSource | Package] = TypeAdapter(FileSource | UrlSource | Package)
    return adapter.validate_python(fields)


def _copy_local(source: FileSource, *, root: Path, output: Path) -> Path:
    path = local_path(source, root=root)
    for file in _files_of(path):
        if not file.resolve().is_relative_to(root.resolve()):
            raise ConfigError(f"{file} is a link out of {root}; copy the file itself into the folder of models.yaml")
        target = output / file.relative_to(path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    copied = output / path.name
    if source.sha256 is not None and _pinned_digest(copied) != source.sha256:
        raise ConfigError(
            f"file {source.file!r} is not the pinned one: expected sha256 {source.sha256}, "
            f"got {_pinned_digest(copied)}; correct `sha256`, or leave it out for a file of your own"
        )
    return copied


def _pinned_digest(path: Path) -> str:
    """Return what `sha256sum` says about a file; a folder has no such digest, so its list's digest stands in."""
    return content_digest(path) if path.is_dir() else _digest(path)


def _files_of(path: Path) -> Iterator[Path]:
    """Yield the file and its companions, or all files of a folder, in an order that does not depend on the disk."""
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
        return
    yield path
    for suffix in COMPANION_SUFFIXES:
        companion = path.with_name(path.name + suffix)
        if companion.is_file():
            yield companion


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
