"""Finding factories in packages, without PyTorch itself."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.config.sources import FactorySource
from crossfarm.errors import ToolError
from crossfarm.stages.fetch.artifact import content_folder, write_description
from crossfarm.stages.prepare.torch_export import export_factory, give_state, lay_out_code, load_factory


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder that is first on the module path; what was imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("network"):
            del sys.modules[name]


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_factory_is_found_in_a_module(code: Path) -> None:
    _write(code, {"network_one.py": "def build(): return 'built'"})
    assert load_factory("network_one:build")() == "built"


def test_a_factory_may_be_a_method_of_a_class(code: Path) -> None:
    _write(
        code,
        {
            "network_two/__init__.py": "",
            "network_two/model.py": "class Net:\n    @classmethod\n    def from_name(cls, name): return name + '!'",
        },
    )
    assert load_factory("network_two.model:Net.from_name")("lite0") == "lite0!"


def test_a_package_whose_init_needs_what_is_not_installed_is_entered_without_it(code: Path) -> None:
    _write(
        code,
        {
            "network_three/__init__.py": "from .pictures import show",
            "network_three/pictures.py": "import a_package_that_is_not_installed",
            "network_three/nets/__init__.py": "import a_package_that_is_not_installed",
            "network_three/nets/model.py": "from ..parts import WIDTH\ndef build(): return WIDTH",
            "network_three/parts.py": "WIDTH = 32",
        },
    )
    assert load_factory("network_three.nets.model:build")() == 32


def test_a_package_whose_init_asks_for_operators_that_are_not_there_is_entered_without_it(code: Path) -> None:
    _write(
        code,
        {
            "network_five/__init__.py": "raise RuntimeError('operator network_five::nms does not exist')",
            "network_five/models/__init__.py": "from .net import build",
            "network_five/models/net.py": "from ..parts import WIDTH\ndef build(): return WIDTH",
            "network_five/parts.py": "WIDTH = 16",
        },
    )
    assert load_factory("network_five.models:build")() == 16


def test_a_factory_that_needs_what_is_not_installed_says_what(code: Path) -> None:
    _write(code, {"network_four/__init__.py": "", "network_four/model.py": "import a_package_that_is_not_installed"})
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_installed"):
        load_factory("network_four.model:build")


def test_a_missing_callable_is_named(code: Path) -> None:
    _write(code, {"network_five.py": ""})
    with pytest.raises(AttributeError, match="build"):
        load_factory("network_five:build")


def test_a_missing_package_is_named(code: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="network_six"):
        load_factory("network_six.model:build")


def test_without_pytorch_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    source = FactorySource(factory="network:build")
    with pytest.raises(ToolError, match=r"need torch and onnxscript, not installed here; run `\./inv setup`"):
        export_factory(source, artifacts={}, inputs=[])


def test_packages_are_laid_out_unpacked_and_a_module_of_ones_own_at_its_place(tmp_path: Path) -> None:
    for role in ("package0", "package1", "code"):
        content = content_folder(tmp_path / role)
        content.mkdir(parents=True)
        file = "net.py" if role == "code" else f"{role}.whl"
        write_description(tmp_path / role, name=file, size=1, sha256="")
        if role == "code":
            (content / file).write_text("x = 1")
        else:
            with zipfile.ZipFile(content / file, "w") as wheel:
                wheel.writestr(f"{role}_module/__init__.py", "")
    artifacts = {role: tmp_path / role for role in ("package0", "package1", "code")}
    laid = tmp_path / "laid"
    laid.mkdir()
    package = {"package": "a==1", "sha256": "0" * 64}
    two = FactorySource.model_validate({"factory": "package0_module:build", "packages": [package, package]})
    lay_out_code(two, artifacts, laid)
    lay_out_code(FactorySource(factory="nets.net:build"), artifacts, laid)
    found = sorted(path.relative_to(laid).as_posix() for path in laid.rglob("*.py"))
    assert found == ["nets/net.py", "package0_module/__init__.py", "package1_module/__init__.py"]


def test_a_module_may_read_its_weights_itself(tmp_path: Path) -> None:
    class Net:
        taken = ""

        def load_state_file(self, path: Path) -> None:
            self.taken = path.read_text()

    (tmp_path / "state").write_text("weights")
    net = Net()
    give_state(net, tmp_path / "state")
    assert net.taken == "weights"
