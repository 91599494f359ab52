"""What developers of crossfarm type: tests, style, benchmarks, mutants, fuzzing, conformance."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from importlib.util import find_spec

from crossfarm.cli.verbs import Given, Option, verb
from crossfarm.errors import EXIT_GOOD, EXIT_INTERRUPTED, ConfigError, ToolError, nearest
from crossfarm.util.paths import HOME

SHARED = ("-n", "auto", "--dist", "worksteal")
"""Lets pytest-xdist share tests between the processors."""
BY_FILE = ("-n", "auto", "--dist", "loadfile")
"""Likewise, but a file's tests stay together, for they share what takes long to make."""
COMPUTING = ("tests/integration/backends", "tests/integration/stages")
"""Integration tests that compile and compute, and use neither ports nor boards nor containers."""
IMPORT_LINTER = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_logo=True))"
"""import-linter is no module that Python could run."""
LINTERS = (
    ("-m", "ruff", "check", "--quiet", "."),
    ("-m", "mypy", "--no-error-summary"),
    ("-c", IMPORT_LINTER),
)


@verb(Option(name="arguments", help="handed to pytest as they are, in place of the whole suite"))
def test(given: Given) -> int:
    """Check style, types and imports, then run the unit tests and those integration tests that this machine can do.

    The unit tests share the processors, and so do integration tests that compute; those that use ports, boards and
    containers run one by one.

    Examples:
        ./inv test
        ./inv test --arguments 'tests/unit -k store'
    """
    if given["arguments"]:
        return _code_of("pytest", *shlex.split(given["arguments"]))
    if code := _lint():
        return code
    # Whatever the unit tests find, the integration tests are run too, so that one run tells all.
    is_shared = _is_installed("xdist")
    runs = (
        ("tests/unit", *(SHARED if is_shared else ())),
        (*COMPUTING, *(BY_FILE if is_shared else ())),
        ("tests/integration", *(f"--ignore={folder}" for folder in COMPUTING)),
    )
    codes = [_code_of("pytest", *words, "--integration", "-q") for words in runs]
    return next(filter(None, codes), EXIT_GOOD)


@verb()
def lint(given: Given) -> int:
    """Check style with ruff, types with mypy --strict, and who imports whom with import-linter.

    Workflows, the action and templates for CI servers are checked with actionlint, zizmor, shellcheck and JSON Schemas.

    Example: ./inv lint
    """
    return _lint()


@verb(
    Option(name="name", help="a file of benchmarks/, or all", required=True),
    Option(name="arguments", help="for it"),
)
def bench(given: Given) -> int:
    """Measure crossfarm itself; the last line is `NAME value unit (goal ...)`, exit code 1 when short of the goal.

    `all` runs one after another, and writes the figures to docs/benchmarks.md.

    Examples:
        ./inv bench warm
        ./inv bench warm --arguments --small
        ./inv bench all
    """
    name = given["name"]
    names = sorted(path.stem for path in (HOME / "benchmarks").glob("[a-z]*.py"))
    if name not in (*names, "all"):
        raise ConfigError(f"there is no benchmark {name!r}{nearest(name, names)}; benchmarks: {', '.join(names)}, all")
    module = "benchmarks._all" if name == "all" else f"benchmarks.{name}"
    return _code_of(module, *shlex.split(given["arguments"]))


@verb(Option(name="arguments", help="modules, and options: --sample, --seed, --like; see tests/mutants"))
def mutants(given: Given) -> int:
    """Change modules in many small ways and see whether their unit tests notice; exit code 1 when short of the goal.

    Examples:
        ./inv mutants
        ./inv mutants --arguments 'keys plan --sample 50 --seed 1'
    """
    return _code_of("tests.mutants", *shlex.split(given["arguments"]))


@verb(
    Option(name="kind", help="of input; all by default"),
    Option(name="count", help="so many inputs of each kind, in place of the usual number", kind="count"),
    Option(name="seed", help="the same seed makes the same inputs", default="0", kind="count"),
)
def fuzz(given: Given) -> int:
    """Feed hostile input of many kinds and see that each is refused in one line, in time, and writes nothing elsewhere.

    Examples:
        ./inv fuzz
        ./inv fuzz --kind yaml --count 100 --seed 7
    """
    kind = [given["kind"]] if given["kind"] else []
    count = ["--count", str(given["count"])] if given["count"] is not None else []
    return _code_of("tests.fuzz", *kind, *count, "--seed", str(given["seed"]))


@verb(
    Option(name="every", help="one form of so many, in place of all", kind="count"),
    Option(name="only", help="globs of forms, like node/resize_*", kind="list"),
    Option(name="jobs", help="so many at a time (one for each processor)", kind="count"),
    Option(name="write", help="write docs/operators.md and the list of what is right", kind="flag"),
)
def conformance(given: Given) -> int:
    """Compile and run the ONNX backend suite; exit code 1 when an answer is wrong, or what was right is not any more.

    Examples:
        ./inv conformance --every 20
        ./inv conformance --only 'node/resize_*,node/maxpool_*'
    """
    words = [f"--only={glob}" for glob in given["only"]]
    words += [f"--{name}={given[name]}" for name in ("every", "jobs") if given[name] is not None]
    return _code_of("tests.conformance", *words, *(["--write"] if given["write"] else []))


def _is_installed(module: str) -> bool:
    """Look anew: `./inv setup test` may have installed it in this very process."""
    importlib.invalidate_caches()
    return find_spec(module) is not None


def _code_of(module: str, *arguments: str) -> int:
    """Run a Python module of this environment in the project's folder, and return its exit code."""
    return _code_of_python("-m", module, *arguments)


def _code_of_python(*arguments: str) -> int:
    code = subprocess.run([sys.executable, *arguments], cwd=HOME, check=False).returncode
    return code if code >= 0 else EXIT_INTERRUPTED


def _lint() -> int:
    """Run the linters until one fails, and return its exit code."""
    if not _is_installed("importlinter"):
        raise ToolError("import-linter, which checks who imports whom, is not installed; ./inv setup installs it")
    code = next((code for command in LINTERS if (code := _code_of_python(*command))), EXIT_GOOD)
    if code:
        return code
    from crossfarm.cli.lint_workflows import lint_workflows

    return lint_workflows()
