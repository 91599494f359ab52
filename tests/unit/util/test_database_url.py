"""No secret of a database's URL is shown, in whatever way the URL carries it."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from crossfarm.boards.leases.database import LeaseDatabase
from crossfarm.errors import LeaseError
from crossfarm.util.database_url import shown_url, without_secrets

HIDDEN = "s3cr/t @:&?x"
CODED = quote(HIDDEN, safe="")
URLS = [
    f"postgresql://farm:{CODED}@127.0.0.1:1/leases",
    f"postgresql://farm@127.0.0.1:1/leases?password={CODED}",
    f"postgresql://farm@127.0.0.1:1/leases?PASSWORD={CODED}",
    f"postgresql://farm@127.0.0.1:1/leases?sslmode=require&sslpassword={CODED}&sslkey=/k",
    f"postgresql://127.0.0.1:1/leases?user=farm&password={CODED}",
    f"postgresql:///leases?host=/nowhere&password={CODED}",
    f"postgresql://farm:a@{CODED}@127.0.0.1:1/leases",
    f"postgresql://:{CODED}@127.0.0.1:1/leases",
    f"postgresql://farm@127.0.0.1:1/leases?no_such_option={CODED}",
    f"postgresql://farm:{CODED}@127.0.0.1:no-port/leases",
    f"postgresql://farm:{CODED}@[::1/leases",
    "postgresql://farm:s3cr?t@127.0.0.1:1/leases",
    "postgresql://farm:s3cr#t@127.0.0.1:1/leases",
    "postgresql://farm@127.0.0.1:1/leases?password=s3cr@t&x",
]


@pytest.mark.parametrize("url", URLS)
def test_a_database_that_cannot_be_used_is_named_without_its_secrets(url: str) -> None:
    with pytest.raises(LeaseError) as told:
        LeaseDatabase(url, retry_seconds=0.0)
    said = str(told.value)
    assert "postgresql://" in said and "CROSSFARM_DATABASE" in said
    for form in (HIDDEN, CODED, "s3cr", "a@"):
        assert form not in said, said


def test_a_secret_with_at_and_slash_that_was_not_encoded_is_not_shown() -> None:
    url = "postgresql://farm:s3cr/t@x@db.lab/leases?passfile=/home/farm/.pgpass"
    assert shown_url(url) == "postgresql://farm@db.lab/leases"
    assert "s3cr" not in without_secrets(f"could not connect with {url}, 's3cr/t@x'", url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql://farm@db.lab:5433/leases?sslmode=require",
            "postgresql://farm@db.lab:5433/leases?sslmode=require",
        ),
        ("postgresql:///leases?host=/run/pg", "postgresql:///leases?host=/run/pg"),
        ("postgresql://db.lab/leases", "postgresql://db.lab/leases"),
    ],
)
def test_what_is_no_secret_stays(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_what_a_driver_says_is_shown_without_the_secret_in_every_form() -> None:
    url = f"postgresql://farm@db.lab/leases?password={CODED}"
    said = f"connection to {url} failed: no '{HIDDEN}' nor '{CODED}' for user farm"
    shown = without_secrets(said, url)
    assert "s3cr" not in shown and "user farm" in shown
