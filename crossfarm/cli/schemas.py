"""JSON Schemas of the YAML files, for editors, and of what `--json` of a run answers, for programs.

`python -m crossfarm.cli.schemas` writes them anew.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import operator
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from crossfarm.backends import BACKENDS, code_section
from crossfarm.config import (
    accelerators,
    boards,
    budgets,
    checks,
    decoding,
    exceptions,
    llvm,
    models,
    notices,
    pipelines,
    quantisation,
    samples,
    sources,
    targets,
)
from crossfarm.reports import outcome
from crossfarm.util.paths import HOME

SCHEMAS: Mapping[str, type[BaseModel]] = {
    "models": models.ModelsFile,
    "toolchain": targets.target_with(functools.reduce(operator.or_, map(code_section, BACKENDS))),
    "pipeline": pipelines.Pipeline,
    "boards": boards.BoardsFile,
    "outcome": outcome.Outcome,
}
"""Name of each schema and what it describes."""
FOLDER = HOME / "docs" / "schemas"


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one of SCHEMAS; what a key means stands in its description."""
    content = SCHEMAS[name].model_json_schema()
    definitions = content.get("$defs", {})
    for title, definition in {SCHEMAS[name].__name__: content, **definitions}.items():
        for key, description in _key_descriptions().get(title, {}).items():
            if key in definition.get("properties", {}):
                definition["properties"][key]["description"] = description
    if "Model" in definitions:
        _allow_defaults(content)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **content}


def text(name: str) -> str:
    """Return the content of the schema's file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def file(name: str, folder: Path = FOLDER) -> Path:
    """Return the path of the schema's file."""
    return folder / f"{name}.schema.json"


def _allow_defaults(content: dict[str, Any]) -> None:
    """Let models leave out what `defaults` may give: a schema cannot see the merge, so it requires only the name.

    `defaults` takes the keys of a model, for completion; its values are judged where they arrive, in the models.
    """
    model = content["$defs"]["Model"]
    model["required"] = ["name"]
    content["properties"]["defaults"]["properties"] = dict.fromkeys(model["properties"], True)
    content["properties"]["defaults"]["additionalProperties"] = False


def _key_descriptions() -> dict[str, dict[str, str]]:
    """Return class -> key -> the text that stands below the key in the source, of the class or of one above it."""
    sections = (sys.modules[code_section(name).__module__] for name in BACKENDS)
    found: dict[str, dict[str, str]] = {}
    for module in (
        accelerators,
        boards,
        budgets,
        checks,
        decoding,
        exceptions,
        llvm,
        models,
        notices,
        pipelines,
        quantisation,
        samples,
        sources,
        targets,
        outcome,
        *sections,
    ):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                bases = (found.get(ast.unparse(base), {}) for base in node.bases)
                found[node.name] = functools.reduce(operator.or_, (*bases, _descriptions_of(node)), {})
    return found


def _descriptions_of(definition: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        match below:
            case ast.Expr(value=ast.Constant(value=str(words))):
                found[field.target.id] = inspect.cleandoc(words)
    return found


def main() -> None:
    """Write every schema and say where."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in SCHEMAS:
        file(name).write_text(text(name), encoding="utf-8")
        sys.stdout.write(f"wrote {file(name)}\n")


if __name__ == "__main__":
    main()
