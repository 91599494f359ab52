"""`python3 -m MODEL_NAME IMAGE...` says what images show."""

from __future__ import annotations

import sys
from typing import Sequence

from . import MODEL, best, predict_image, text


def main(arguments: Sequence[str]) -> int:
    """Print the answer of the model for each image file; returns the exit code."""
    if not arguments or arguments[0].startswith("-"):
        sys.stderr.write(f"usage: python3 -m {MODEL.name} IMAGE...\n")
        return 2
    for path in arguments:
        result = predict_image(path)
        scores = result[0] if isinstance(result, tuple) else result
        lines = [text(scores)] if MODEL.characters else [f"{score:.6g}  {name}" for name, score in best(scores)]
        sys.stdout.write("{}\n{}\n".format(path, "\n".join("  " + line for line in lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
