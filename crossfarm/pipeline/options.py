"""Options: what a user may say on the command line of a run."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from crossfarm.pipeline.plan import Selection
from crossfarm.reports.history.place import VARIABLE, Place, chosen_place
from crossfarm.util.paths import HOME

ENGINES = ("auto", "container", "local")
"""What `--engine` takes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may say on the command line.

    Attributes:
        models: path of models.yaml.
        pipeline: name of a pipeline, or path of its file.
        selection: which cells and stages.
        jobs: how many jobs run at once.
        fail_fast: start nothing more after the first failure.
        require_checks: a cell without a check that was held against it is a fault of the infrastructure.
        out: folder of the reports.
        store: folder of the store.
        measure_again: measure even what was measured before.
        boards_file: path of boards.yaml; None for the project's own, which need not exist.
        boards: names of boards to use; empty for all.
        tags: boards must have all of these tags.
        priority: of what waits for a board; higher goes first.
        verbose: show every job.
        everything: show the whole table and all failures below it, however long they are.
        quiet: show failures and the table only.
        engine: where jobs run, one of ENGINES; `auto` takes containers where a container engine answers.
        memory: GiB that a job in a container may take; 0 shares the machine's.
        history: file or URL of the history; empty for the variable CROSSFARM_HISTORY, or else a file beside the store;
            `none` for none.
    """

    models: Path = HOME / "models.yaml"
    pipeline: str = "default"
    selection: Selection = dataclasses.field(default_factory=Selection)
    jobs: int = 0
    fail_fast: bool = False
    require_checks: bool = False
    out: Path = HOME / "out"
    store: Path = HOME / ".crossfarm" / "store"
    measure_again: bool = False
    boards_file: Path | None = None
    boards: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    priority: int = 0
    verbose: bool = False
    everything: bool = False
    quiet: bool = False
    engine: str = "auto"
    memory: float = 0.0
    history: str = ""

    @property
    def slots(self) -> int:
        """Return how many jobs run at once: `jobs`, or one per usable CPU."""
        return self.jobs or len(os.sched_getaffinity(0))

    @property
    def history_place(self) -> Place | None:
        """Return where the history is; None when the run is to be in none.

        Raises:
            ConfigError: what names it is no place for one, or holds a password and would be recorded.
        """
        default = self.store.parent / "history.db"
        return chosen_place(self.history, os.environ.get(VARIABLE, ""), default=default)

    @property
    def pipeline_is_path(self) -> bool:
        """Return whether `pipeline` is the path of a file, not the name of one in pipelines/."""
        return self.pipeline.endswith((".yaml", ".yml"))

    @property
    def command(self) -> list[str]:
        """Return the words that name the same project in the same way, for a user in the project's folder."""
        words = ["./inv", "pipeline", "--models", shown(self.models)]
        if self.pipeline != "default":
            words += ["--pipeline", shown(Path(self.pipeline)) if self.pipeline_is_path else self.pipeline]
        if self.boards_file:
            words += ["--boards", shown(self.boards_file)]
        for option, names in (("--board", self.boards), ("--tag", self.tags)):
            words += [option, ",".join(names)] if names else []
        if self.selection.targets:
            words += ["--targets", ",".join(self.selection.targets)]
        if self.engine != "auto":
            words += ["--engine", self.engine]
        return words


def shown(path: Path) -> str:
    """Return a path as a user in the project's folder would type it."""
    resolved = path.resolve()
    return str(resolved.relative_to(HOME)) if resolved.is_relative_to(HOME) else str(resolved)
