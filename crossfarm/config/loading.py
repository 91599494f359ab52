"""Loads models.yaml, the toolchain files and pipelines; every problem of a file is told at once, with its line."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from crossfarm.config import diagnostics, yaml_reader
from crossfarm.config.base import Declared
from crossfarm.config.boards import BoardsFile
from crossfarm.config.budgets import Budgets
from crossfarm.config.diagnostics import Problem
from crossfarm.config.exceptions import unknown_check
from crossfarm.config.models import ModelsFile
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.project import Project
from crossfarm.config.targets import DEFAULT_BACKEND, Target, target_with
from crossfarm.errors import ConfigError, nearest

_Model = TypeVar("_Model", bound=BaseModel)
_Report = Callable[[diagnostics.Path, str], None]
Sections = Callable[[str], type[Declared]]
"""Backend -> what its `code:` section is; raises ConfigError for one that there is not."""


def load_models(path: Path) -> ModelsFile:
    """Return models.yaml with `defaults` merged into every model, and checked.

    Raises:
        ConfigError: a line `file:line: path: what is wrong, and what to do` for every problem of the file.
    """
    found: list[Problem] = []
    models_file, _ = _read_models(path, found, targets=None)
    return _complete(models_file, found)


def load_targets(folder: Path, *, sections: Sections) -> dict[str, Target]:
    """Return the toolchain files NAME.yaml of a folder by name, in alphabetical order.

    Arguments:
        folder: where they stand.
        sections: says what the `code:` section of a backend is; see crossfarm.backends.code_section.

    Raises:
        ConfigError: a line for every problem of every file; also when the folder holds no toolchain file.
    """
    found: list[Problem] = []
    targets = _read_targets(folder, found, sections)
    diagnostics.raise_all(found)
    return targets


def load_pipeline(path: Path) -> Pipeline:
    """Return the pipeline that the file NAME.yaml declares.

    Raises:
        ConfigError: a line for every problem of the file.
    """
    found: list[Problem] = []
    pipeline, _ = _read_named(path, Pipeline, found)
    return _complete(pipeline, found)


def load_boards(path: Path, *, targets: Collection[str]) -> BoardsFile:
    """Return boards.yaml.

    Arguments:
        path: the file.
        targets: names of the toolchain files, which the boards' targets must be among.

    Raises:
        ConfigError: a line for every problem of the file.
    """
    found: list[Problem] = []
    tree = _merge_defaults(_read_tree(path, found), "boards")
    boards = _validate(path, tree, BoardsFile, found)
    if isinstance(tree, yaml_reader.YamlMapping):
        report = _reporter(path, tree, found)
        entries = list(_entries(tree, "boards"))
        _check_unique(entries, "boards", report)
        for index, entry in entries:
            for number, name in _texts(entry.get("targets")):
                if name not in targets:
                    report(("boards", index, "targets", number), _unknown_target(name, targets=targets))
    return _complete(boards, found)


def load_project(*, models: Path, toolchains: Path, pipeline: Path, sections: Sections) -> Project:
    """Load all files of a project and check them against each other.

    Arguments:
        models: models.yaml.
        toolchains: folder of the toolchain files.
        pipeline: the file of the pipeline to run.
        sections: as for `load_targets`.

    Raises:
        ConfigError: a line for every problem of every file.
    """
    found: list[Problem] = []
    targets = _read_targets(toolchains, found, sections)
    toolchain_names = {file.stem for file in _toolchain_files(toolchains)}
    models_file, lines = _read_models(models, found, targets=toolchain_names)
    chosen, tree = _read_named(pipeline, Pipeline, found)
    if isinstance(tree, yaml_reader.YamlMapping):
        _check_pipeline(tree, _reporter(pipeline, tree, found), targets=toolchain_names, models=lines)
    return Project(
        models_path=models,
        root=models.parent,
        models_file=_complete(models_file, found),
        targets=targets,
        pipeline=_complete(chosen, found),
        lines=lines,
    )


def merge(defaults: yaml_reader.YamlMapping, own: yaml_reader.YamlMapping) -> yaml_reader.YamlMapping:
    """Return `own` over `defaults`: mappings are merged key by key, lists and scalars are replaced.

    Every key keeps the line where its value was written.
    """
    merged = yaml_reader.YamlMapping(own.line)
    merged.update(defaults)
    merged.lines.update(defaults.lines)
    for key, value in own.items():
        base = defaults.get(key)
        if isinstance(value, yaml_reader.YamlMapping) and isinstance(base, yaml_reader.YamlMapping):
            merged[key] = merge(base, value)
        else:
            merged[key] = value
    merged.lines.update(own.lines)
    merged.inherited = frozenset(defaults.keys() - own.keys())
    return merged


def shown_path(path: Path) -> str:
    """Return a path as messages show it: relative when it is below the current folder, otherwise as it was given."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _complete(value: _Model | None, found: list[Problem]) -> _Model:
    """Return a value that was read without any problem; a value is missing only where a problem was found."""
    diagnostics.raise_all(found)
    if value is None:
        raise ConfigError("a file gave neither a value nor a problem; report this as a defect of crossfarm")
    return value


