"""What crossfarm has one of stays the only one.

The atomic write stands in crossfarm/util/files.py, what runs a tool in crossfarm/util/processes.py, the parser of a
cell's id in crossfarm/config/cell.py.

Whoever needs another one adds its function here, with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

import pytest

from crossfarm.util.paths import HOME

Rule = Callable[[ast.Call], bool]

RENAMES = {
    "crossfarm/util/files.py::replacing": "the one",
    "crossfarm/store/objects.py::add_object": "the name of an object is known only when all of it was copied",
    "crossfarm/engines/container/job_folder.py::put_in": "moves a folder",
    "crossfarm/engines/container/job_folder.py::take_out": "moves a folder",
    "crossfarm/reports/__init__.py::set_aside": "puts the last run's records aside; writes nothing",
    "crossfarm/stages/fetch/download.py::download_wheel": "moves what pip wrote; nobody reads a job's folder meanwhile",
}

SPLITS = {
    "crossfarm/config/processor_names.py::check_architecture": "LLVM's triple: `aarch64-linux-gnu`",
    "crossfarm/config/processor_names.py::check_cpu": "LLVM's triple",
    "crossfarm/config/processor_names.py::check_feature": "LLVM's triple",
    "crossfarm/cli/board_commands.py::add_board": "kind of a host key: `ssh-ed25519`",
    "crossfarm/boards/transports/facts.py::_count": "ranges of processors: `0-3`",
    "crossfarm/config/processor_names.py::_family": "LLVM's triple",
    "crossfarm/util/sandbox.py::_kernel": "release of a kernel: `6.8.0-45-generic`",
}

RUNS = {
    "crossfarm/util/processes.py::run_tool": "the one",
    "crossfarm/cli/develop.py::_code_of_python": "ruff, mypy and pytest write to the user's terminal",
    "crossfarm/cli/lint_workflows.py::lint_workflows": "linters write to the user's terminal",
    "crossfarm/boards/labgrid.py::_call": "without the user's LG_*; in a session, or Ctrl-C would leave a place taken",
    "crossfarm/boards/transports/programs.py::_start": "a board's program: hostile, watched and limited while it runs",
    "crossfarm/util/sandbox.py::works": "tries the sandbox with the sandbox's own environment",
    "crossfarm/engines/local.py::__init__": "a worker: its output goes to a job's log as it comes",
    "crossfarm/engines/worker.py::_start": "forks itself for a job, with what it has imported",
    "crossfarm/setup/container_host.py::_daemon": "a daemon, which stays",
    "crossfarm/pipeline/unchanged/again.py::is_unchanged": "git beside all else that is looked at, in a moment",
    "crossfarm/tuning/build_pool.py::_process": "a worker: it is asked through pipes, again and again",
}


def renames(call: ast.Call) -> bool:
    """Whether something is given another name: `str.replace` takes two arguments, `dataclasses.replace` keywords."""
    called = ast.unparse(call.func)
    if called.rpartition(".")[2] in {"mkstemp", "NamedTemporaryFile"} or called in {"os.rename", "os.replace"}:
        return True
    is_method = isinstance(call.func, ast.Attribute) and call.func.attr in {"rename", "replace"}
    return is_method and len(call.args) == 1 and not call.keywords


def runs_a_program(call: ast.Call) -> bool:
    """Whether a process is started."""
    module, _, name = ast.unparse(call.func).rpartition(".")
    starts = {"run", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
    return (module == "subprocess" and name in starts) or (
        module == "os" and (name in {"system", "popen", "fork"} or name.startswith(("spawn", "posix_spawn")))
    )


def splits_at_a_dash(call: ast.Call) -> bool:
    """Whether a text is split at `-`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    is_split = name in {"split", "rsplit", "partition", "rpartition"}
    return is_split and any(isinstance(word, ast.Constant) and word.value == "-" for word in call.args)


def functions_that(rule: Rule, tree: ast.AST, function: str = "") -> Iterator[str]:
    """Yield the name of the innermost function around each call to which the rule applies."""
    for node in ast.iter_child_nodes(tree):
        inner = node.name if isinstance(node, ast.FunctionDef) else function
        if isinstance(node, ast.Call) and rule(node):
            yield function
        yield from functions_that(rule, node, inner)


@pytest.mark.parametrize(("rule", "reasons"), [(renames, RENAMES), (splits_at_a_dash, SPLITS), (runs_a_program, RUNS)])
def test_nothing_is_done_a_second_way(rule: Rule, reasons: dict[str, str]) -> None:
    found = {
        f"{path.relative_to(HOME)}::{function}"
        for path in [HOME / "tasks.py", *sorted((HOME / "crossfarm").rglob("*.py"))]
        for function in functions_that(rule, ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(reasons)


@pytest.mark.parametrize(
    ("rule", "text", "applies"),
    [
        (renames, "temporary.replace(path)", True),
        (renames, "os.replace(temporary, path)", True),
        (renames, "folder.rename(target)", True),
        (renames, "tempfile.NamedTemporaryFile(dir=folder)", True),
        (renames, "name.replace('-', '_')", False),
        (renames, "dataclasses.replace(self, size=4)", False),
        (splits_at_a_dash, "cell.partition('-')", True),
        (splits_at_a_dash, "name.rsplit('-', 1)", True),
        (splits_at_a_dash, "name.split(':')", False),
        (runs_a_program, "subprocess.run(['id'])", True),
        (runs_a_program, "os.system('id')", True),
        (runs_a_program, "run_tool(['id'])", False),
    ],
)
def test_the_rules_know_what_they_look_for(rule: Rule, text: str, applies: bool) -> None:
    assert list(functions_that(rule, ast.parse(f"def f(): {text}"))) == (["f"] if applies else [])


def test_only_one_module_says_where_the_clone_stands() -> None:
    files = [path for name in ("benchmarks", "crossfarm", "tests") for path in sorted((HOME / name).rglob("*.py"))]
    found = []
    # tasks.py hands over to the right Python before it can import anything of ours.
    for path in files:
        above = len(path.relative_to(HOME).parts) - 1
        form = rf"__file__\)(\.resolve\(\))?(\.parents\[{above}\]|(\.parent){{{above + 1}}}\b)"
        if re.search(form, path.read_text(encoding="utf-8")):
            found.append(path.relative_to(HOME).as_posix())
    assert found == ["crossfarm/util/paths.py"]
