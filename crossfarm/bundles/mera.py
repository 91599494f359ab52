"""What bundles of the backend mera hold: inputs in the order of axes in which MERA takes them."""

from __future__ import annotations

from pathlib import Path

from crossfarm.bundles.manifest import Manifest
from crossfarm.util.mera.calls import order_of_axes


def write_inputs(bundle: Path, folder: Path) -> None:
    """Write all cases of each input of a bundle, inputs/K.bin, into another folder, with the axes in MERA's order."""
    import numpy as np

    manifest = Manifest.read(bundle / "manifest.json")
    (folder / "inputs").mkdir()
    for port in manifest.inputs:
        stacked = np.fromfile(bundle / port.file, port.dtype).reshape(manifest.cases, *port.shape)
        order = order_of_axes(len(port.shape), variant=manifest.variant)
        stacked.transpose(0, *(1 + axis for axis in order)).tofile(folder / port.file)
