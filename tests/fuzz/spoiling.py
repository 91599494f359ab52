"""Changes of bytes that parsers stumble over."""

from __future__ import annotations

import random
import struct

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def spoil(rng: random.Random, content: bytes, *, most: int = 6) -> bytes:
    """Return `content` after one to `most` changes: bits, bytes, numbers, cuts, copies and insertions."""
    data = bytearray(content)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(7):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.randrange(256)
            case 2:
                size, code = rng.choice(((1, "<B"), (2, "<H"), (4, "<I"), (8, "<Q")))
                data[at : at + size] = struct.pack(code, rng.choice(NUMBERS) % (1 << 8 * size))
            case 3:
                del data[at : at + rng.choice((1, 2, 4, 16, 256))]
            case 4:
                data[at:at] = data[at : at + rng.choice((1, 4, 16, 64))]
            case 5:
                data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 32)))
            case _:
                if rng.random() < 0.2:
                    del data[at:]
    return bytes(data)
