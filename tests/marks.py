"""Which tests take long and why, where their files do not say so; and which files are started first."""

import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent

MARKS = {
    "training": (
        "allocation/methods/test_adaptive.py",
        "train/test_state.py",
        "allocation/signals/test_fisher_loss.py::test_the_prediction_ranks_layers_as_the_training_loss_really_changes",
        "train/test_fabric.py",
        "train/test_fine_tune.py",
        "allocation/methods/test_methods.py",
        "allocation/test_learnable.py::test_the_loop_of_ones_own_meets_its_budget_after_projection",
        "allocation/methods/test_ramp.py",
        "layers/neurons/test_placed_own_neuron.py::test_a_trained_network_is_itself_after_conversion",
        "allocation/methods/test_refine.py",
        "allocation/methods/test_sensitivity.py",
        "allocation/methods/test_unread_layer.py",
        "train/test_transfers.py",
        "data/sets/test_digits_events.py::test_all_frames_are_worth_more_than_one_is_on_average",
        "models/test_networks.py::test_a_few_steps_fit_random_data",
        "study/test_compare.py",
        "study/test_run.py",
        "study/test_repeated.py",
        "runs/test_train_plan.py",
        "study/test_trial_loop.py::test_an_exception_in_the_users_network_ends_its_trial_alone",
        "study/test_trial_loop.py::test_two_hundred_trials_do_not_grow_the_process",
    ),
    "processes": (
        "train/test_fabric.py",
        "cli/test_targets.py::test_help_loads_no_torch",
        "report/test_dashboard.py::test_the_command_serves_the_study_on_this_machine_only",
    ),
    "exhaustive": (
        "allocation/solvers/test_integer_program.py",
        "train/test_network_precision.py::test_a_network_in_a_compiler_of_the_users_own_learns_the_same",
        "train/test_network_precision.py::test_compiled_kernels_come_close_to_the_plain_ones",
        "allocation/solvers/test_projection.py",
        "deploy/integer/test_fuzz.py",
        "deploy/formats/test_onnx.py",
        "quant/test_compilation.py::test_compiled_kernels_give_what_the_plain_ones_give_for_any_shape",
        "quant/test_precision.py::test_a_users_own_compiler_may_trace_the_quantizers",
        "quant/test_precision.py::test_compiled_kernels_give_what_the_plain_ones_give",
        "quant/test_recomputation.py::test_with_compiled_kernels_too",
        "report/test_paper.py::test_every_figure_in_every_format_and_the_same_each_time",
        "study/test_sampler.py",
        "study/database/test_study_cache.py::test_every_worker_sees_all_trials_in_order_as_they_are",
        "study/test_trial_loop.py::test_a_locked_study_is_waited_for_and_then_told",
        "study/test_trial_loop.py::test_two_hundred_trials_do_not_grow_the_process",
    ),
}
"""By mark, files and tests of them."""

TRAINED = {"finished_run", "run_on_a_target"}
"""Fixtures that train."""

FIRST = (
    "train/test_network_precision.py",
    "quant/test_compilation.py",
    "quant/test_precision.py",
    "quant/test_recomputation.py",
    "end_to_end/test_torchrun.py",
    "end_to_end/test_kills.py",
    "end_to_end/test_workers.py",
    "report/test_site.py",
    "report/test_report_browser.py",
    "study/test_trial_loop.py",
    "study/test_run.py",
    "end_to_end/test_docs.py",
    "end_to_end/test_spaces_as_shipped.py",
    "end_to_end/test_command.py",
    "allocation/methods/test_methods.py",
    "train/test_fabric.py",
    "end_to_end/test_comparison_page.py",
    "end_to_end/test_events.py",
    "end_to_end/test_disk.py",
    "models/test_networks.py",
    "allocation/methods/test_sensitivity.py",
    "study/test_sampler.py",
    "deploy/formats/test_onnx.py",
    "report/test_report_page.py",
    "allocation/solvers/test_projection.py",
    "report/test_dashboard.py",
    "report/test_paper.py",
)
"""The longest files, longest first: one that is started last keeps a worker busy while others have nothing to do."""

COMPILED = {
    "train/test_network_precision.py",
    "quant/test_compilation.py",
    "quant/test_precision.py",
    "quant/test_recomputation.py",
}
"""Files that compile; one process runs them all, since torch first tries out the compiler's flags, once a process."""


def marks_of(path: Path, test: str, fixtures: list[str]) -> set[str]:
    """Of a test in this file."""
    file = path.relative_to(TESTS).as_posix()
    found = {mark for mark, named in MARKS.items() if file in named or f"{file}::{test}" in named}
    if TRAINED.intersection(fixtures):
        found.add("training")
    if compares_floats(path):
        found.add("floats")
    return found


@cache
def compares_floats(path: Path) -> bool:
    """Whether a file of tests knows the tolerances of sums in another order."""
    return bool(re.search(r"^\s*(from|import) tolerances\b", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


def place(path: Path) -> int:
    """Of a file among all: files with the same place stay in their order."""
    file = path.relative_to(TESTS).as_posix()
    return FIRST.index(file) if file in FIRST else len(FIRST)


def unit(file: str) -> str:
    """What runs in one process: the tests of a file, or of several."""
    return "compiled" if file.removeprefix("tests/") in COMPILED else file
