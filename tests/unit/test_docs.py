"""The documents keep to the project: links lead somewhere, commands exist, tables name what there is."""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke import Collection, ParseError, Program
from invoke.loader import FilesystemLoader
from invoke.parser import Parser, ParserContext

from crossfarm import errors
from crossfarm.backends.project_files import load_project
from crossfarm.cli.develop import IMPORT_LINTER, LINTERS
from crossfarm.cli.program import spelled_out
from crossfarm.config.pipelines import STAGES
from crossfarm.util.paths import HOME

DOCUMENTS = sorted([*HOME.glob("*.md"), *(HOME / "docs").rglob("*.md")])
README, RESULTS, BUNDLES = (HOME / name for name in ("README.md", "docs/results.md", "docs/bundles.md"))
EXTENDING = HOME / "docs" / "extending.md"
"""The only page that has files of its own."""


def _links() -> Iterator[Any]:
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"[a-z]+:", link):
                yield pytest.param(document, link, id=f"{document.name}-{link}")


def _anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("document", "link"), list(_links()))
def test_a_link_leads_somewhere(document: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    assert target.exists()
    assert target.is_relative_to(HOME)
    if anchor:
        assert anchor in _anchors(target)


def test_every_document_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    frontier = [README]
    while frontier:
        document = frontier.pop()
        if document in seen:
            continue
        seen.add(document)
        links = re.findall(r"\]\(([^)\s#]+\.md)", document.read_text())
        frontier += [(document.parent / link).resolve() for link in links if ":" not in link]
    assert seen == set(DOCUMENTS)


def _commands() -> list[str]:
    """Return every `./inv ...` of the documents: in code spans, and as lines of code."""
    found: set[str] = set()
    for document in DOCUMENTS:
        text = document.read_text()
        found.update(re.findall(r"`(\./inv[^`\n]*)`", text))
        found.update(re.findall(r"^(?:    |\$ )?(\./inv .*)$", text, re.MULTILINE))
    return sorted(found)


@pytest.fixture(scope="module")
def parse() -> Callable[[str], Sequence[ParserContext]]:
    """Return what parses a command as invoke does over the tasks: its own options first, then the tasks with theirs."""
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        module, _ = FilesystemLoader(start=str(HOME)).load("tasks")
    finally:
        sys.dont_write_bytecode = written
    tasks = Collection.from_module(module)
    initial = Program(namespace=tasks).initial_context

    def parse_command(command: str) -> Sequence[ParserContext]:
        own = Parser(initial=initial, ignore_unknown=True).parse_argv(shlex.split(command)[1:])
        found: Sequence[ParserContext] = Parser(contexts=tasks.to_contexts(), initial=initial).parse_argv(
            spelled_out(own.unparsed)
        )
        return found[1:]

    return parse_command


@pytest.mark.parametrize("command", _commands())
def test_a_command_of_the_documents_is_one(command: str, parse: Callable[[str], Sequence[ParserContext]]) -> None:
    for context in parse(command):
        arguments = {name: argument.value for name, argument in context.args.items()}
        for target in filter(None, (arguments.get("targets") or "").split(",")):
            assert (HOME / "toolchains" / f"{target}.yaml").exists()
        if arguments.get("pipeline"):
            file = f"pipelines/{arguments['pipeline']}.yaml"
            assert (HOME / file).exists() or f"\n# {file}\n" in EXTENDING.read_text()
        if context.name == "bench" and arguments["name"] not in (None, "", "NAME", "all"):
            assert (HOME / "benchmarks" / f"{arguments['name']}.py").exists()


def test_the_readme_shows_the_two_commands() -> None:
    assert {"./inv setup pipeline --models models.yaml", "./inv setup test"} <= set(_commands())


@pytest.mark.parametrize("command", ["./inv pipelines", "./inv plan --onyl x", "./inv clean --older"])
def test_a_wrong_command_would_be_found(command: str, parse: Callable[[str], Sequence[ParserContext]]) -> None:
    with pytest.raises(ParseError):
        parse(command)


def test_the_readmes_own_model_has_eight_lines_and_loads(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(text.splitlines()) == 8
    (tmp_path / "mine.yaml").write_text(text)
    (tmp_path / "mine.onnx").touch()
    project = load_project(
        models=tmp_path / "mine.yaml", toolchains=HOME / "toolchains", pipeline=HOME / "pipelines" / "default.yaml"
    )
    assert [model.name for model in project.models_file.models] == ["mine"]


@pytest.mark.parametrize("document", [README, RESULTS], ids=lambda path: path.name)
def test_the_exit_codes_are_those_of_the_code(document: Path) -> None:
    section = document.read_text().partition("## Exit codes\n")[2].partition("\n## ")[0]
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == codes


def _names_in_code() -> set[str]:
    """Return the names of checks and measurements, up to where an output or data set begins: `accuracy.output.`."""
    found: set[str] = set()
    for module in ("rows", "outputs", "decoded", "shapes", "ladder", "code", "accelerators", "budgets"):
        tree = ast.parse((HOME / "crossfarm" / "stages" / "check" / f"{module}.py").read_text())
        for node in ast.walk(tree):
            makers = ("measurement", "CheckRecord", "check")
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith(makers):
                continue
            for value in (*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")):
                first = value.values[0] if isinstance(value, ast.JoinedStr) else value
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
        found.update(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and re.fullmatch(r"(accuracy|code|profile|work)\.\w+|text", str(node.value))
        )
    return found


def test_the_results_page_names_every_row_and_no_other() -> None:
    text = RESULTS.read_text()
    rows: set[str] = set()
    for section in ("Checks", "Measurements"):
        table = text.partition(f"## {section}\n")[2].partition("\n## ")[0]
        for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE):
            rows.update(re.findall("`(.+?)`", cell))
    documented = {re.sub(r"(OUTPUT|NAME|KEY)$|RUNG\.\w+$", "", row.removesuffix(".DATASET")) for row in rows}
    assert documented == _names_in_code()


SMALLER = ("requirements/terminal.in", "requirements/test.in")


def test_every_dependency_says_why_it_is_there() -> None:
    section = (HOME / "CONTRIBUTING.md").read_text().partition("## Dependencies\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([a-z@].*?) \|", section, re.MULTILINE)
    explained = {name for cell in cells for name in cell.split(", ")} - {"package"}
    texts = [(HOME / name).read_text() for name in ("requirements.in", *SMALLER)]
    pinned = set(re.findall(r"^([a-z0-9-]+)==", "\n".join(texts), re.MULTILINE))
    packages = (HOME / "requirements").glob("*/package.json")
    of_npm = {name for path in packages for name in json.loads(path.read_text())["devDependencies"]}
    assert explained == pinned | of_npm


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_knows_of_a_machine(document: Path) -> None:
    assert not re.search(r"(?<![\w.])/(work|tmp|home|root|opt)/", document.read_text())


def test_the_worked_example_names_functions_that_exist_and_passes_every_stage() -> None:
    text = (HOME / "docs" / "architecture.md").read_text().partition("## One worked example\n")[2]
    names = re.findall(r"`((?:[a-z_0-9]+\.)+[A-Za-z_]+)`", text)
    assert len(names) > 30
    for name in names:
        pkgutil.resolve_name(f"crossfarm.{name}")
    stages = set(re.findall(r"stages\.(\w+)\.", " ".join(names)))
    assert set(STAGES) - {"calibration", "quantize", "quantize_shift", "interfaces"} <= stages, (
        "what the pipeline does for a float32 cell"
    )


def test_the_architecture_can_be_read_in_ten_minutes() -> None:
    assert len((HOME / "docs" / "architecture.md").read_text().split()) < 1500


def test_every_path_of_the_project_that_a_document_names_is_there() -> None:
    for document in DOCUMENTS:
        text = document.read_text()
        named = set(
            re.findall(r"(?<![\w./])((?:crossfarm|runner|tests|benchmarks|dockerfiles|requirements)/[\w/.-]*\w)", text)
        )
        own = set(re.findall(r"^# ((?:crossfarm|toolchains|pipelines)/\S+)$", text, re.MULTILINE))
        missing = {
            path
            for path in named
            if not (HOME / path).exists() and "NAME" not in path and not any(made.startswith(path) for made in own)
        }
        assert not missing, f"{document.name} names {sorted(missing)}"


DECLARED = {
    "models": [HOME / "models.yaml"],
    "toolchain": sorted((HOME / "toolchains").glob("*.yaml")),
    "pipeline": sorted((HOME / "pipelines").glob("*.yaml")),
}


@pytest.mark.parametrize(
    ("kind", "path"), [pytest.param(kind, path, id=path.name) for kind, paths in DECLARED.items() for path in paths]
)
def test_an_editor_finds_the_schema_of_a_yaml_file_of_the_project(kind: str, path: Path) -> None:
    first = path.read_text().partition("\n")[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named
    assert (path.parent / named[1]).resolve() == HOME / "docs" / "schemas" / f"{kind}.schema.json"


def test_a_commit_is_checked_by_the_linters_of_inv_lint() -> None:
    hooks = yaml.safe_load((HOME / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [hook["entry"].split() for hook in hooks]
    assert all(hook["language"] == "system" for hook in hooks)
    programs = {Path(words[0]).name for words in entries if words[0].startswith(".venv/bin/")}
    assert programs == {"ruff", "mypy", "lint-imports", "python"}
    modules = {words[1] for words in LINTERS if words[0] == "-m"}
    assert modules | {"lint-imports", "python"} == programs
    assert any(words == ("-c", IMPORT_LINTER) for words in LINTERS)


def test_the_files_for_contributors_can_be_read() -> None:
    container = json.loads((HOME / ".devcontainer" / "devcontainer.json").read_text())
    assert container["postCreateCommand"].startswith("./inv setup")
    forms = sorted((HOME / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    for form in forms:
        content = yaml.safe_load(form.read_text())
        if form.name != "config.yml":
            assert {"name", "description", "body"} <= content.keys()
    assert len(forms) > 2
