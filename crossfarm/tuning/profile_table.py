"""A profile as a table for a terminal, and as a picture (SVG, alone or in an HTML page) without any dependency."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from crossfarm.errors import ConfigError
from crossfarm.tuning.layer_times import LayerTime, Profile

NOT_SILICON = "not measured on silicon: these times rank nothing"
_HEADINGS = ("ms", "share", "calls", "GFLOP/s", "of peak", "layer")
_ROW, _LEFT, _RIGHT, _TOP, _WIDTH, _LETTERS = 18, 360, 150, 44, 1000, 52


def table(cell: str, profile: Profile) -> str:
    """Return the table as lines: the slowest layer first, then the sum beside the time of a whole run."""
    worth = "" if profile.timing == "silicon" else f" ({profile.timing})"
    headings = (f"ms{worth}", *_HEADINGS[1:])
    rows = [headings, *(_cells(layer, profile) for layer in profile.layers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    lines = [f"{cell}, {profile.threads} {_threads(profile.threads)}"]
    if profile.timing != "silicon":
        lines.append(NOT_SILICON)
    for *numbers, name in rows:
        lines.append("  ".join([*map(str.rjust, numbers, widths), name]))
    total, latency = profile.total / 1e6, profile.latency / 1e6
    lines.append(f"{total:.3f} ms{worth} in {len(profile.layers)} layers; a whole run takes {latency:.3f} ms{worth}")
    if profile.peak is not None:
        lines.append(f"peak {profile.peak / 1e9:.1f} GFLOP/s a core, measured with code for the same processor")
    if any(not layer.scheduled for layer in profile.layers):
        lines.append(f"no rule covered functions that take {profile.unscheduled_share:.1%} of the time")
    return "\n".join(lines) + "\n"


def plot(cell: str, profile: Profile, path: Path) -> None:
    """Write a picture with a bar per layer.

    Raises:
        ConfigError: the path ends neither in .svg nor in .html, or cannot be written.
    """
    picture = svg(cell, profile)
    if path.suffix == ".html":
        title = html.escape(cell)
        picture = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n{picture}</html>\n'
    elif path.suffix != ".svg":
        raise ConfigError(f"--plot {path}: give a name that ends in .svg or .html")
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--plot {path}: {error.strerror}; give a place that can be written") from error


def svg(cell: str, profile: Profile) -> str:
    """Return the picture: bars of time, darker the nearer a layer is to the peak, red where no rule covered it."""
    longest = max((layer.nanoseconds for layer in profile.layers), default=0.0) or 1.0
    height = _TOP + _ROW * len(profile.layers) + 10
    notes = [f"{profile.total / 1e6:.3f} ms", f"{profile.threads} {_threads(profile.threads)}"]
    if profile.timing != "silicon":
        notes.append("not measured on silicon")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="22" font-size="14">{html.escape(cell)}: {html.escape(", ".join(notes))}</text>',
    ]
    for number, layer in enumerate(profile.layers):
        top = _TOP + _ROW * number
        length = (_WIDTH - _LEFT - _RIGHT) * layer.nanoseconds / longest
        ms, share, _, rate, of_peak, name = _cells(layer, profile)
        shown = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
        label = " ".join(text for text in (f"{ms} ms", share, f"{of_peak} of peak" if of_peak else "") if text)
        parts.append(
            f"<g><title>{html.escape(name)}: {rate or '?'} GFLOP/s</title>"
            f'<text x="{_LEFT - 6}" y="{top + 12}" text-anchor="end">{html.escape(shown)}</text>'
            f'<rect x="{_LEFT}" y="{top + 2}" width="{length:.1f}" height="{_ROW - 4}" '
            f'fill="{_colour(layer, profile)}"/>'
            f'<text x="{_LEFT + length + 5:.1f}" y="{top + 12}">{html.escape(label)}</text></g>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _cells(layer: LayerTime, profile: Profile) -> Sequence[str]:
    of_peak = _of_peak(layer, profile)
    return (
        f"{layer.nanoseconds / 1e6:.3f}",
        f"{layer.nanoseconds / profile.total:.1%}" if profile.total else "",
        str(layer.calls),
        f"{layer.rate / 1e9:.1f}" if layer.operations else "",
        f"{of_peak:.0%}" if of_peak is not None else "",
        layer.name + ("" if layer.scheduled else "  (unscheduled)"),
    )


def _of_peak(layer: LayerTime, profile: Profile) -> float | None:
    if profile.peak is None or not layer.operations:
        return None
    return layer.rate / (profile.peak * profile.threads)


def _colour(layer: LayerTime, profile: Profile) -> str:
    if not layer.scheduled:
        return "#c0392b"
    return f"hsl(210,60%,{80 - 45 * min(1.0, _of_peak(layer, profile) or 0.0):.0f}%)"


def _threads(count: int) -> str:
    return "thread" if count == 1 else "threads"
