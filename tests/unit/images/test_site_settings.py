"""What a site adds below the images."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.errors import ToolError
from crossfarm.images.site_settings import Site, site_context, site_reference, this_site

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for certificates, on a machine whose pip is told nothing and that has no apt."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "PIP_TIMEOUT", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = tmp_path / "certificates"
    made.mkdir()
    return made


def _site(folder: Path, said: list[str] | None = None) -> Site:
    return this_site(certificates=folder, say=(said if said is not None else []).append)


def test_a_site_without_certificates_and_settings_adds_nothing(folder: Path) -> None:
    assert not _site(folder)
    assert not this_site(certificates=folder / "none", say=print)


def test_certificates_are_copied_and_trusted(folder: Path) -> None:
    (folder / "below").mkdir()
    for name in ("a.crt", "below/b.crt"):
        (folder / name).write_text(CERTIFICATE)
    (folder / "notes.txt").write_text("x")
    dockerfile, *files = site_context(_site(folder))
    assert [file.path for file in files] == ["site/certificates/a.crt", "site/certificates/below-b.crt"]
    text = dockerfile.content.decode()
    assert "update-ca-certificates" in text
    assert "PIP_CERT=/etc/ssl/certs/ca-certificates.crt" in text


def test_a_certificate_that_is_declared_and_not_there_is_named(folder: Path) -> None:
    (folder / "gone.crt").symlink_to(folder / "nowhere.crt")
    with pytest.raises(ToolError, match=r"gone\.crt: the site's certificate cannot be read: No such file"):
        _site(folder)


def test_a_file_that_is_no_certificate_is_refused(folder: Path) -> None:
    (folder / "der.crt").write_bytes(b"\x30\x82")
    with pytest.raises(ToolError, match=r"der\.crt: holds no certificate in PEM form"):
        _site(folder)


def test_settings_of_pip_go_along_unless_they_hold_a_secret_or_only_work_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@mirror.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://other.example/simple file:///srv/wheels http://localhost:3141/x")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "180")
    said: list[str] = []
    site = _site(folder, said)
    assert site.pip == "[global]\ndefault-timeout = 180\nextra-index-url = https://other.example/simple\n"
    assert said == ["pip's index-url: holds a password and is left out of the images"]
    assert "secret" not in repr(site)


def test_settings_of_apt_go_along(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "apt-config"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'Acquire::http::Proxy \"http://proxy.example:3128\";'\n"
        "echo 'Acquire::Check-Date \"false\";'\n"
        "echo 'Acquire::https::Proxy \"http://user:secret@proxy.example\";'\n"
    )
    program.chmod(0o755)
    said: list[str] = []
    assert (
        _site(folder, said).apt == 'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::Check-Date "false";\n'
    )
    assert said == ["Acquire::https::Proxy: holds a password and is left out of the images"]


def test_the_name_of_a_sites_image_depends_on_all_that_is_in_it(folder: Path) -> None:
    (folder / "a.crt").write_text(CERTIFICATE)
    first = _site(folder)
    assert site_reference(first, base="x") == site_reference(_site(folder), base="x")
    (folder / "a.crt").write_text(CERTIFICATE * 2)
    names = {site_reference(site, base=base) for site in (first, _site(folder)) for base in ("x", "y")}
    assert len(names) == 4
