"""The JSON Schemas are true, and the project's own files and the docs' examples keep to them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from crossfarm.backends.project_files import load_project, load_targets
from crossfarm.cli import schemas
from crossfarm.config.loading import load_boards, load_models, load_pipeline
from crossfarm.config.yaml_reader import parse
from crossfarm.errors import ConfigError
from crossfarm.util.paths import HOME

DOCUMENTS = {"models": "models.md", "toolchain": "toolchains.md", "pipeline": "pipelines.md", "boards": "boards.md"}
MORE = {"toolchain": ("accelerators.md",)}
"""Pages that explain the keys of some backends."""
OWN_FILES = [
    *(("models", path) for path in sorted(HOME.glob("models.yaml"))),
    *(("toolchain", path) for path in sorted(HOME.glob("toolchains/*.yaml"))),
    *(("pipeline", path) for path in sorted(HOME.glob("pipelines/*.yaml"))),
]


def examples() -> Iterator[tuple[str, str]]:
    """Yield schema and text of every YAML example of the docs."""
    for name, document in DOCUMENTS.items():
        for text in re.findall(
            r"^```yaml\n(.*?)^```$", (HOME / "docs" / document).read_text(), re.DOTALL | re.MULTILINE
        ):
            if not text.startswith("# yaml-language-server:"):
                yield name, text


def plain(value: Any) -> Any:
    """Return a value without the lines, so that jsonschema sees plain dicts and lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def check(name: str, text: str) -> None:
    jsonschema.Draft202012Validator(schema(name)).validate(plain(parse(text)[0]))


schema = functools.cache(schemas.schema)


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_the_committed_schema_is_what_the_models_say(name: str) -> None:
    assert schemas.file(name).read_text() == schemas.text(name), "run: python -m crossfarm.cli.schemas"


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_a_schema_is_a_schema_and_explains_every_key(name: str) -> None:
    content = schema(name)
    jsonschema.Draft202012Validator.check_schema(content)
    unexplained = {
        f"{title}.{key}"
        for title, part in {"": content, **content["$defs"]}.items()
        for key, value in part.get("properties", {}).items()
        if not value.get("description") and key != "kind"
    }
    assert not unexplained


@pytest.mark.parametrize(("name", "path"), OWN_FILES, ids=lambda value: getattr(value, "name", value))
def test_the_files_of_the_project_keep_to_their_schema(name: str, path: Path) -> None:
    check(name, path.read_text())


@pytest.mark.parametrize("pipeline", sorted(HOME.glob("pipelines/*.yaml")), ids=lambda path: path.stem)
def test_the_project_loads_with_each_of_its_pipelines(pipeline: Path) -> None:
    project = load_project(models=HOME / "models.yaml", toolchains=HOME / "toolchains", pipeline=pipeline)
    assert set(project.lines) == {model.name for model in project.models_file.models}


@pytest.mark.parametrize(("name", "text"), list(examples()))
def test_the_examples_of_the_docs_load(name: str, text: str, tmp_path: Path) -> None:
    check(name, text)
    path = tmp_path / f"{yaml.safe_load(text).get('name', 'models')}.yaml"
    path.write_text(text)
    match name:
        case "models":
            assert load_models(path).models
        case "toolchain":
            assert load_targets(tmp_path)
        case "boards":
            assert load_boards(path, targets=[file.stem for file in HOME.glob("toolchains/*.yaml")]).boards
        case _:
            assert load_pipeline(path).targets


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_docs_name_every_key(name: str) -> None:
    pages = (DOCUMENTS[name], *MORE.get(name, ()))
    text = "\n".join((HOME / "docs" / page).read_text() for page in pages)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    words = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"`([^`]+)`", prose))))
    content = schema(name)
    keys = {key for part in (content, *content["$defs"].values()) for key in part.get("properties", ())}
    assert keys <= words, sorted(keys - words)


@pytest.mark.parametrize("key", ["nonsense", "licenze"])
def test_a_schema_refuses_what_the_loader_refuses(key: str, tmp_path: Path) -> None:
    text = next(text for name, text in examples() if name == "models").replace(
        "    licence:", f"    {key}: 1\n    licence:"
    )
    (tmp_path / "models.yaml").write_text(text)
    with pytest.raises(jsonschema.ValidationError):
        check("models", text)
    with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
        load_models(tmp_path / "models.yaml")
