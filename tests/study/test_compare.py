from bitsearch.allocation.methods import METHODS
from bitsearch.errors import InputError
from bitsearch.report.comparison import comparison_table
from bitsearch.runs.progress import Progress
from bitsearch.study.compare import compare
from bitsearch.study.study import FAILURE, load_study

RULES = ["conv2:weight_bits=1"]


class Told(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_a_method_that_cannot_meet_the_budget_is_told_and_the_others_are_compared(tiny_space, tmp_path, monkeypatch):
    def refuse(problem):
        raise InputError("local_binary cannot meet the budget")

    monkeypatch.setitem(METHODS, "local_binary", refuse)
    short = tiny_space.training.model_copy(update={"epochs": 1, "full_precision_epochs": 1})
    space = tiny_space.model_copy(update={"training": short})
    told = Told()
    found = compare(
        space, "32x", ["local_binary", "random"], seeds=1, trials=2, layers=RULES, out=tmp_path, progress=told
    )
    assert list(found.results["method"]) == ["random"]
    assert {plan.layers["conv2"].weight_bits for plan in found.plans("random")} == {1}
    assert [note.partition(" cannot meet")[0] for note in told.notes] == [
        f"trial {number} failed: local_binary" for number in (0, 2)
    ]
    trials = load_study(found.runs[0].folder).trials
    assert [trial.number for trial in trials if FAILURE in trial.user_attrs] == [0, 2]
    assert len(trials) == 4
    _, rows = comparison_table(found)
    assert [row.cells[-1].text for row in rows] == ["0 of 1", "1 of 1", "—"]
