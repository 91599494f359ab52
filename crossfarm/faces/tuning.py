"""What users type to see where time goes, and to have less of it go: `profile`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.tasks import task

from crossfarm.faces.common import HELP, finish, number, options


def _profile(given: Mapping[str, Any], *, cell: str, threads: int, repeat: int, picture: str) -> int:
    from crossfarm.pipeline import load, make_bundle
    from crossfarm.tuning.profiling import show_profile

    wanted = options(given)
    code, artifacts = make_bundle(wanted, cell)
    if code:
        return code
    show_profile(
        cell,
        target=load(wanted).targets[cell.partition("-")[0]],
        store=wanted.store,
        artifacts=artifacts,
        threads=threads,
        repeat=repeat,
        picture=Path(picture) if picture else None,
        stream=sys.stdout,
    )
    return 0


@task(
    help={
        "cell": "id of the cell: x86_64-mnist_cnn-float32",
        "threads": "threads of the model (1)",
        "repeat": "profiled runs; each follows a plain one (30)",
        "plot": "also draw it, as FILE.svg or FILE.html",
        **{name: HELP[name] for name in ("models", "pipeline", "store")},
    }
)
def profile(
    context: Context,
    cell: str,
    threads: str = "1",
    repeat: str = "30",
    plot: str = "",
    models: str = "",
    pipeline: str = "default",
    store: str = "",
) -> None:
    """Print where the time of one cell goes: layer by layer, with GFLOP/s and the share of the measured peak.

    Examples:
        ./inv profile x86_64-mnist_cnn-float32
        ./inv profile x86_64-efficientnet_lite0-float32 --threads 2 --plot profile.svg
    """
    given = {"models": models, "pipeline": pipeline, "store": store, "quiet": True}
    finish(
        lambda: _profile(
            given,
            cell=cell,
            threads=int(number("threads", threads)),
            repeat=int(number("repeat", repeat)),
            picture=plot,
        )
    )