def _read_models(
    path: Path, found: list[Problem], *, targets: Collection[str] | None
) -> tuple[ModelsFile | None, dict[str, int]]:
    """Return models.yaml and the line of each model; add to `found`. Targets are checked when they are given."""
    tree = _merge_defaults(_read_tree(path, found), "models")
    models_file = _validate(path, tree, ModelsFile, found)
    if not isinstance(tree, yaml_reader.YamlMapping):
        return models_file, {}
    report = _reporter(path, tree, found)
    models = list(_entries(tree, "models"))
    datasets = list(_entries(tree, "datasets"))
    dataset_names = _check_unique(datasets, "datasets", report)
    model_names = _check_unique(models, "models", report)
    missing_dataset = functools.cache(functools.partial(_unknown_dataset, datasets=dataset_names))
    missing_target = functools.cache(functools.partial(_unknown_target, targets=targets or ()))
    for index, model in models:
        if len(found) > diagnostics.ENOUGH_PROBLEMS:
            break
        for place, name in _dataset_references(model, index):
            if name not in dataset_names:
                report(place, missing_dataset(name))
        for place, name in _target_references(model, index):
            if targets is not None and name not in targets:
                report(place, missing_target(name))
        for place, wrong in _unknown_checks(model, index):
            report(place, wrong)
    for place, source in _sources(models, datasets):
        _check_file(source, place, path.parent, report)
    return models_file, {name: tree["models"].lines[index] for name, index in model_names.items()}


def _merge_defaults(tree: Any, key: str) -> Any:
    """Return the tree of a file with `defaults` under each entry of `key`; what is malformed is left for validation."""
    if not isinstance(tree, yaml_reader.YamlMapping):
        return tree
    defaults, entries = tree.get("defaults"), tree.get(key)
    if not isinstance(defaults, yaml_reader.YamlMapping) or not isinstance(entries, yaml_reader.YamlSequence):
        return tree
    merged_entries = yaml_reader.YamlSequence(entries.line)
    merged_entries.extend(
        merge(defaults, entry) if isinstance(entry, yaml_reader.YamlMapping) else entry for entry in entries
    )
    merged_entries.lines = entries.lines
    merged = yaml_reader.YamlMapping(tree.line)
    merged.update(tree, **{key: merged_entries})
    merged.lines = tree.lines
    return merged


def _read_targets(folder: Path, found: list[Problem], sections: Sections) -> dict[str, Target]:
    files = _toolchain_files(folder)
    if not files:
        message = "holds no toolchain file NAME.yaml; docs/toolchains.md shows one"
        found.append(Problem(file=shown_path(folder), line=1, path="", message=message))
    targets: dict[str, Target] = {}
    for file in files:
        tree = _read_tree(file, found)
        target = _check_name(
            file, tree, _validate(file, tree, _target_model(file, tree, found, sections), found), found
        )
        if target is not None:
            targets[target.name] = target
    return targets


