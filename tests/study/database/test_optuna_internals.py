import re
from pathlib import Path

import optuna
from optuna.trial import TrialState, create_trial

import bitsearch
from bitsearch.study.database.optuna_internals import add_trial, set_trial_state, storage_of, stored_trial

PRIVATE = re.compile(r"\._(storage|study_id|trial_id)\b|from optuna[\w.]*\._|import optuna[\w.]*\._")


def test_it_is_written_against_this_optuna():
    assert optuna.__version__.startswith("5.")


def test_nothing_outside_of_the_database_uses_private_parts():
    package = Path(bitsearch.__file__).parent
    database = package / "study" / "database"
    users = [path for path in package.rglob("*.py") if PRIVATE.search(path.read_text(encoding="utf-8"))]
    assert {path.parent for path in users} == {database}


def test_an_added_trial_has_its_number_and_a_state_can_be_set():
    study = optuna.create_study(directions=["maximize", "minimize"])
    added = add_trial(study, create_trial(values=[0.5, 2.0]))
    assert (added.number, added.values) == (0, [0.5, 2.0])
    asked = study.ask()
    set_trial_state(study, asked, TrialState.WAITING)
    assert stored_trial(study, asked).state == TrialState.WAITING
    assert storage_of(study).get_n_trials(study._study_id) == 2
