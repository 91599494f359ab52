"""The mutants of a small module: a test that looks kills them, a test that looks away lets them live."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

from crossfarm.util.paths import HOME
from tests.mutants.__main__ import EQUIVALENT, MODULES
from tests.mutants.making import mutants
from tests.mutants.running import BrokenTestsError, Limits, Module, prepared, run

pytestmark = pytest.mark.integration

SOURCE = '''
"""Small."""
import functools

@functools.cache
def most(a: int, b: int | None) -> int:
    """Return the larger one."""
    if b is None:
        raise ValueError("b is missing")
    return a if a > b else b
'''
LOOKS = "from small import most\n\ndef test_one() -> None:\n    assert (most(1, 2), most(2, 1)) == (2, 2)\n"
LOOKS_AWAY = "import small\n\ndef test_one() -> None:\n    assert small.most\n"
ALLOWED = Limits(processor=60, clock=300)


@pytest.fixture
def module(tmp_path: Path) -> Module:
    (tmp_path / "small.py").write_text(SOURCE)
    (tmp_path / "test_looks.py").write_text(LOOKS)
    (tmp_path / "test_looks_away.py").write_text(LOOKS_AWAY)
    return Module(root=tmp_path, file="small.py", tests=("test_looks.py",))


def test_decorated_functions_have_mutants_and_annotations_and_messages_have_none(module: Module) -> None:
    names = [mutant.name for mutant in mutants(module.path)]
    assert "if b is None: => if b is not None:" in names
    assert "return a if a > b else b => return a if a >= b else b" in names
    assert not any("missing" in name and "XX" in name for name in names)
    assert not any("def most" in name for name in names)
    assert len(set(names)) == len(names)


def test_a_test_that_looks_kills_a_mutant_and_one_that_looks_away_does_not(module: Module) -> None:
    mutant = next(mutant for mutant in mutants(module.path) if "is not None" in mutant.name)
    assert run(module, module.path.read_text(), ALLOWED)[0] == "survived"
    assert run(module, mutant.source, ALLOWED)[0] == "killed"
    away = Module(root=module.root, file=module.file, tests=("test_looks_away.py",))
    assert run(away, mutant.source, ALLOWED)[0] == "survived"
    assert module.path.read_text() == SOURCE


def test_tests_that_fail_without_a_mutant_are_shown_with_the_reason(module: Module) -> None:
    (module.root / "test_looks.py").write_text(LOOKS.replace("(2, 2)", "(2, 3)"))
    environment = dict(os.environ)
    with pytest.raises(BrokenTestsError) as caught, prepared(module):
        pass
    told = str(caught.value)
    assert told.startswith("the tests of small fail without a mutant (killed):\n")
    assert "test_looks.py::test_one - assert (2, 2) == (2, 3)" in told
    assert dict(os.environ) == environment


def test_what_imports_the_module_is_imported_anew_for_each_mutant(module: Module) -> None:
    """Everything else is imported once, before the mutants."""
    (module.root / "above.py").write_text("from small import most\n")
    (module.root / "beside.py").write_text("")
    (module.root / "test_looks.py").write_text(LOOKS.replace("from small", "import beside\nfrom above"))
    mutant = next(mutant for mutant in mutants(module.path) if "is not None" in mutant.name)
    with prepared(module) as allowed:
        assert "beside" in sys.modules
        assert not {"small", "above"} & set(sys.modules)
        assert run(module, module.path.read_text(), allowed)[0] == "survived"
        assert run(module, mutant.source, allowed)[0] == "killed"
    del sys.modules["beside"]


def test_every_equivalent_mutant_exists_and_has_a_reason() -> None:
    for name, entries in yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")).items():
        known = {mutant.name for mutant in mutants(HOME / MODULES[name][0])}
        for entry in entries:
            assert entry["mutant"] in known
            assert len(entry["reason"]) > 10
