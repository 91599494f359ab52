"""The compilers behind the targets: modules that follow protocol.Backend, each imported when it is used."""

from __future__ import annotations

import importlib
from typing import cast

from crossfarm.backends.protocol import Backend
from crossfarm.config.base import Declared
from crossfarm.errors import ConfigError, nearest

BACKENDS: dict[str, str] = {
    "tvm": "crossfarm.backends.tvm.backend",
    "mcu": "crossfarm.backends.mcu.backend",
    "mera": "crossfarm.backends.mera.backend",
    "dpu": "crossfarm.backends.dpu.backend",
    "ethos_u": "crossfarm.backends.ethos_u.backend",
    "rtl": "crossfarm.backends.rtl.backend",
}
"""Name in a toolchain file -> module."""


def load_backend(name: str) -> Backend:
    """Import the backend of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in BACKENDS:
        raise ConfigError(f"there is no backend {name!r}{nearest(name, BACKENDS)}; known: {', '.join(BACKENDS)}")
    return cast(Backend, importlib.import_module(BACKENDS[name]))


def code_section(name: str) -> type[Declared]:
    """Return what the `code:` section of a backend's toolchain files is.

    Raises:
        ConfigError: there is no such backend.
    """
    return load_backend(name).DECLARATION.section
