"""Removes secrets from the URL of a database before it is shown."""

from __future__ import annotations

import re
from urllib.parse import quote, quote_plus, unquote, unquote_plus

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z+]*)://"
    r"(?:(?P<user>[^@:/?#]*)(?::(?P<password>[^?#]*))?@)?"
    r"(?P<place>(?:\[[0-9A-Fa-f:.%]*\]|[^@:/?#\[\]]*)(?::[0-9]{0,5})?(?:/[^?#@]*)?)"
    r"(?:\?(?P<options>[A-Za-z_]+=[^&#]*(?:&[A-Za-z_]+=[^&#]*)*))?"
)
"""A URL in which it is clear what is a secret; of any other nothing is shown."""
_SHOWN_OPTIONS = frozenset({"host", "hostaddr", "port", "dbname", "user", "sslmode", "application_name"})
"""Of libpq's options, those that are shown; `password`, `sslpassword` and whatever it learns later are not."""
_HIDDEN = "***"


def shown_url(url: str) -> str:
    """Return a URL without its password and without options that are not known to be harmless."""
    found = _URL.fullmatch(url)
    if found is None:
        return f"{'postgresql' if url.startswith('postgresql:') else 'a URL'}://{_HIDDEN}"
    shown = "&".join(f"{name}={value}" for name, value in _options(found) if name in _SHOWN_OPTIONS)
    user = f"{found['user']}@" if found["user"] else ""
    return f"{found['scheme']}://{user}{found['place']}{'?' + shown if shown else ''}"


def without_secrets(text: str, url: str) -> str:
    """Return what a driver said with all secrets of a URL replaced, percent-encoded or not."""
    found = _URL.fullmatch(url)
    if found is None:
        return "its URL cannot be read"
    password = found["password"] or ""
    # A driver that takes the first @ for the end of a password takes the rest of it for the host.
    rests = ["@".join(password.split("@")[start:]) + "@" for start in range(1, password.count("@") + 1)]
    values = [password, *rests, *(value for name, value in _options(found) if name not in _SHOWN_OPTIONS)]
    secrets = {form for value in values if value for form in _forms(value)}
    for secret in (url, *sorted(secrets, key=len, reverse=True)):
        text = text.replace(secret, _HIDDEN)
    return text


def _forms(value: str) -> set[str]:
    plain = {value, unquote(value), unquote_plus(value)}
    return plain | {quote(form, safe="") for form in plain} | {quote_plus(form) for form in plain}


def _options(found: re.Match[str]) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in (found["options"] or "").split("&"))
    return [(name.lower(), value) for name, _, value in pairs]
