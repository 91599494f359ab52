"""What people build on in a bundle: CMakeLists.txt, the C++ example, and the Python module with its model.json.

The files of runner/interfaces are copied as they are; what is about the model stands in three generated ones.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import crossfarm
from crossfarm.bundles.compile_report import CompileReport
from crossfarm.config.decoding import Boxes, Classify, CtcText, Decode, Detect, Embeddings, Masks
from crossfarm.config.models import Preprocess

INTERFACES = "interfaces"
"""Folder in runner/."""
EXAMPLE, PYTHON, FIRMWARE = "example", "python", "firmware"
"""Folders in runner/interfaces, and but for the last in a bundle."""
DESCRIPTION = "model.json"
_TEMPLATE = "CMakeLists.txt.in"
_DEFAULT_TOP = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What models.yaml says about a model that its users want to know.

    Attributes:
        description: one line for people.
        licence: SPDX expression.
        inputs: names in the order of the declaration; data feeds the first that the compiled model has.
        preprocess: from raw data to that input.
        decode: what the first output means.
    """

    description: str
    licence: str
    inputs: tuple[str, ...]
    preprocess: Preprocess | None
    decode: Decode | None


def write_interfaces(
    *,
    report: CompileReport,
    about: About,
    classes: Sequence[str] | None,
    characters: Sequence[str] | None,
    runner: Path,
    output: Path,
) -> None:
    """Write CMakeLists.txt, example/ and python/MODEL/ into a bundle.

    Args:
        report: what was compiled.
        about: what models.yaml says about it.
        classes: names of the classes in the order of the scores, where there are any.
        characters: likewise of a model that reads texts.
        runner: folder of the sources.
        output: the bundle.
    """
    sources = runner / INTERFACES
    _write_cmake(sources / EXAMPLE, report, output)
    _copy(sources / EXAMPLE, output / EXAMPLE, suffixes=(".cpp", ".hpp", ".h"))
    names = classes or characters or ()
    info = _model_info(report, about, names=[name.partition(",")[0].strip() if classes else name for name in names])
    (output / EXAMPLE / "model_info.cpp").write_text(info, encoding="ascii")
    module = output / PYTHON / report.model
    _copy(sources / PYTHON, module, suffixes=(".py", ".typed"))
    document = _description(report, about, classes=classes, characters=characters)
    text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True)
    (module / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def write_firmware_interface(*, report: CompileReport, runner: Path, output: Path) -> None:
    """Write CMakeLists.txt into a bundle whose library is for a processor without an operating system.

    Args:
        report: what was compiled.
        runner: folder of the sources.
        output: the bundle.
    """
    _write_cmake(runner / INTERFACES / FIRMWARE, report, output)


def _write_cmake(folder: Path, report: CompileReport, output: Path) -> None:
    """Fill the template of a folder with the names of model and target."""
    template = (folder / _TEMPLATE).read_text(encoding="utf-8")
    filled = template.replace("@MODEL@", report.model).replace("@TARGET@", report.target)
    (output / "CMakeLists.txt").write_text(filled, encoding="utf-8")


def default_version(identity: str) -> str:
    """Return the version of a Python package for a model: that of crossfarm, and which build of the model it is."""
    return f"{crossfarm.__version__}+{identity[:12]}"


def _copy(source: Path, folder: Path, *, suffixes: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.suffix in suffixes or path.name in suffixes:
            shutil.copyfile(path, folder / path.name)


def _image_steps(about: About) -> Preprocess | None:
    return about.preprocess if about.preprocess is not None and about.preprocess.is_about_images else None


def _image_input(report: CompileReport, about: About) -> int:
    """Return which input of the compiled model takes the data."""
    places = {port.name: number for number, port in enumerate(report.inputs)}
    return next((places[name] for name in about.inputs if name in places), 0)


def _description(
    report: CompileReport, about: About, *, classes: Sequence[str] | None, characters: Sequence[str] | None
) -> dict[str, Any]:
    """Return model.json; its keys are the fields of `Description` in runner/interfaces/python/_description.py."""
    steps = _image_steps(about)
    return {
        "name": report.model,
        "description": about.description,
        "licence": about.licence,
        "target": report.target,
        "variant": report.variant,
        "identity": report.identity,
        "version": default_version(report.identity),
        "inputs": [port.model_dump(mode="json") for port in report.inputs],
        "outputs": [port.model_dump(mode="json") for port in report.outputs],
        "classes": classes,
        "characters": characters,
        "preprocess": steps.model_dump(mode="json", exclude={"frames", "bytes", "tokens"}) if steps else None,
        "image_input": _image_input(report, about),
        "threshold": about.decode.threshold if isinstance(about.decode, Detect) else None,
    }


def _model_info(report: CompileReport, about: About, *, names: Sequence[str]) -> str:
    """Return model_info.cpp, the C++ side of the same."""
    threshold = about.decode.threshold if isinstance(about.decode, Detect) else 0.0
    top = about.decode.top if isinstance(about.decode, Classify) else _DEFAULT_TOP
    return f"""// Written by crossfarm for this model; see model_info.hpp.
#include "model_info.hpp"

namespace model_info {{

const char *const name = {_literal(report.model)};

const Preprocess preprocess = {{
{_preprocess(_image_steps(about), _image_input(report, about))}}};

const Decode decode = Decode::{_decode_kind(about.decode)};
const int top = {top};
const double threshold = {threshold!r};

const std::vector<std::string> names = {{
{"".join(f"    {_literal(name)},{chr(10)}" for name in names)}}};

}}  // namespace model_info
"""


def _decode_kind(decode: Decode | None) -> str:
    match decode:
        case Classify():
            return "classes"
        case CtcText():
            return "text"
        case Detect():
            return "threshold"
        case Boxes() | Masks() | Embeddings() | None:
            return "none"


def _preprocess(steps: Preprocess | None, place: int) -> str:
    """Return the fields of the struct Preprocess, one a line."""
    shown = steps or Preprocess()
    form = shown.resize
    kind, height, width = "none", 0, 0
    if form is not None and form.shorter_side is not None:
        kind, height, width = "shorter_side", form.shorter_side, form.shorter_side
    elif form is not None:
        kind = "size" if form.size is not None else "fit"
        height, width = form.size or form.fit or (0, 0)
    crop = shown.crop or (0, 0)
    fields = (
        "true" if steps else "false",
        str(place),
        f"Resize::{kind}",
        str(height),
        str(width),
        f"Interpolation::{form.interpolation if form else 'bilinear'}",
        _float(form.pad_value if form else 0.0),
        str(crop[0]),
        str(crop[1]),
        f"Channels::{'grey' if shown.channels == 'GRAY' else shown.channels.lower()}",
        _floats(shown.mean),
        _floats(shown.scale),
        "true" if shown.layout == "NCHW" else "false",
    )
    return "".join(f"    {field},\n" for field in fields)


def _floats(value: float | tuple[float, ...]) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return f"{{{', '.join(map(_float, values))}}}"


def _float(value: float) -> str:
    """Return a number that C++ rounds to float32 as NumPy does: over float64."""
    return f"static_cast<float>({float(value)!r})"


def _literal(text: str) -> str:
    """Return a C++ string literal of the text's UTF-8 bytes."""
    plain = {byte: chr(byte) for byte in range(0x20, 0x7F) if chr(byte) not in '"\\?'}
    return '"' + "".join(plain.get(byte, f"\\{byte:03o}") for byte in text.encode()) + '"'
