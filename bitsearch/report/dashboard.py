"""A live view of a run in optuna-dashboard, with the plans and figures of bitsearch attached to its study."""

import threading

from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.exceptions import StorageInternalError

from bitsearch.errors import InputError
from bitsearch.plan import BitPlan
from bitsearch.report.format import accuracy, cost, title
from bitsearch.report.front_figure import front_figure
from bitsearch.report.study_figures import hypervolume_figure
from bitsearch.report.verdict import hover_name, name
from bitsearch.search.analysis import hypervolumes
from bitsearch.search.front import best_plan, pareto_front
from bitsearch.search.run_folder import RunFolder
from bitsearch.search.study import load_study

SECONDS = 5.0
"""Between two looks for trials that have finished."""


class LiveStudy:
    """Keeps what optuna-dashboard shows of a run up to date."""

    def __init__(self, folder: RunFolder) -> None:
        found = load_study(folder.storage_url) if (folder.path / "study.db").is_file() else None
        if found is None:
            raise InputError(
                f"{folder.path} has no study yet; start the run first, or give the folder of one that runs"
            )
        self.folder, self.study = folder, found
        path = folder.path / "artifacts"
        path.mkdir(exist_ok=True)
        self.artifacts = FileSystemArtifactStore(path)
        self._shown = 0

    def update(self) -> int:
        """Attach the plan files of the front that are not attached yet; with new plans, draw the figures anew.

        They hang on the study, since Optuna lets nobody change a trial that has finished.

        Returns:
            How many were attached.
        """
        plans = self.folder.plans()
        if len(plans) == self._shown:
            return 0
        attached = {meta.filename for meta in get_all_artifact_meta(self.study)}
        trials = [plan.provenance.trial for plan in pareto_front(plans, self.folder.settings.metric)]
        files = [self.folder.plan_file(trial) for trial in trials if trial is not None]
        new = [file for file in files if file.name not in attached]
        for file in new:
            upload_artifact(
                artifact_store=self.artifacts,
                file_path=str(file),
                study_or_trial=self.study,
                mimetype="application/json",
            )
        self._draw(plans)
        self._shown = len(plans)
        return len(new)

    def _draw(self, plans: list[BitPlan]) -> None:
        from optuna_dashboard import save_note, save_plotly_graph_object

        settings = self.folder.settings
        chosen = best_plan(plans, settings.metric) or pareto_front(plans, settings.metric)[-1]
        names = [hover_name(plan, several_seeds=False) for plan in plans]
        figures = {
            "bitsearch-front": front_figure(plans, chosen, settings)[0],
            "bitsearch-hypervolume": hypervolume_figure(hypervolumes(plans, settings.metric), names),
        }
        for key, figure in figures.items():
            figure.update_layout(title="Front so far" if key.endswith("front") else "Hypervolume", margin_t=70)
            save_plotly_graph_object(self.study, figure, graph_object_id=key)
        save_note(self.study, front_note(plans, self.folder))


def front_note(plans: list[BitPlan], folder: RunFolder) -> str:
    """The front so far as a Markdown table."""
    metric = folder.settings.metric
    lines = [f"The front after {len(plans)} plans; the report is `{folder.report_file.name}` in the run folder.", ""]
    lines += [f"| plan | validation | {title(metric)} | budget met |", "|---|---|---|---|"]
    lines += [
        f"| {name(plan)} | {accuracy(plan.accuracy.validation)} | {cost(metric, plan.costs[metric], 4)} | "
        f"{'yes' if plan.met else 'no'} |"
        for plan in pareto_front(plans, metric)
    ]
    return "\n".join(lines)


def serve(folder: RunFolder, host: str, port: int) -> None:
    """Show the run at ``http://host:port`` until interrupted, following it as it goes on.

    Raises:
        InputError: optuna-dashboard is not installed, the run has no study, or the address cannot be used.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        raise InputError("optuna-dashboard is not installed; run: pip install 'bitsearch[dashboard]'") from error
    live = LiveStudy(folder)
    live.update()
    ended = threading.Event()
    follower = threading.Thread(target=_follow, args=(live, ended), daemon=True)
    follower.start()
    try:
        run_server(live.study._storage, host=host, port=port, artifact_store=live.artifacts)
    except OSError as error:
        raise InputError(f"cannot serve at {host}:{port}: {error.strerror or error}; give another --port") from error
    finally:
        ended.set()
        follower.join()


def _follow(live: LiveStudy, ended: threading.Event) -> None:
    while not ended.wait(SECONDS):
        try:
            live.update()
        except (StorageInternalError, InputError):
            # The run is writing at this moment; the next look finds what this one missed.
            continue
