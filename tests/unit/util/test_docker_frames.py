"""Frames of an engine's connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfarm.util.docker import Frames

MESSAGES = st.lists(st.tuples(st.sampled_from([Frames.OUTPUT, Frames.ERRORS]), st.binary(max_size=300)), max_size=8)


@given(messages=MESSAGES, sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_frames_come_out_whole_however_the_connection_cuts_them(
    messages: list[tuple[int, bytes]], sizes: list[int]
) -> None:
    sent = b"".join(bytes([kind, 0, 0, 0]) + len(content).to_bytes(4, "big") + content for kind, content in messages)
    frames, found, turn = Frames(), [], 0
    while sent:
        size = sizes[turn % len(sizes)]
        found += list(frames.take(sent[:size]))
        sent, turn = sent[size:], turn + 1
    assert found == messages
