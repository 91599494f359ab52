"""A board that means harm: the forced command of a sshd, which answers in place of remote.sh.

The last part of the board's folder names what it does. Verbs that this says nothing about are answered as a good board
would. Needs the standard library alone, and ends by itself after 60 s.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import shlex
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping

FACTS = b"kernel 6.1\nmachine x86_64\nfree_kib 9999999\nload 0.1\nprocessors 0-1\n"
FILES: Mapping[str, bytes] = {
    "./code": b"0\n",
    "./tail": b"",
    "./before": FACTS,
    "./after": b"",
    "./outputs/0.bin": b"output",
    "./result.json": b"{}",
}
"""What a good board hands back of a run of a bundle whose one output has 6 bytes."""
ESCAPES = b"\x1b[2J\x1b]0;owned\x07\xc2\x9b31m\xe2\x80\xae\r\x00\xff"
GIB = 1 << 30

Act = Callable[[], None]


def say(data: bytes, stream: int = 1) -> None:
    while data:
        data = data[os.write(stream, data) :]


def member(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "") -> bytes:
    """One header, which may promise more than follows it."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


def archive(files: Mapping[str, bytes] = FILES, *, first: bytes = b"", without: str = "") -> bytes:
    """An archive of a run, with something before it."""
    parts = [first]
    for name, content in files.items():
        if name != without:
            parts.append(member(name, size=len(content)) + content + bytes(-len(content) % 512))
    return b"".join([*parts, bytes(1024)])


def changed(name: str, content: bytes) -> Act:
    return lambda: say(archive({**FILES, name: content}))


def odd(header: bytes) -> Act:
    """An archive with an odd member in place of the output."""
    return lambda: say(archive(first=header, without="./outputs/0.bin"))


def sparse() -> bytes:
    """A header of 512 bytes, and none of content, for a file of 1 GiB."""
    info = tarfile.TarInfo("./outputs/0.bin")
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[156:157] = tarfile.GNUTYPE_SPARSE
    raw[386:398] = raw[398:410] = b"%011o\0" % 0
    raw[386:398] = b"%011o\0" % GIB
    raw[483:495] = b"%011o\0" % GIB
    raw[148:156] = b"        "
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def extended(words: Mapping[str, str], size: int | None = None) -> bytes:
    records = b""
    for key, value in words.items():
        body = f" {key}={value}\n"
        length = len(body) + 2
        while len(str(length)) + len(body) != length:
            length += 1
        records += f"{length}{body}".encode()
    return member("x", tarfile.XHDTYPE, size=len(records) if size is None else size) + (
        records + bytes(-len(records) % 512)
    )


def drip(stream: int, data: bytes = b"x") -> Act:
    def act() -> None:
        while True:
            for byte in data:
                say(bytes([byte]), stream)
                time.sleep(0.05)

    return act


def flood(*streams: int) -> Act:
    def act() -> None:
        while True:
            for stream in streams:
                say(b"x" * 65536, stream)

    return act


def ends(code: int, words: bytes = b"") -> Act:
    def act() -> None:
        say(words, 2)
        sys.exit(code)

    return act


def says(data: bytes) -> Act:
    return lambda: say(data)


def sleep() -> None:
    time.sleep(90)


def then(*acts: Act) -> Act:
    def act() -> None:
        for one in acts:
            one()

    return act


def close_output() -> None:
    os.close(1)
    os.close(2)
    sleep()


def leave_a_child() -> None:
    say(FACTS)
    if os.fork() == 0:
        signal.alarm(60)
        sleep()
    os._exit(0)


def cut_connection() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    sleep()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def endless_outputs() -> None:
    for number in range(1 << 30):
        say(member(f"./outputs/{number}.bin"))


def endless_output() -> None:
    say(member("./outputs/0.bin", size=6))
    flood(1)()


def endless_headers() -> None:
    while True:
        say(member("x", tarfile.XHDTYPE))


def endless_facts() -> None:
    while True:
        say(b"temperature 41000\n" * 1000)


def long_names() -> bytes:
    return (member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=512) + b"a" * 512) * 3000


def noise(size: int) -> bytes:
    return random.Random(7).randbytes(size)


def negative() -> bytes:
    """A header whose size is -1 in base 256."""
    raw = bytearray(member("./outputs/0.bin"))
    raw[124:136] = b"\xff" * 12
    raw[148:156] = b"        "
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def zipped() -> None:
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9) as bomb:
        bomb.write(member("./outputs/0.bin", size=GIB) + bytes(64 << 20))
    say(raw.getvalue())


