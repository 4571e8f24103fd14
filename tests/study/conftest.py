import pytest
from bars import parts, trained_network

from bitsearch.errors import InputError
from bitsearch.study.run import search


@pytest.fixture(scope="module")
def trained():
    return trained_network()


@pytest.fixture
def refusal(trained, tmp_path):
    """What a search of these options is refused with: one line, before anything is written."""

    def refuse(**options):
        with pytest.raises(InputError) as caught:
            search(trained, parts(), out=tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()
        (line,) = str(caught.value).splitlines()
        return line

    return refuse
