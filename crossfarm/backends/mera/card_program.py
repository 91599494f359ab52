"""Writes the program of a bundle for a machine that holds a card."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from crossfarm.bundles.manifest import Manifest
from crossfarm.config.boards import Card

_TEMPLATE = Path(__file__).with_name("card_program.sh")
_DEVICES: dict[Card, int] = {"sakura-1": 1, "dna-f100": 2, "dna-f200": 2}
"""Card -> MERA's number of the device that it usually is: Sakura-1, or a DNA core on AMD's U50."""


def write_card_program(bundle: Path, *, card: Card, inputs: str) -> None:
    """Write `program`, a script for sh, into a bundle whose other files are all there.

    Args:
        bundle: with manifest.json.
        card: that it runs on.
        inputs: folder of the bundle with K.bin, all cases of each input in MERA's order of axes.
    """
    manifest = Manifest.read(bundle / "manifest.json")
    head = {
        "format": 1,
        "model": manifest.model,
        "target": manifest.target,
        "identity": manifest.identity,
        "cases": manifest.cases,
        "outputs": [{"name": port.name, "file": f"{number}.bin"} for number, port in enumerate(manifest.outputs)],
    }
    words = {
        "@DEVICE@": str(_DEVICES[card]),
        "@CASES@": str(manifest.cases),
        "@INPUTS@": inputs,
        "@HEAD@": shlex.quote(json.dumps(head).removesuffix("}")),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    for name, value in words.items():
        text = text.replace(name, value)
    program = bundle / "program"
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
