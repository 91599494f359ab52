"""Makes a bundle into a wheel, which brings the model as a Python module, and a tar.gz, which is the bundle itself."""

from __future__ import annotations

import dataclasses
import json
import keyword
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import crossfarm
from crossfarm.bundles.interfaces import DESCRIPTION, PYTHON
from crossfarm.bundles.make import SERVER
from crossfarm.bundles.manifest import Manifest
from crossfarm.bundles.packages.archive import write_archive
from crossfarm.bundles.packages.platforms import platform_tags
from crossfarm.bundles.packages.wheel import Metadata, WheelFile, write_wheel
from crossfarm.errors import ConfigError, StoreError
from crossfarm.util.files import replacing

_VERSION = re.compile(
    r"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?(\+[a-z0-9]+(\.[a-z0-9]+)*)?", re.ASCII
)
"""PEP 440 in its normal form, without epochs."""
_TAKEN = frozenset({"numpy", "pil", *sys.stdlib_module_names})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packages:
    """The two files."""

    wheel: Path
    archive: Path


def check_names(model: str, release: str) -> None:
    """Refuse early what no package can be called.

    Args:
        model: name of the model, which the module gets.
        release: version of the wheel; empty for one that names the build.

    Raises:
        ConfigError: the model's name is not one of a module, or would hide another module; or the version is none.
    """
    if not model.isidentifier() or keyword.iskeyword(model) or model in _TAKEN:
        raise ConfigError(
            f"model {model}: Python cannot import a model of that name, or it would hide another module; "
            "give the model another name in models.yaml"
        )
    if release and not _VERSION.fullmatch(release):
        raise ConfigError(f"--release {release}: give a version such as 1.2.0 (PEP 440)")


def write_packages(bundle: Path, *, machines: Sequence[str], folder: Path, release: str = "") -> Packages:
    """Write wheel and tar.gz of a bundle; files of the same names are replaced.

    Args:
        bundle: folder of the bundle.
        machines: what `uname -m` says on boards that run it, as in the toolchain file.
        folder: where the packages go; made when it is not there.
        release: version of the wheel; empty for one that names the build.

    Raises:
        ConfigError: see `check_names`.
        BundleError: the bundle cannot be read, or its code is not for these machines.
        StoreError: the folder cannot be written.
    """
    manifest = Manifest.read(bundle / "manifest.json")
    check_names(manifest.model, release)
    description: Any = json.loads((bundle / PYTHON / manifest.model / DESCRIPTION).read_text(encoding="utf-8"))
    library = bundle / f"lib{manifest.model}.so"
    code = library if library.is_file() else bundle / SERVER
    metadata = _metadata(
        {**description, "version": release or description["version"]}, platforms=platform_tags(code, machines)
    )
    made = Packages(wheel=folder / metadata.file_name, archive=folder / f"{manifest.cell}.tar.gz")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(made.wheel) as path:
            write_wheel(path, metadata, _files(bundle, manifest.model, code, metadata))
        with replacing(made.archive) as path:
            write_archive(path, bundle, name=manifest.cell)
    except OSError as error:
        raise StoreError(f"--to {folder}: {error.strerror or error}; give a folder that can be written") from error
    return made


def _files(bundle: Path, model: str, code: Path, metadata: Metadata) -> dict[str, WheelFile]:
    """Return what the wheel installs: the module, and beside it the code and the weights."""
    module = bundle / PYTHON / model
    files = {
        f"{model}/{path.name}": WheelFile(content=path.read_bytes()) for path in module.iterdir() if path.is_file()
    }
    document = json.loads(files[f"{model}/{DESCRIPTION}"].content)
    text = json.dumps({**document, "version": metadata.version}, indent=1, ensure_ascii=False, sort_keys=True)
    files[f"{model}/{DESCRIPTION}"] = WheelFile(content=f"{text}\n".encode())
    files[f"{model}/{code.name}"] = WheelFile(content=code.read_bytes(), is_executable=code.name == SERVER)
    files[f"{model}/weights.bin"] = WheelFile(content=(bundle / "weights.bin").read_bytes())
    return files


def _metadata(description: Any, *, platforms: tuple[str, ...]) -> Metadata:
    name = description["name"]
    summary = " ".join(description["description"].split()) or f"The model {name}"
    return Metadata(
        name=re.sub("_+", "_", name).strip("_"),
        version=description["version"],
        platforms=platforms,
        summary=f"{summary} (compiled for {description['target']}, {description['variant']})",
        licence=description["licence"],
        description=_page(description),
        requires=("numpy", 'pillow; extra == "images"'),
        extras=("images",),
        generator=f"crossfarm {crossfarm.__version__}",
    )


def _page(description: Any) -> str:
    def ports(kind: str) -> str:
        return "".join(f"- `{port['name']}`: {port['dtype']} {port['shape']}\n" for port in description[kind])

    name = description["name"]
    return f"""# {name}

    import {name}

    scores = {name}.predict(array)

Inputs:

{ports("inputs")}
Outputs:

{ports("outputs")}
Compiled for {description["target"]}; identity {description["identity"]}.
"""
