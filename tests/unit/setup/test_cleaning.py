"""Cleaning: what goes is the store's own, and what a live run uses stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossfarm.errors import StoreError
from crossfarm.setup.cleaning import CleanedPlaces, CleanRequest, clean_up, holdings
from crossfarm.store.garbage import verify
from crossfarm.store.keys import KeyDocument
from crossfarm.store.live_runs import live_run
from crossfarm.store.store import Artifact, Store


def _put(store: Store, name: str) -> Artifact:
    document = KeyDocument(stage="compile", version=1, parameters={}, sources=name, inputs={}, image="host", tools={})
    folder = store.root / "work" / name
    folder.mkdir()
    (folder / "file").write_text(name)
    return store.put(key=document.key(), job=name, folder=folder, document=document, groups={}, seconds=0)


def _clean(store: Path, out: Path, *, verify: bool = False, everything: bool = False, days: float | None = None) -> int:
    wishes = CleanRequest(days=days, verify=verify, everything=everything)
    return clean_up(wishes, CleanedPlaces(store=store, out=out, home=out.parent))


def test_everything_is_the_store_and_the_reports_and_nothing_beside_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "store" / "zig" / "o").mkdir(parents=True)
    (tmp_path / "zig").mkdir()
    (tmp_path / "out").mkdir()
    _put(store, "a")
    assert _clean(tmp_path / "store", tmp_path / "out", everything=True) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["zig"]


def test_what_tools_built_once_goes_when_it_is_old_or_with_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / ".crossfarm" / "zig-mera" / "1-2"
    cache.mkdir(parents=True)
    (cache / "libc.a").write_bytes(bytes(2 << 20))
    places = CleanedPlaces(store=tmp_path / "store", out=tmp_path / "out", home=tmp_path)
    assert any("built once: 2.0 MiB" in line and "./inv clean" in line for line in holdings(places))
    _clean(tmp_path / "store", tmp_path / "out", days=1)
    assert cache.exists()
    for path in (cache / "libc.a", cache, cache.parent):
        os.utime(path, (1, 1))
    _clean(tmp_path / "store", tmp_path / "out", days=1)
    assert not cache.exists()
    assert "2.0 MiB: what tools of accelerators built once" in capsys.readouterr().out


def test_a_live_run_keeps_its_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with live_run(store, "run", []), pytest.raises(StoreError, match="a run is going on"):
        _clean(tmp_path / "store", tmp_path / "out", everything=True)
    assert (tmp_path / "store" / "objects").is_dir()


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("mine")
    assert _clean(tmp_path, tmp_path / "out", everything=True) == 0
    assert "no store" in capsys.readouterr().out
    assert (tmp_path / "precious").read_text() == "mine"


def test_verify_tells_and_drops_what_is_damaged_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    whole, damaged = _put(store, "whole"), _put(store, "damaged")
    path = store.file_path(damaged, "file")
    path.chmod(0o644)
    path.write_text("scribbled")
    store.artifact_path("f" * 64).parent.mkdir(parents=True)
    store.artifact_path("f" * 64).write_text("{")
    assert _clean(tmp_path / "store", tmp_path / "out", verify=True) == 0
    said = capsys.readouterr().out
    assert "damaged: object" in said
    assert "its manifest cannot be read" in said
    assert store.read(whole.key) == whole
    assert store.read(damaged.key) is None
    assert verify(store) == []


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kept = _put(store, "kept")
    leftovers = [
        store.root / "last" / ".kept.0123",
        store.artifact_path(kept.key).with_name(f".{kept.key}.0123"),
        store.root / "objects" / "ab" / ("ab" + "0" * 62),
    ]
    for path in leftovers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    assert _clean(tmp_path / "store", tmp_path / "out") == 0
    assert not any(path.exists() for path in leftovers)
    assert store.read(kept.key) == kept


def test_a_dry_run_says_how_much_and_removes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    kept = _put(store, "kept")
    zig = store.root / "zig" / "library"
    zig.parent.mkdir()
    zig.write_bytes(bytes(3 * 2**20))
    ground = CleanedPlaces(store=store.root, out=tmp_path / "out", home=tmp_path)
    assert clean_up(CleanRequest(days=0, dry_run=True), ground) == 0
    said = capsys.readouterr().out
    assert "would free 3.0 MiB: the compiler's cache" in said
    assert "would free 0.0 MiB: artifacts" in said
    assert zig.exists()
    assert store.read(kept.key) == kept
    assert clean_up(CleanRequest(days=0), ground) == 0
    assert not zig.exists()
    assert store.read(kept.key) is None


def test_the_compilers_cache_goes_before_any_artifact_and_never_under_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kept = _put(store, "kept")
    zig = store.root / "zig" / "library"
    zig.parent.mkdir()
    zig.write_bytes(bytes(3 * 2**20))
    ground = CleanedPlaces(store=store.root, out=tmp_path / "out", home=tmp_path)
    with live_run(store, "run", []):
        clean_up(CleanRequest(mebibytes=1), ground)
        assert zig.exists()
    clean_up(CleanRequest(mebibytes=1), ground)
    assert not zig.exists()
    assert store.read(kept.key) == kept


def test_doctor_tells_what_is_large_and_what_removes_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    ground = CleanedPlaces(store=store.root, out=tmp_path / "out", home=tmp_path)
    assert not [line for line in holdings(ground) if "cache" in line]
    zig = store.root / "zig" / "library"
    zig.parent.mkdir()
    zig.write_bytes(bytes(3 * 2**20))
    (line,) = [line for line in holdings(ground) if "cache" in line]
    assert line.startswith(f"the compiler's cache: 3.0 MiB in {zig.parent}: ./inv clean")