ACTS: Mapping[str, tuple[str, Act]] = {
    # Before anything is sent.
    "silent": ("preflight", sleep),
    "drips": ("preflight", drip(1)),
    "drips-lines": ("preflight", drip(1, b"temperature 1\n")),
    "drips-errors": ("preflight", drip(2)),
    "floods": ("preflight", flood(1)),
    "floods-errors": ("preflight", flood(2)),
    "floods-both": ("preflight", flood(1, 2)),
    "floods-facts": ("preflight", endless_facts),
    "closes-output": ("preflight", close_output),
    "leaves-a-child": ("preflight", leave_a_child),
    "says-nothing": ("preflight", says(b"")),
    "is-no-board": ("preflight", says(b"Welcome!\n" + ESCAPES)),
    "noise": ("preflight", says(noise(200_000))),
    "machine-of-escapes": ("preflight", says(b"machine " + ESCAPES + b"\nfree_kib 7\n")),
    "machine-of-nothing": ("preflight", says(b"machine \nfree_kib 7\n")),
    "long-machine": ("preflight", says(b"machine " + b"x" * 500_000 + b"\nfree_kib 7\n")),
    "long-number": ("preflight", says(b"machine x86_64\nfree_kib " + b"9" * 6000 + b"\n")),
    "negative-disk": ("preflight", says(b"machine x86_64\nfree_kib -5\n")),
    "other-machine": ("preflight", says(FACTS.replace(b"x86_64", b"z80"))),
    "dies": ("preflight", die),
    "cuts": ("preflight", cut_connection),
    "fails-with-escapes": ("preflight", ends(1, ESCAPES + b"bad\x1b[0m")),
    "fails-at-length": ("preflight", ends(92, b"x" * 900_000)),
    "claims-another-holder": ("preflight", ends(91, b"token 9\n")),
    "claims-no-room": ("preflight", ends(96, b"\n\n\n")),
    "fails-in-silence": ("preflight", ends(200)),
    # While a bundle is sent.
    "offer-drips": ("offer", drip(1, b"whole 0\n")),
    "offer-floods": ("offer", flood(1)),
    "offer-long-number": ("offer", says(b"whole " + b"9" * 9000 + b"\nwhole 99999\nhead 0\n")),
    "store-silent": ("store", sleep),
    "store-drips": ("store", drip(2)),
    "store-dies": ("store", die),
    # The result.
    "run-drips": ("run", drip(1, archive())),
    "run-silent-end": ("run", then(says(archive()), close_output)),
    "run-floods": ("run", flood(1)),
    "run-zeros": ("run", then(says(archive()[:-1024]), flood(1))),
    "run-floods-errors": ("run", then(says(archive()), flood(2))),
    "run-says-nothing": ("run", says(b"")),
    "run-noise": ("run", says(noise(100_000))),
    "run-truncated": ("run", says(archive()[:1800])),
    "run-zipped": ("run", zipped),
    "run-sparse": ("run", odd(sparse())),
    "run-sparse-words": ("run", odd(extended({"GNU.sparse.size": str(GIB)}) + member("./GNUSparseFile.7/0.bin"))),
    "run-symlink": ("run", odd(member("./outputs/0.bin", tarfile.SYMTYPE, link="/etc/passwd"))),
    "run-symlinked-folder": ("run", lambda: say(archive(first=member("./outputs", tarfile.SYMTYPE, link="/tmp")))),
    "run-hardlink": ("run", odd(member("./outputs/0.bin", tarfile.LNKTYPE, link="/etc/passwd"))),
    "run-device": ("run", odd(member("./outputs/0.bin", tarfile.CHRTYPE))),
    "run-fifo": ("run", odd(member("./outputs/0.bin", tarfile.FIFOTYPE))),
    "run-absolute": ("run", changed("/tmp/crossfarm-hostile", b"x")),
    "run-upwards": ("run", changed("./outputs/../../crossfarm-hostile", b"x")),
    "run-other-name": ("run", changed("./outputs/1.bin", b"x")),
    "run-nul": ("run", changed("./outputs/0.bin/\x01", b"x")),
    "run-large-output": ("run", changed("./outputs/0.bin", bytes(1 << 20))),
    "run-large-result": ("run", lambda: say(archive(first=member("./result.json", size=GIB)))),
    "run-large-profile": ("run", lambda: say(archive(first=member("./profile.json", size=17 << 20)))),
    "run-negative": ("run", odd(negative())),
    "run-twice": ("run", lambda: say(archive(first=archive()[:1024]))),
    "run-many-outputs": ("run", endless_outputs),
    "run-endless-output": ("run", endless_output),
    "run-endless-headers": ("run", endless_headers),
    "run-long-header": ("run", lambda: say(extended({}, size=8 << 30) + archive())),
    "run-long-names": ("run", lambda: say(long_names() + archive())),
    "run-bad-code": ("run", changed("./code", b"zero\n")),
    "run-long-code": ("run", changed("./code", b"9" * 6000)),
    "run-no-code": ("run", lambda: say(archive(without="./code"))),
    "run-bad-facts": ("run", changed("./before", ESCAPES)),
    "run-crash-of-escapes": ("run", lambda: say(archive({**FILES, "./code": b"139\n", "./tail": b"x\n" + ESCAPES}))),
    "run-cuts": ("run", then(says(archive()[:2000]), cut_connection)),
}
"""Name -> the verb that is answered with harm, and how."""

GOOD: Mapping[str, Act] = {
    "probe": says(FACTS),
    "preflight": says(FACTS),
    "offer": says(b"whole 0\nwhole 1\nwhole 2\n"),
    "store": says(b"stored\n"),
    "verify": says(b"good\n"),
    "run": says(archive()),
}


def _read_input() -> Iterator[bytes]:
    while data := os.read(0, 1 << 16):
        yield data


def main() -> None:
    """Answer one request."""
    signal.alarm(60)
    words = shlex.split(os.environ["SSH_ORIGINAL_COMMAND"])
    name, verb = words[4].rpartition("/")[2], words[6]
    hostile, act = ACTS.get(name, ("", sleep))
    with contextlib.suppress(BrokenPipeError):
        if verb == hostile:
            act()
            return
        for _ in _read_input():
            pass
        if name == "offer-long-number" and verb == "store":
            ends(94, b"what arrived is odd")()
        GOOD[verb]()


if __name__ == "__main__":
    main()
