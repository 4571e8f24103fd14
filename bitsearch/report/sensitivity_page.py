"""Writing what was measured: page, table and numbers; and the run's own page anew."""

from pathlib import Path

from markupsafe import Markup

from bitsearch.allocation.sensitivity.records import Sensitivities
from bitsearch.errors import InputError, StorageError
from bitsearch.files import write_whole
from bitsearch.report.page import (
    PLAIN_SCRIPTS,
    data_island,
    environment,
    packed_plotly,
    page_part,
    policy,
    script,
    write_report,
)
from bitsearch.report.sensitivity import sensitivity_figures, sensitivity_panel
from bitsearch.runs.folder import RunFolder


def write_sensitivity(measured: Sensitivities, folder: Path | str) -> list[Path]:
    """Write ``sensitivity.html``, ``.csv`` and ``.json`` into a folder, and return their paths.

    In the folder of the run that was measured, the run's page gets the panel too, and is returned as well.

    Raises:
        InputError: the folder is that of a run of another space or network.
        StorageError: it cannot be written.

    >>> network = bitsearch.make_network("digits_cnn", {"width": 2}, input_shape=(1, 8, 8), classes=10)
    >>> data = bitsearch.load_data("digits", {}, split_seed=0)
    >>> measured = bitsearch.sensitivity(network, data, samples=8)
    >>> [path.name for path in bitsearch.write_sensitivity(measured, "mine-sensitivity")]
    ['sensitivity.html', 'sensitivity.csv', 'sensitivity.json']
    """
    run = RunFolder(Path(folder))
    is_run = run.settings_file.is_file()
    if is_run:
        space = run.settings.space
        if (measured.space, measured.network) != (space.name, space.network):
            raise InputError(
                f"{folder} is a run of network {space.network!r} in space {space.name!r}, and {measured.network!r} in "
                f"{measured.space!r} was measured; give another folder"
            )
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    page, table = run.path / "sensitivity.html", run.path / "sensitivity.csv"
    write_whole(page, render_sensitivity(measured))
    measured.save_csv(table)
    measured.save(run.sensitivity_file)
    pages = [write_report(run)] if is_run and run.report_file.is_file() else []
    return [page, table, run.sensitivity_file, *pages]


def render_sensitivity(measured: Sensitivities) -> str:
    """The page's HTML."""
    source = script("".join(map(page_part, PLAIN_SCRIPTS)))
    figures = sensitivity_figures(measured)
    return (
        environment()
        .get_template("sensitivity_page.html.jinja")
        .render(
            sensitivity=sensitivity_panel(measured),
            heights={key: int(figure.layout.height) for key, figure in figures.items()},
            islands={f"{key}-data": data_island(figure) for key, figure in figures.items()},
            style=Markup(page_part("page.css")),  # nosec B704
            plotly=packed_plotly(),
            script=source,
            policy=policy(source),
        )
    )
