"""What keys depend on beside the declaration, read from this host: sources, tool versions, files, boards, git."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from crossfarm.backends import load_backend
from crossfarm.boards.inventory import Inventory
from crossfarm.boards.protocol import load_simulator
from crossfarm.boards.transports import local
from crossfarm.config.accelerators import AcceleratorCode
from crossfarm.config.boards import Board
from crossfarm.config.cell import Cell
from crossfarm.config.project import Project
from crossfarm.config.sources import FileSource
from crossfarm.config.targets import Target
from crossfarm.errors import BoardError
from crossfarm.images.identity import BASE, ImageIdentity
from crossfarm.pipeline.plan_types import BoardAccess, KeyContext, StageContext
from crossfarm.pipeline.unchanged.watched import describe_command
from crossfarm.setup.environments import find_python
from crossfarm.stages import STAGES
from crossfarm.stages.fetch.stage import content_digest, local_path
from crossfarm.stages.job import HOST as HOST_IMAGE
from crossfarm.store.keys import digest_sources, tool_versions
from crossfarm.tuning import records
from crossfarm.util.lazy_mapping import LazyMapping
from crossfarm.util.paths import HOME
from crossfarm.util.processes import output_of


@functools.cache
def stage_context(stage: str, backend: str | None) -> StageContext:
    """Read what the keys of a stage's jobs depend on, for the targets of a backend; None for jobs of no target."""
    declared = STAGES[stage].DECLARATION
    if backend is None:
        return StageContext(
            sources=digest_sources(HOME, declared.sources),
            tools=tool_versions(declared.tools),
            preload=declared.preload,
        )
    own = load_backend(backend).DECLARATION
    return StageContext(
        sources=digest_sources(HOME, (*declared.sources, *own.sources.get(stage, ()))),
        tools=tool_versions((*declared.tools, *own.tools.get(stage, ()))),
        groups=own.groups.get(stage, ()),
        preload=(*declared.preload, *own.preload.get(stage, ())),
    )


def read_key_context(
    project: Project, inventory: Inventory, images: Mapping[str, ImageIdentity] = MappingProxyType({})
) -> KeyContext:
    """Read what the keys of this project's jobs depend on.

    Args:
        project: whose files and targets count; files are read only when a plan asks for them.
        inventory: the boards that are declared.
        images: by name, those in which jobs run; empty where they run on this host.
    """

    def content(source: FileSource) -> str:
        return content_digest(local_path(source, root=project.root))

    folders = project.targets if project.pipeline.tuned else ()
    searched = {name: records.searched(HOME / "tuning", target=name) for name in folders}

    @functools.cache
    def identity(target: str) -> str:
        return records.identity(project.targets[target].code)

    def tuned(cell: Cell) -> Mapping[str, Any]:
        if (cell.model, cell.variant) not in searched.get(cell.target, ()):
            return {}
        return records.taken_choices(
            HOME / "tuning",
            target=cell.target,
            model=cell.model,
            variant=cell.variant,
            identity=identity(cell.target),
        )

    def cards(_: Cell) -> Mapping[str, Any]:
        return held_cards(inventory)

    def board(name: str) -> BoardAccess:
        target = project.targets[name]
        return dataclasses.replace(access(target, inventory), unbuilt=_unbuilt(target))

    return KeyContext(
        stages=stage_context,
        groups={"tuning": tuned, "cards": cards},
        image={name: _image(images, target) for name, target in project.targets.items()},
        model_image={
            **dict.fromkeys(("onnx", "tflite"), _digest(images, BASE)),
            **dict.fromkeys(("torch", "torchscript"), HOST_IMAGE),
        },
        content=functools.cache(content),
        # Some simulators start a program to say their version, so only those of the plan's targets are asked.
        boards=LazyMapping(tuple(project.targets), board),
    )


def access(target: Target, inventory: Inventory) -> BoardAccess:
    """Say where cells of a target run: on the boards that are declared for it, or else on this host."""
    missing = inventory.missing(target.name)
    if missing:
        return BoardAccess(parameters={}, exclusive=False, missing=missing)
    candidates = [board for board in inventory.candidates(target.name) if _may_run(target, board)]
    if not candidates:
        return this_host(target)
    host = this_host(target) if any(board.transport == "local" for board in candidates) else None
    # A measurement is known by all boards that might have taken it; its artifact says which one did.
    facts = {
        board.name: {"transport": board.transport, "host_key": board.host_key, **_timing(board)}
        if board.transport != "local" or host is None
        else {**host.parameters, **_timing(board)}
        for board in candidates
    }
    return BoardAccess(
        parameters=facts,
        exclusive=host is not None and host.exclusive,
        missing=host.missing if host is not None else None,
        boards=tuple(board.name for board in candidates),
    )


def _may_run(target: Target, board: Board) -> bool:
    """Return whether a board may be given bundles of a target: what is for a card is never started without it."""
    card = target.code.card if isinstance(target.code, AcceleratorCode) else None
    return card is None or (board.transport != "local" and card in board.cards)


def held_cards(inventory: Inventory) -> Mapping[str, Any]:
    """Return name -> cards of all boards that are declared to hold some, whether or not they are chosen."""
    return {board.name: list(board.cards) for board in inventory.declared.values() if board.cards}


def _unbuilt(target: Target) -> str | None:
    """Return which Python environment a backend lacks that compiles on this host alone, and what to type."""
    declared = load_backend(target.backend).DECLARATION
    for environment in declared.environments if declared.on_this_host else ():
        if (missing := environment.missing()) is None:
            continue
        if find_python(environment.python) is not None:
            return missing
        return (
            f"{missing}, once Python {environment.python} is here: it is neither on PATH nor among pyenv's; "
            f"pyenv install {environment.python} brings it"
        )
    return None


def _timing(board: Board) -> Mapping[str, str]:
    return {"timing": board.timing} if board.timing is not None else {}


def _image(images: Mapping[str, ImageIdentity], target: Target) -> str:
    if load_backend(target.backend).DECLARATION.on_this_host:
        return HOST_IMAGE
    return _digest(images, target.image or BASE)


def _digest(images: Mapping[str, ImageIdentity], name: str) -> str:
    return images[name].digest if images else HOST_IMAGE


def this_host(target: Target) -> BoardAccess:
    """Say how cells of a target run on this host: natively, emulated, simulated, or not at all and why."""
    name = load_backend(target.backend).DECLARATION.simulator
    if name is not None:
        simulator = load_simulator(name)
        return BoardAccess(
            parameters={"id": "local", **simulator.fingerprint()}, exclusive=False, missing=simulator.missing()
        )
    try:
        way = local.execution_mode(machines=target.machine, emulator=target.emulator, code=target.instructions)
    except BoardError as error:
        return BoardAccess(parameters={}, exclusive=False, missing=str(error))
    facts = local.fingerprint(machines=target.machine, emulator=target.emulator)
    return BoardAccess(parameters={"id": "local", **facts}, exclusive=way.timing == "silicon")


def git_commit(folder: Path) -> str | None:
    """Return the commit of the git work tree around `folder`, `-dirty` appended when files differ; else None."""
    return (output_of(describe_command(folder), wall_seconds=120) or "").strip() or None
