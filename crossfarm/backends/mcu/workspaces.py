"""Counts the temporary memory that compiled functions ask for, while they are compiled.

Where TVM lowers allocations to calls of its runtime, their sizes are constants. A function releases the last one first, so
the most that it holds at once is known before it ever runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
