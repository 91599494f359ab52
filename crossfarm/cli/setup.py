"""What users type to prepare a machine, and to see what it lacks and holds."""

from __future__ import annotations

import sys

from crossfarm.cli.run_options import options, run_options
from crossfarm.cli.verbs import Given, Option, verb
from crossfarm.util.paths import HOME


@verb(
    *run_options("models", "pipeline"),
    Option(name="yes", help="use sudo for Debian packages when not root, without asking", kind="flag"),
    Option(name="tests", help="also what the tests need (on; --no-tests leaves it out)", kind="flag", is_on=True),
)
def setup(given: Given) -> int:
    """Install what this machine lacks: Debian packages, Python packages of the chosen models, a container engine.

    Examples:
        ./inv setup
        ./inv setup --yes pipeline --models models.yaml
    """
    from crossfarm.pipeline.declared import load
    from crossfarm.setup.container_host import prepare_host
    from crossfarm.setup.requirements import run_setup
    from crossfarm.util.console import Console

    console = Console(sys.stdout)
    project = load(options(given))
    return run_setup(project, yes=given["yes"], tests=given["tests"], console=console) or prepare_host(console)


@verb(*run_options("models", "pipeline"))
def doctor(given: Given) -> int:
    """Say what is found on this machine, what is missing, and what that costs.

    Example: ./inv doctor
    """
    from crossfarm.pipeline.declared import load
    from crossfarm.setup.cleaning import CleanedPlaces, holdings
    from crossfarm.setup.container_host import host_requirements
    from crossfarm.setup.requirements import run_doctor
    from crossfarm.util.console import Console

    wanted = options(given)
    project, console = load(wanted), Console(sys.stdout)
    code = run_doctor(project, console=console, tests=True, more=host_requirements())
    for line in holdings(CleanedPlaces(store=wanted.store, out=wanted.out, home=HOME, project=project)):
        console.line(line)
    return code
