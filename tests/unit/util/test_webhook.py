"""Addresses of webhooks: which may be asked, and what of them may be told."""

from __future__ import annotations

import pytest

from crossfarm.util.webhook import host_of, is_private, post


@pytest.mark.parametrize(
    ("url", "private", "host"),
    [
        ("https://hooks.example.org/services/SECRET", True, "hooks.example.org"),
        ("https://hooks.example.org:8443/SECRET?key=SECRET", True, "hooks.example.org:8443"),
        ("http://127.0.0.1:9000/x", True, "127.0.0.1:9000"),
        ("http://[::1]/x", True, "::1"),
        ("http://localhost/x", True, "localhost"),
        ("http://hooks.example.org/SECRET", False, "hooks.example.org"),
        ("http://127.0.0.1.example.org/SECRET", False, "127.0.0.1.example.org"),
        ("https:///SECRET", False, "?"),
        ("ftp://example.org/SECRET", False, "example.org"),
        ("https://example.org:port/SECRET", True, "?"),
        ("http://[SECRET", False, "?"),
        ("", False, "?"),
    ],
)
def test_an_address_is_private_or_not_and_only_its_host_is_told(url: str, private: bool, host: str) -> None:
    assert is_private(url) is private
    assert host_of(url) == host


def test_an_address_that_is_not_private_is_not_asked() -> None:
    told = post("http://hooks.invalid/SECRET", "{}", headers={}, seconds=5)
    assert told == "hooks.invalid: the address is not https"


def test_an_address_that_cannot_be_read_is_told() -> None:
    told = post("https://example.org:port/SECRET", "{}", headers={}, seconds=5)
    assert "SECRET" not in told
    assert told.startswith("?: ")