def _target_model(file: Path, tree: Any, found: list[Problem], sections: Sections) -> type[Target]:
    """Return what a toolchain file must be: the keys of all targets, with the section of the backend that it names."""
    name = tree.get("backend", DEFAULT_BACKEND) if isinstance(tree, yaml_reader.YamlMapping) else DEFAULT_BACKEND
    try:
        return target_with(sections(name if isinstance(name, str) else DEFAULT_BACKEND))
    except ConfigError as error:
        _reporter(file, tree, found)(("backend",), str(error))
        return target_with(sections(DEFAULT_BACKEND))


def _toolchain_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"))


def _read_named(path: Path, model: type[_Model], found: list[Problem]) -> tuple[_Model | None, Any]:
    """Return the value and tree of a file whose name must be the `name:` that it declares."""
    tree = _read_tree(path, found)
    return _check_name(path, tree, _validate(path, tree, model, found), found), tree


def _check_name(path: Path, tree: Any, value: _Model | None, found: list[Problem]) -> _Model | None:
    """Report a file whose name is not the `name:` that it declares; return the value."""
    name = tree.get("name") if isinstance(tree, yaml_reader.YamlMapping) else None
    if isinstance(name, str) and name != path.stem:
        message = f"the file is called {path.name}, its name is {diagnostics.show(name)}; make both the same"
        _reporter(path, tree, found)(("name",), message)
    return value


def _read_tree(path: Path, found: list[Problem]) -> Any:
    """Return the tree of a file, or None after adding to `found`."""
    try:
        tree, problems = yaml_reader.parse(yaml_reader.read_text(path))
    except yaml_reader.YamlError as problem:
        found.append(Problem(file=shown_path(path), line=problem.line, path="", message=problem.message))
        return None
    found.extend(Problem(file=shown_path(path), line=item.line, path="", message=item.message) for item in problems)
    if not isinstance(tree, yaml_reader.YamlMapping):
        message = (
            f"expected a mapping of keys, got {diagnostics.show(tree)}; docs/ describes every file with an example"
        )
        found.append(Problem(file=shown_path(path), line=1, path="", message=message))
        return None
    return tree


def _validate(path: Path, tree: Any, model: type[_Model], found: list[Problem]) -> _Model | None:
    if tree is None:
        return None
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        found.extend(diagnostics.from_validation(shown_path(path), tree, model, error))
        return None


def _reporter(path: Path, tree: Any, found: list[Problem]) -> _Report:
    def report(place: diagnostics.Path, message: str) -> None:
        found.append(diagnostics.locate(shown_path(path), tree, place, message))

    return report


def _entries(tree: yaml_reader.YamlMapping, key: str) -> Iterator[tuple[int, yaml_reader.YamlMapping]]:
    """Yield index and entry of a list of mappings; what is malformed is left out."""
    items = tree.get(key)
    if isinstance(items, yaml_reader.YamlSequence):
        yield from ((index, item) for index, item in enumerate(items) if isinstance(item, yaml_reader.YamlMapping))


def _check_unique(entries: list[tuple[int, yaml_reader.YamlMapping]], key: str, report: _Report) -> dict[str, int]:
    """Report names that are given twice; return name -> index of its first entry."""
    first: dict[str, int] = {}
    lines: dict[str, int] = {}
    for index, entry in entries:
        name = entry.get("name")
        if not isinstance(name, str):
            continue
        if name in first:
            report(
                (key, index, "name"),
                f"the name {diagnostics.show(name)} is taken on line {lines[name]}; choose another",
            )
            continue
        first[name], lines[name] = index, entry.lines["name"]
    return first


def _dataset_references(model: yaml_reader.YamlMapping, index: int) -> Iterator[tuple[diagnostics.Path, str]]:
    for number, name in _texts(model.get("data")):
        yield ("models", index, "data", number), name
    quantisation = model.get("quantisation")
    for number, name in _texts(quantisation.get("data") if isinstance(quantisation, dict) else None):
        yield ("models", index, "quantisation", "data", number), name


