"""The tutorials of the site: the notebooks of docs/tutorials, which every build of the site runs.

mkdocs.yml names this file as a hook. A notebook lies in the repository without outputs; it is run in an empty folder
and written as one page, with what its cells print and draw, so that no page shows what is not so.
"""

import os
import re
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

FOLDER = Path(__file__).parent / "tutorials"
NOTEBOOK = re.compile(r"(\]\((?:\.\./)*tutorials/[\w-]+)\.ipynb\)")
SECONDS = 300
"""That one cell may take."""
QUIET = "ignore:IProgress not found"
"""What tqdm says where a page has no widgets, which no tutorial needs."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of every notebook, and the pictures on it; the notebook itself is there to be downloaded."""
    notebooks = sorted(FOLDER.glob("*.ipynb"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for notebook, run in zip(notebooks, pool.map(executed, notebooks), strict=True):
            for name, content in page(run, notebook.name):
                files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What links to a notebook leads to its page."""
    return NOTEBOOK.sub(r"\1.md)", markdown)


def executed(path: Path) -> Any:
    """A notebook with the outputs of its cells, run from the first to the last in a folder of its own.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails; the message has its code and its traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as sockets:
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(transport="ipc", ip=f"{sockets}/kernel"),
            timeout=SECONDS,
            startup_timeout=SECONDS,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        # A kernel manager that was given is left running otherwise.
        client.execute(cleanup_kc=True, env=os.environ | {"PYTHONWARNINGS": QUIET})
    return notebook


def page(notebook: Any, name: str) -> Iterable[tuple[str, str | bytes]]:
    """A run notebook as Markdown, and its pictures: pairs of a file's name and content."""
    stem = name.removesuffix(".ipynb")
    text, resources = MarkdownExporter().from_notebook_node(notebook, {"unique_key": stem})
    yield from resources["outputs"].items()
    text = text.replace('<table border="1" class="dataframe">', "<table>")  # looks as the page's other tables do
    yield f"{stem}.md", f"{text}\n\n[This page as a notebook]({name}){{ .md-button download }}\n"
