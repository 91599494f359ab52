"""What every request over HTTP keeps to: encrypted or on this machine, trusted certificates, no password."""

from __future__ import annotations

import ipaddress
import os
import ssl
import urllib.parse
from typing import Any

_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def is_private(url: str) -> bool:
    """Return whether nobody on the way can read or change what is sent there: https, or http with this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return bool(host)
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def authorities() -> str | bool:
    """Return the certificate authorities that are trusted: those of a variable, of this machine, or of certifi."""
    named = next(filter(None, map(os.environ.get, _VARIABLES)), None)
    paths = ssl.get_default_verify_paths()
    return named or paths.cafile or paths.capath or True


def no_password(request: Any) -> Any:
    """Stand in for ~/.netrc as `auth` of a requests session: a server that a file names gets no password."""
    return request


def bad_certificate(error: object) -> ssl.SSLCertVerificationError | None:
    """Return what was wrong with a certificate when that is behind an error of requests or urllib3."""
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        inner = (error.args[:1] or (None,))[0]
        following = (error.__cause__, error.__context__, getattr(error, "reason", None), inner)
        error = next((each for each in following if isinstance(each, BaseException)), None)
    return None