def _target_references(model: yaml_reader.YamlMapping, index: int) -> Iterator[tuple[diagnostics.Path, str]]:
    skips = model.get("skip")
    for number, skip in enumerate(skips if isinstance(skips, list) else ()):
        name = skip.get("target") if isinstance(skip, dict) else None
        if isinstance(name, str):
            yield ("models", index, "skip", number, "target"), name
    for number, expected in _expected(model):
        for at, name in _texts(expected.get("targets")):
            yield ("models", index, "expected", number, "targets", at), name
    checks = model.get("checks")
    declared = checks if isinstance(checks, dict) else {}
    for key in Budgets.model_fields:
        limits = declared.get(key)
        for name in limits if isinstance(limits, dict) else ():
            if isinstance(name, str):
                yield ("models", index, "checks", key, name), name


def _unknown_checks(model: yaml_reader.YamlMapping, index: int) -> Iterator[tuple[diagnostics.Path, str]]:
    """Yield the place of each known failure whose check there is not, and what is wrong with it."""
    data = [name for _, name in _texts(model.get("data"))]
    for number, expected in _expected(model):
        name = expected.get("check")
        if isinstance(name, str) and (wrong := unknown_check(name, data=data)):
            yield ("models", index, "expected", number, "check"), wrong


def _expected(model: yaml_reader.YamlMapping) -> Iterator[tuple[int, Any]]:
    found = model.get("expected")
    yield from ((n, item) for n, item in enumerate(found if isinstance(found, list) else ()) if isinstance(item, dict))


def _check_pipeline(
    tree: yaml_reader.YamlMapping, report: _Report, *, targets: Collection[str], models: Collection[str]
) -> None:
    """Report targets that do not exist, and globs that match no model."""
    for index, name in _texts(tree.get("targets")):
        if name not in targets:
            report(("targets", index), _unknown_target(name, targets=targets))
    for index, glob in _texts(tree.get("models")):
        if models and not any(fnmatch.fnmatchcase(name, glob) for name in models):
            report(
                ("models", index),
                f"no model is called {diagnostics.show(glob)}{nearest(glob, models) or '; correct the glob'}",
            )


def _unknown_dataset(name: str, *, datasets: Collection[str]) -> str:
    return f"there is no data set {diagnostics.show(name)}{nearest(name, datasets) or '; declare it under `datasets:`'}"


def _unknown_target(name: str, *, targets: Collection[str]) -> str:
    hint = nearest(name, targets) or f"; there are {', '.join(sorted(targets)) or 'none'}"
    return f"there is no target {diagnostics.show(name)}{hint}"


def _texts(items: Any) -> Iterator[tuple[int, str]]:
    if isinstance(items, list):
        yield from ((index, item) for index, item in enumerate(items) if isinstance(item, str))


def _sources(
    models: list[tuple[int, yaml_reader.YamlMapping]], datasets: list[tuple[int, yaml_reader.YamlMapping]]
) -> Iterator[tuple[diagnostics.Path, Any]]:
    """Yield the place and value of everything that may be a FileSource."""
    for index, dataset in datasets:
        yield ("datasets", index, "source"), dataset.get("source")
    for index, model in models:
        for path in (("source",), ("source", "state"), ("decode", "classes", "source")):
            value: Any = model
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            yield ("models", index, *path), value


def _check_file(source: Any, place: diagnostics.Path, root: Path, report: _Report) -> None:
    """Report a file source whose file is not there."""
    file = source.get("file") if isinstance(source, dict) else None
    if not isinstance(file, str) or not file.isprintable():
        return
    try:
        exists = (root / file).exists()
    except OSError:
        exists = False
    if not exists:
        report(
            (*place, "file"),
            f"there is no file {diagnostics.show(file)} in {root}; correct the path, or put the file there",
        )
