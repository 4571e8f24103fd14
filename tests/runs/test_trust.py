import pytest

from bitsearch.errors import InputError
from bitsearch.runs.rebuild import require_trust
from bitsearch.space import SearchSpace


def test_an_optimizer_that_is_not_bitsearchs_is_run_by_those_who_trust_it():
    space = SearchSpace.load("digits")
    require_trust(space.with_training({"optimizer": "sgd"}), "plan.json")
    with pytest.raises(InputError, match=r"plan\.json runs code that is not bitsearch's: optimizer 'mine:make'"):
        require_trust(space.with_training({"optimizer": "mine:make"}), "plan.json")
