"""What all declared things share: strict, frozen pydantic models and the rule for names."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

NAME_PATTERN = r"^[a-z0-9][a-z0-9_]*$"
"""Names become file names, C identifiers and parts of cell ids, so they hold nothing that a path or a shell reads."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PinnedPackage = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*$")]


class Declared(BaseModel):
    """A declared thing: unknown keys are refused, and nothing changes it once it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)
