"""Labelled audio: a mono 16-bit WAV file, and in which frames of it someone speaks."""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import NDArray

from crossfarm.config.models import Audio, Framing
from crossfarm.errors import ConfigError
from crossfarm.stages.data.preprocessing import frame_audio


def frames(dataset: Audio, content: bytes, framing: Framing) -> tuple[NDArray[np.float32], list[int | None]]:
    """Cut a WAV file into frames and say which of them are speech.

    Args:
        dataset: as declared.
        content: the WAV file.
        framing: how the model wants its frames.

    Returns:
        The frames in order, float32 of shape (count, context + size), -1 to 1; and 1 for a frame of speech, 0 for
        another, None where the data set does not say.

    Raises:
        ConfigError: the file is no 16-bit mono WAV of the framing's rate, or is shorter than one frame.
    """
    cut = frame_audio(samples(dataset.name, content, rate=framing.rate), framing)[: dataset.limit]
    if not len(cut):
        raise ConfigError(f"dataset {dataset.name}: the file is shorter than one frame of {framing.size} samples")
    return cut, frame_labels(dataset.speech, framing, count=len(cut))


def samples(name: str, content: bytes, *, rate: int) -> NDArray[np.float32]:
    """Return the samples of a 16-bit mono WAV file divided by 32768, shape (n,).

    Raises:
        ConfigError: it is something else.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            found = (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate())
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a length that leads out of the file
        said = str(error) or "it is damaged"
        raise ConfigError(f"dataset {name}: not a WAV file: {said}; correct its source") from error
    if found != (1, 16, rate):
        raise ConfigError(
            f"dataset {name}: the file has {found[0]} channels of {found[1]} bits at {found[2]} Hz, but 1 channel of "
            f"16 bits at {rate} Hz is wanted; convert it, or change preprocess.frames.rate"
        )
    return np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2").astype(np.float32) / np.float32(32768)


def frame_labels(speech: tuple[tuple[float, float], ...] | None, framing: Framing, *, count: int) -> list[int | None]:
    """Say of each frame whether its middle lies in one of the [from, to) seconds of speech.

    Returns:
        `count` times 1 or 0; None each when `speech` is None.
    """
    if speech is None:
        return [None] * count
    middles = [(number + 0.5) * framing.size / framing.rate for number in range(count)]
    return [int(any(start <= middle < end for start, end in speech)) for middle in middles]
