import pytest

from bitsearch.errors import redact


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://ann:s3cret@host/db", "postgresql://ann:***@host/db"),
        ("postgresql+psycopg://ann:s3:c/r@t@host:5432/db", "postgresql+psycopg://ann:***@host:5432/db"),
        ("bitsearch run --storage 'postgresql://ann:s3 cret'", "bitsearch run --storage 'postgresql://ann:s3 cret'"),
        ("run --storage postgresql://:s3cret@host/db --out x", "run --storage postgresql://:***@host/db --out x"),
        ("postgresql://host/db?user=ann&password=s3cret&x=1", "postgresql://host/db?user=ann&password=***&x=1"),
        ("postgresql://ann@host/db", "postgresql://ann@host/db"),
        ("two postgresql://a:b@c/d and s3://e:f@g", "two postgresql://a:***@c/d and s3://e:***@g"),
        ("no url, mail me@home: 12:30", "no url, mail me@home: 12:30"),
        ("connection to host=x password=s3cret failed", "connection to host=x password=*** failed"),
    ],
)
def test_passwords_are_masked_and_nothing_else(given, shown):
    assert redact(given) == shown
