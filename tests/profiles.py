"""How many inputs Hypothesis tries: all (``ci``, the default), or a tenth of them (``HYPOTHESIS_PROFILE=quick``).

Both try the same inputs at every run, so that a test that passes today passes tomorrow; ``HYPOTHESIS_PROFILE=explore``
tries five times as many that nobody has tried before.
"""

import os

from hypothesis import settings

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
SHARE = {"ci": 1.0, "quick": 0.1, "explore": 5.0}


def examples(count: int) -> settings:
    """Settings of a test that tries so many inputs, and fewer of them in the quick profile."""
    return settings(max_examples=_count(count, PROFILE), deadline=None, derandomize=PROFILE != "explore")


def register() -> None:
    """Make the profiles known and choose one."""
    for name in SHARE:
        settings.register_profile(
            name, max_examples=_count(100, name), deadline=None, derandomize=name != "explore", print_blob=True
        )
    settings.load_profile(PROFILE)


def _count(count: int, profile: str) -> int:
    return max(1, round(count * SHARE[profile]))
