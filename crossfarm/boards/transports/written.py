"""Copies the files that a bundle's program wrote on this host, as far as the manifest declares them.

Their content is untrusted, and without a sandbox so are their names: no link is followed, nothing
but plain files is read, and no more of them than the manifest declares.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from crossfarm.errors import BundleError

RESULT, PROFILE, OUTPUTS = "result.json", "profile.json", "outputs"

_DOCUMENT_BYTES = 256 << 20
"""Of result.json and profile.json: a number of up to 20 digits for every run, and for every call of one."""
_MANIFEST_BYTES = 64 << 20
_MOST_BYTES = 1 << 40
_MOST_OUTPUTS = 1024
_ITEM_BYTES = {"bool": 1, "int8": 1, "uint8": 1, "float16": 2, "int16": 2, "uint16": 2, "float64": 8, "int64": 8}
"""dtype -> bytes; the others take 4."""
_CHUNK = 1 << 20


def declared(bundle: Path, *, profile: bool) -> dict[str, int]:
    """Return name -> most bytes of every file that a bundle's program may write.

    Args:
        bundle: its folder.
        profile: whether it times every call too.

    Raises:
        BundleError: the manifest cannot be used.
    """
    try:
        with (bundle / "manifest.json").open("rb") as stream:
            document = json.loads(stream.read(_MANIFEST_BYTES))
        cases = int(document["cases"])
        sizes = [
            cases * math.prod(int(extent) for extent in port["shape"]) * _ITEM_BYTES.get(port["dtype"], 4)
            for port in document["outputs"]
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(f"the bundle's manifest.json cannot be used ({error}); make the bundle again") from error
    if len(sizes) > _MOST_OUTPUTS or any(not 0 <= size <= _MOST_BYTES for size in sizes):
        raise BundleError(
            f"the bundle's manifest.json declares more than {_MOST_OUTPUTS} outputs, or one of more than 1 TiB; make "
            "the bundle again"
        )
    files = {RESULT: _DOCUMENT_BYTES} | ({PROFILE: _DOCUMENT_BYTES} if profile else {})
    return files | {f"{OUTPUTS}/{number}.bin": size for number, size in enumerate(sizes)}


def take(folder: Path, files: Mapping[str, int], output: Path) -> None:
    """Copy what a program wrote; a file that it left empty is taken for one that it did not write.

    Args:
        folder: where it wrote.
        files: name -> most bytes, as from `declared`.
        output: existing folder that gets the copies.

    Raises:
        BundleError: a file is none of these, or is larger than it may be.
    """
    for name, limit in files.items():
        source = _open_plain(folder, name)
        if source is None:
            continue
        with os.fdopen(source, "rb") as stream:
            if os.fstat(source).st_size > limit:
                raise BundleError(f"the program wrote more than {limit} bytes of {name}; make the bundle again")
            first = stream.read(_CHUNK)
            if not first:
                continue
            path = output / name
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as copy:
                left, chunk = limit, first
                while chunk and left > 0:
                    copy.write(chunk[:left])
                    left -= len(chunk)
                    chunk = stream.read(_CHUNK)


def _open_plain(folder: Path, name: str) -> int | None:
    """Return a descriptor of a plain file below a folder, None where there is nothing; follows no link below it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    *above, last = name.split("/")
    opened = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        for part in above:
            opened.append(os.open(part, flags | os.O_DIRECTORY, dir_fd=opened[-1]))
        found = os.open(last, flags, dir_fd=opened[-1])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(
            f"the program left {name} as something that is no plain file, or closed it ({error.strerror}); make the "
            "bundle again"
        ) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise BundleError(f"the program left {name} as something that is no plain file; make the bundle again")
    return found
