"""A live view of a run in optuna-dashboard, with bitsearch's plans, figures and page attached to its study."""

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.exceptions import StorageInternalError

from bitsearch.errors import InputError
from bitsearch.plan import BitPlan
from bitsearch.report.front_figure import front_figure
from bitsearch.report.host_check import check_host
from bitsearch.report.page import render
from bitsearch.report.study_figures import front_bits_figure, hypervolume_figure
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.one_standard_error import cheapest_within_one_standard_error
from bitsearch.runs.pareto import best_plan, pareto_front
from bitsearch.runs.plan_names import hover_name, name
from bitsearch.study.analysis import hypervolumes
from bitsearch.study.database.optuna_internals import storage_of
from bitsearch.study.study import load_study
from bitsearch.study.study_copy import StudyCopy
from bitsearch.text import cost, measured_text, title

POLL_SECONDS = 5.0
"""Time between two updates of a followed run."""
CARD_PIXELS = 440
"""Height of what optuna-dashboard shows of a figure: the rest is cut off."""


class LiveStudy:
    """The study of a run in optuna-dashboard, with the plans, figures and page that bitsearch attaches to it."""

    def __init__(self, folder: RunFolder, directory: Path) -> None:
        study = load_study(folder)
        if study is None:
            raise InputError(
                f"{folder.path} has no study yet; start the run first, or give the folder of one that runs"
            )
        self.folder = folder
        metric_names = ["validation accuracy", title(folder.settings.metric)]
        self._copy = StudyCopy(study, metric_names)
        self.study = self._copy.study
        """A copy of the run's: the run itself is only read."""
        self.directory = directory
        """Of the attached files; outside of the run's."""
        self.artifacts = FileSystemArtifactStore(directory)
        self.artifact_ids: dict[str, str] = {}
        """Artifact id of every attached file, by the file's name."""
        self._plan_count = 0

    def update(self) -> int:
        """If there are new plans, attach the front's plan files and a new page, and save new figures.

        Files are attached to the study, since Optuna does not allow changes to a finished trial.

        Returns:
            Number of plan files that were attached.
        """
        self._copy.follow()
        plans, settings = self.folder.plans(), self.folder.settings
        if len(plans) == self._plan_count:
            return 0
        trials = [plan.provenance.trial for plan in pareto_front(plans, settings.metric)]
        files = [self.folder.plan_file(trial) for trial in trials if trial is not None]
        new_files = [file for file in files if file.name not in self.artifact_ids]
        for file in new_files:
            self._attach(file, "application/json")
        # The page needs a plan within the budget.
        if best_plan(plans, settings.metric) is not None:
            page = self.directory / self.folder.report_file.name
            page.write_text(render(self.folder), encoding="utf-8")
            self._attach(page, "text/html")
        self._save_figures(plans)
        self._plan_count = len(plans)
        return len(new_files)

    def _attach(self, file: Path, mimetype: str) -> None:
        """Attach a file, and replace an attached file of the same name."""
        artifact_id = self.artifact_ids.get(file.name)
        if artifact_id is not None:
            with file.open("rb") as content:
                self.artifacts.write(artifact_id, content)
            return
        self.artifact_ids[file.name] = upload_artifact(
            artifact_store=self.artifacts, file_path=str(file), study_or_trial=self.study, mimetype=mimetype
        )

    def _save_figures(self, plans: list[BitPlan]) -> None:
        from optuna_dashboard import save_note, save_plotly_graph_object
        from optuna_dashboard.artifact import get_artifact_path

        settings = self.folder.settings
        front, chosen = pareto_front(plans, settings.metric), best_plan(plans, settings.metric)
        within = None if chosen is None else cheapest_within_one_standard_error(self.folder)
        names = [hover_name(plan, several_seeds=False) for plan in plans]
        figures = {
            "front": ("Front so far", front_figure(plans, chosen or front[-1], settings, within)[0]),
            "bits": ("Weight bits over the front, cheapest plan first", front_bits_figure(front)),
            "hypervolume": ("Hypervolume", hypervolume_figure(hypervolumes(plans, settings.metric), names)),
        }
        for key, (heading, figure) in figures.items():
            height = min(figure.layout.height or CARD_PIXELS, CARD_PIXELS)
            # The legend stands below, so that it does not lie on the title.
            figure.update_layout(
                title={"text": heading, "yref": "container", "y": 0.98, "x": 0.02}, height=height, margin_t=60
            )
            figure.update_layout(legend={"y": -0.2, "yanchor": "top"})
            save_plotly_graph_object(self.study, figure, graph_object_id=f"bitsearch-{key}")
        links = {name: get_artifact_path(self.study, artifact_id) for name, artifact_id in self.artifact_ids.items()}
        save_note(self.study, front_note(plans, self.folder, links))


def front_note(plans: list[BitPlan], folder: RunFolder, links: Mapping[str, str]) -> str:
    """The current front as a Markdown table; ``links`` has addresses by the name of an attached file."""
    metric, page = folder.settings.metric, folder.report_file.name

    def link(label: str, file: str) -> str:
        return f"[{label}]({links[file]})" if file in links else label

    lines = [f"The front after {len(plans)} plans; the report is {link(page, page)} in the run folder.", ""]
    lines += [f"| plan | validation | {title(metric)} | budget met |", "|---|---|---|---|"]
    for plan in pareto_front(plans, metric):
        file = folder.plan_file(plan.provenance.trial).name if plan.provenance.trial is not None else ""
        lines.append(
            f"| {link(name(plan), file)} | {measured_text(plan, 'validation')} | "
            f"{cost(metric, plan.costs[metric], 4)} | {'yes' if plan.met else 'no'} |"
        )
    return "\n".join(lines)


def serve(folder: RunFolder, host: str, port: int) -> None:
    """Serve the run at ``http://host:port`` until interrupted, and update it while it goes on.

    Requests that name another host are refused, as :func:`bitsearch.report.host_check.check_host` says.

    Raises:
        InputError: optuna-dashboard is not installed, the run has no study, or the address cannot be used.
    """
    try:
        from bottle import run as run_server
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise InputError("optuna-dashboard is not installed; run: pip install 'bitsearch[dashboard]'") from error
    with tempfile.TemporaryDirectory(prefix="bitsearch-dashboard-") as directory:
        live_study = LiveStudy(folder, Path(directory))
        live_study.update()
        end_event = threading.Event()
        follower = threading.Thread(target=_follow, args=(live_study, end_event), daemon=True)
        follower.start()
        try:
            application = wsgi(storage_of(live_study.study), artifact_store=live_study.artifacts)
            run_server(check_host(application, host), host=host, port=port)
        except OSError as error:
            raise InputError(
                f"cannot serve at {host}:{port}: {error.strerror or error}; give another --port"
            ) from error
        finally:
            end_event.set()
            follower.join()


def _follow(live_study: LiveStudy, end_event: threading.Event) -> None:
    while not end_event.wait(POLL_SECONDS):
        try:
            live_study.update()
        except (StorageInternalError, InputError):
            # The run is writing at this moment; the next update reads it.
            continue
