"""Addresses of webhooks: which may be asked, and what of them may be told."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from crossfarm.util.https import is_private
from crossfarm.util.webhook import host_of, post


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


class _Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def test_what_stays_on_this_machine_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert post(f"http://127.0.0.1:{server.server_port}/SECRET", "{}", headers={}, seconds=10) == ""
        thread.join()


def test_certificates_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent.pem"))
    told = post("https://127.0.0.1:9/SECRET", "{}", headers={}, seconds=5)
    assert told == "127.0.0.1:9: the certificates that are to be trusted cannot be read"
