"""What users type to see, before anything is compiled, what a model is and what of it would be refused."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.cli.run_options import options, run_options
from crossfarm.cli.verbs import Given, Option, verb
from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_GOOD, ConfigError
from crossfarm.util.text import count, one_line, write

if TYPE_CHECKING:
    from crossfarm.pipeline.inspection import Inspected

_LONGEST = 4000


@verb(
    Option(name="model", help="name of a model of models.yaml, or path of an ONNX file (all models)"),
    Option(name="shapes", help="of a file's inputs that leave them open: 'image=1x3x224x224,ids=1x128'", kind="list"),
    *run_options("models", "pipeline", "targets", "store", "engine", "json"),
)
def inspect(given: Given) -> int:
    """Show what a model takes and gives and, without compiling it, what would be refused and why; exit code 1 then.

    For a file that stands in no models.yaml it also shows the entry that would declare it.

    Examples:
        ./inv inspect --model mnist_cnn
        ./inv inspect --model net.onnx --shapes 'image=1x3x224x224'
    """
    from crossfarm.pipeline.inspection import inspect_file, inspect_models

    chosen = given["model"]
    if chosen.endswith(".onnx") or "/" in chosen:
        one, entry = inspect_file(Path(chosen), _shapes(given["shapes"]))
        found = [one]
    else:
        wanted = options({**given, "engine": "local" if given["engine"] == "auto" else given["engine"]})
        found, entry = list(inspect_models(wanted, chosen)), ""
    if given["json"]:
        given["json"].write_object({"models": [dataclasses.asdict(each) for each in found], "entry": entry or None})
    for each in found:
        write(sys.stdout, _told(each))
    if entry:
        write(sys.stdout, f"its entry of models.yaml:\n{entry}\n")
    return EXIT_CHECK_FAILED if any(each.refused for each in found) else EXIT_GOOD


def _shapes(words: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found = {}
    for word in words:
        name, equals, extents = word.rpartition("=")
        if not equals or not all(extent.isdecimal() and int(extent) for extent in extents.split("x") if extents):
            raise ConfigError(f"--shapes {word}: give NAME=1x3x224x224")
        found[name] = tuple(int(extent) for extent in extents.split("x")) if extents else ()
    return found


def _told(each: Inspected) -> str:
    """Return what is known of a model, for people."""
    lines = [f"{one_line(each.name)} ({one_line(each.place)})"]
    if each.signature is not None:
        for kind in ("inputs", "outputs"):
            ports = [f"{one_line(port['name'])} {port['dtype']} {port['shape']}" for port in each.signature[kind]]
            lines.append(f"  {kind}: {', '.join(ports)}")
        lines.append(f"  {count(each.signature['nodes'], 'node')}, operator set {each.signature['opset']}")
    where = f" for {', '.join(each.targets)}" if each.targets else ""
    if not each.refused:
        lines.append(f"  nothing is refused{where}")
    lines += [f"  refused{where}: {one_line(why, _LONGEST)}" for why in each.refused]
    return "\n".join(lines) + "\n"
