"""Outer loop: the Optuna study, the run folder and the Pareto front.

The room is called like its main function: ``bitsearch.search("digits", budget="4x")`` runs
:func:`bitsearch.search.run.search`. The module stays importable without torch until then.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitsearch.search.run import SearchResult


class _CallableRoom(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> "SearchResult":
        """See :func:`bitsearch.search.run.search`."""
        from bitsearch.search.run import search

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableRoom
