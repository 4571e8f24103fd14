"""How many inputs Hypothesis tries: all (``ci``, the default) or a tenth of them (``HYPOTHESIS_PROFILE=quick``)."""

import os

from hypothesis import settings

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
SHARE = {"ci": 1.0, "quick": 0.1}


def examples(count: int) -> settings:
    """Settings of a test that tries so many inputs, and fewer of them in the quick profile."""
    return settings(max_examples=_count(count, PROFILE), deadline=None)


def register() -> None:
    """Make the profiles known and choose one."""
    for name in SHARE:
        settings.register_profile(name, max_examples=_count(100, name), deadline=None)
    settings.load_profile(PROFILE)


def _count(count: int, profile: str) -> int:
    return max(1, round(count * SHARE[profile]))
