"""README and docs, line by line: every block runs as written, in a folder that starts empty, and says what it should.

Trainings are cut short, and what is downloaded is a small file in the true format; lines that install, that need a
server or that start processes are named here, with the reason.
"""

import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch
from image_files import write_cifar10
from PIL import Image
from sklearn import datasets
from typer.main import get_command

import bitsearch
from bitsearch.cli import app
from bitsearch.cost import METRICS
from bitsearch.data.sets import digits_events
from bitsearch.plan import BitPlan
from bitsearch.post_training import run as post_training
from bitsearch.runs import train_plan as training
from bitsearch.space import SearchSpace
from bitsearch.study import run

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
pytestmark = pytest.mark.training
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    r"make (run|test)": "installs",
    r"python -m venv|.*pip install": "installs",
    r"(export )?BITSEARCH_STORAGE=|bitsearch (run|worker) .*--(storage|study)": "needs PostgreSQL: test_workers.py",
    r"bitsearch merge": "needs a second run: test_merge.py",
    r"bitsearch run .*--sweep": "a trial for each budget: test_sweep.py",
    r"bitsearch run .*--max-drop": "one epoch may keep no goal: test_goal_run.py",
    r"bitsearch compare": "trains for a minute: test_comparison_page.py",
    r"bitsearch (deploy|verify) .*(qonnx|hls4ml)": "needs qonnx: test_qonnx.py",
    r"bitsearch .*reports/akida|bitsearch verify .*--with akida": "Akida is proprietary: tests/deploy/formats/akida",
    r"torchrun|bitsearch worker --processes": "starts processes: test_torchrun.py",
}
"""Lines that are not run here, and why."""
SAYS = {
    r"run .*--json": r'^\{\n  "run": "reports/',
    r"allocate --from": r"^(plan-(16|3)x\.json|plans/plan-2x\.json\nplans/plan-4x\.json)$",
    r"allocate": r"The plan within each budget[\s\S]*plan   reports/(minutes|pinned_chip)",
    r"run ": r"plan   reports/[\s\S]*report reports/.*pareto\.html",
    r"targets list": "neuromorphic",
    r"targets show \w+ --toml": r'^name = "',
    r"targets show": r"energy\.accumulate .*23\.6",
    r"targets check": "a valid target",
    r"targets new": r"^\w+\.toml$",
    r"profile": "Conversion",
    r"export": r"^(plan|small)\.json$",
    r"diff": "validation",
    r"evaluate": r"^test accuracy [01]\.\d{4}\n\d+ samples; largest class: '[01]?\d', ",
    r"report .*--figures": r"pareto\.html\n[\s\S]*front\.pdf[\s\S]*table\.tex",
    r"dashboard": r"^$",
    r"sensitivity .*--json": r'^\{\n  "schema_version": 1',
    r"sensitivity": r"The worst of each layer[\s\S]*sensitivity\.html",
    r"spaces": "digits_cnn on digits",
    r"data list": "image_folder",
    r"networks list": "digits_cnn",
    r"data check cifar10": r"^cifar10, 3×32×32 each",
    r"data check .*--task regression": r"│ train +│ +256 │ +-?\d.* to \d",
    r"doctor": "Everything is there",
    r"train": r"^validation accuracy [01]\.\d+, test accuracy [01]\.\d+\nplan    plan(-16x)?\.trained\.json",
    r"deploy .*--format onnx": r"network\.onnx",
    r"deploy .*--format hub-folder": "choose a licence",
    r"deploy .*--format nir": r"as NIR( for SpikingJelly)?; test accuracy [01]\.\d{4}, with shared steps [01]\.\d{4}",
    r"deploy .*-o (\S*/)?net\.packed": r"net\.packed",
    r"deploy .*--format c": r"^constants \d+ bytes, static memory \d+ bytes; the plan: weight_memory \d+ bytes",
    r"verify": r"equal: \d+ spikes",
    r"-C \S+ (test|microcontroller)": r"^10 of 10 test vectors are equal$",
}
"""What a command prints, by how it begins; the first that fits."""


def blocks(page):
    """(language, text) of every block of a page that says its language."""
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def lines(text):
    """The commands of a block, without comments and with continued lines joined."""
    found = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in found if line]


def elsewhere(line):
    return any(re.match(pattern, line) for pattern in ELSEWHERE)


def expected(arguments):
    return next(words for start, words in SAYS.items() if re.match(start, arguments))


@pytest.fixture(scope="module")
def short():
    """A few digits, trainings of one epoch, few trials, and no server that waits."""
    images, labels = datasets.load_digits(return_X_y=True)
    search, train_plan, study = run.search, training.train_plan, bitsearch.Study
    allocate = bitsearch.allocate
    few_uniform = SearchSpace.load("digits").override(["search.uniform_trials=1"])

    def short_search(space, data=None, budget=None, *, trials=None, **options):
        if isinstance(space, torch.nn.Module):
            return search(space, data, budget, trials=1, epochs=1, **options)
        budget = budget or data
        space = space if isinstance(space, SearchSpace) else SearchSpace.load(space)
        epochs = {"epochs": 1, "full_precision_epochs": 1}
        changes = {
            "training": space.training.model_copy(update=epochs),
            "search": space.search.model_copy(update={"uniform_trials": 1}),
        }
        return search(space.model_copy(update=changes), budget, trials=4 if trials == 20 else 1, **options)

    def short_allocate(source, *arguments, **options):
        if isinstance(source, SearchSpace):
            source = source.with_training({"full_precision_epochs": 1})
        return allocate(source, *arguments, **options | {"samples": 64, "iterations": 2})

    def short_study(*arguments, **options):
        return study(*arguments, **options | {"trials": 1, "space": few_uniform})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_digits", lambda **options: (images[:400], labels[:400]))
        # The package first: it would take the name from where it is replaced already.
        for module in (bitsearch, run):
            patch.setattr(module, "search", short_search)
        patch.setattr(bitsearch, "Study", short_study)
        for module in (bitsearch, post_training):
            patch.setattr(module, "allocate", short_allocate)
        patch.setattr(training, "train_plan", lambda path, **options: train_plan(path, **options | {"epochs": 1}))
        patch.setattr("bottle.run", lambda application, host, port: None)
        digits_events._recordings.cache_clear()
        yield
    # Other tests have all digits.
    digits_events._recordings.cache_clear()


def run_make(folder, line):
    """Compiles what was deployed; test_c_folder.py says so where there is nothing to compile with."""
    tools = ["make", *(["arm-none-eabi-gcc", "qemu-system-arm"] if "microcontroller" in line else ["cc"])]
    if all(map(shutil.which, tools)):
        ended = subprocess.run(shlex.split(line), cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, (line, ended.stderr)
        assert re.search(expected(line.removeprefix("make ")), ended.stdout, re.MULTILINE), ended.stdout


def run_line(call, folder, line):
    """A command line as a shell runs it, checked by what it prints."""
    if line.startswith("make "):
        run_make(folder, line)
        return
    line, redirected, file = line.partition(" > ")
    arguments = shlex.split(line.replace("DIR", "cifar"))[1:]
    ended = call(*arguments, cwd=folder)
    text = ended.stdout.replace("\xa0", " ")
    if arguments[:2] == ["data", "check"]:
        # The stub has the true format, and too few images.
        assert re.fullmatch(r"(.*(samples, not|of class|MD5).*\n)*", ended.stderr), ended.stderr
    else:
        assert ended.returncode == 0, (line, ended.stderr)
    assert re.search(expected(" ".join(arguments)), text, re.MULTILINE), (line, text, ended.stderr)
    if redirected:
        (folder / file.strip()).write_text(ended.stdout, encoding="utf-8")


def run_page(call, folder, page):
    """Every block of a page, one after the other."""
    for language, text in blocks(page):
        if language == "sh":
            for line in lines(text):
                if not elsewhere(line):
                    assert shlex.split(line)[0] in ("bitsearch", ".venv/bin/bitsearch"), line
                    run_line(call, folder, line)
        elif language == "python" and text.startswith("# "):
            (folder / lines_name(text)).write_text(text, encoding="utf-8")
        elif language == "toml":
            name = re.search('name = "(.*)"', text)[1]
            (folder / f"{name}.toml").write_text(text, encoding="utf-8")


def lines_name(text):
    return text.partition("\n")[0].removeprefix("# ").strip()


def photos(folder):
    """Images of two classes, as a camera writes them."""
    for part, count in (("train", 20), ("test", 6)):
        for label, colour in (("cat", 40), ("dog", 200)):
            (folder / "photos" / part / label).mkdir(parents=True)
            for index in range(count):
                image = Image.new("RGB", (40, 30), (colour, index * 5, 100))
                image.save(folder / "photos" / part / label / f"{index}.jpg")


def write_csnn(folder, input_shape, classes):
    """Weights of the network of docs/your-own-network.md, and the module that defines it."""
    text = next(text for _, text in blocks("docs/your-own-network.md") if text.startswith("# mynets.py"))
    module = ModuleType("mynets")
    exec(text, vars(module))
    torch.save(module.CSNN(input_shape, classes).state_dict(), folder / "csnn.pth")
    return module


@pytest.fixture(scope="module")
def read_me(call, short, tmp_path_factory):
    """The folder in which README and running.md were worked through.

    It has your-own-network.md's files and a stub of CIFAR-10.
    """
    folder = tmp_path_factory.mktemp("readme")
    photos(folder)
    write_cifar10(folder / "cifar")
    for language, text in blocks("docs/your-own-network.md"):
        if language == "python":
            (folder / lines_name(text)).write_text(text, encoding="utf-8")
    run_page(call, folder, "README.md")
    run_page(call, folder, "docs/running.md")
    return folder


def test_the_readme(read_me):
    assert {"my_chip.toml", "plan.json", "costs.csv", "plan.trained.json", "net.packed", "network.onnx"} <= {
        path.name for path in read_me.iterdir()
    }


@pytest.mark.parametrize(
    ("page", "index", "names"),
    [
        ("README.md", 0, {"result"}),
        ("docs/python.md", 0, {"result"}),
        ("docs/python.md", 1, {"result"}),
        ("docs/python.md", 2, {"plan"}),
    ],
)
def test_python_of_readme_and_python_page(page, index, names, short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mynets", write_csnn(tmp_path, (1, 8, 8), 10))
    text = [text for language, text in blocks(page) if language == "python"][index]
    variables = {}
    exec(text.replace("range(8)", "range(1)").replace("8 * math", "1 * math"), variables)
    assert names <= set(variables)
    if index == 0:
        # What a user has, a trained module and two loaders, and what is made of it.
        assert len(lines(text)) <= 10
        assert "load_state_dict" in text
        assert text.count("DataLoader(") == 2
        assert (tmp_path / "network.packed").is_file()
    if "plan" in variables:
        assert variables["plan"].costs["bit_budget"] <= 16.0


def test_index(call, short, tmp_path):
    run_page(call, tmp_path, "docs/index.md")


@pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("index", [0, 1])
def test_your_own_training(index, short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mynets", write_csnn(tmp_path, (1, 8, 8), 10))
    text = [text for language, text in blocks("docs/own-training.md") if language == "python"][index]
    variables = {}
    exec(text.replace("EPOCHS, SEARCH_EPOCHS = 8, 2", "EPOCHS, SEARCH_EPOCHS = 2, 1"), variables)
    result = variables["result"]
    assert {plan.provenance.method for plan in result.folder.plans()} == {"adaptive", "uniform"}
    assert all(plan.met for plan in result.folder.plans() if plan.provenance.method == "adaptive")
    assert result.evaluate(variables["validation"]) == result.best.accuracy.validation


def test_your_own_network(call, short, tmp_path):
    photos(tmp_path)
    write_csnn(tmp_path, (3, 32, 32), 2)
    run_page(call, tmp_path, "docs/your-own-network.md")
    ended = call("run", "--space", "mine.toml", "--budget", "4x", "--out", "mine", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "varies nothing" not in ended.stderr


def test_spikes(call, short, tmp_path):
    run_page(call, tmp_path, "docs/spikes.md")


def test_layers(call, short, tmp_path):
    run_page(call, tmp_path, "docs/layers.md")
    (plan,) = [BitPlan.load(path) for path in tmp_path.glob("reports/*/plan.json")]
    assert plan.layers["classifier"].weight_bits == 8
    assert plan.layers["conv3"].spike_bits == plan.layers["conv4"].spike_bits
    assert plan.layers["conv4"].weight_bits in (2, 4)
    assert [plan.layers[name].granularity for name in ("conv2", "conv4")] == ["channel", "layer"]


def test_tasks(call, short, tmp_path):
    run_page(call, tmp_path, "docs/tasks.md")


def test_own_data(call, short, tmp_path, capsys):
    run_page(call, tmp_path, "docs/own-data.md")
    (text,) = (text for language, text in blocks("docs/own-data.md") if language == "python")
    exec(text, {})
    assert capsys.readouterr().out == "torch.Size([5, 16, 2, 6, 6])\n"


def test_allocate(call, short, tmp_path, monkeypatch):
    run_page(call, tmp_path, "docs/allocate.md")
    monkeypatch.chdir(tmp_path)
    (text,) = (text for language, text in blocks("docs/allocate.md") if language == "python")
    variables = {}
    with warnings.catch_warnings():
        # Its network is not trained.
        warnings.filterwarnings("ignore", "allocate: at ", UserWarning)
        exec(text, variables)
    assert list(variables["result"].sweep["budget"]) == ["4x", "8x"]


def test_hardware_targets(call, short, tmp_path):
    text = next(text for language, text in blocks("docs/hardware-targets.md") if language == "toml")
    (tmp_path / "my_chip.toml").write_text(text, encoding="utf-8")
    run_page(call, tmp_path, "docs/hardware-targets.md")


def test_deploying(call, read_me, monkeypatch):
    for language, text in blocks("docs/deploying.md"):
        if language == "sh":
            for line in lines(text):
                if not elsewhere(line):
                    run_line(call, read_me, line.replace("my-network", "another-network"))
        else:
            monkeypatch.chdir(read_me)
            frames, labels = bitsearch.load_data("digits_events", {"frames": 8}, split_seed=0).test[:20]
            variables = {"frames": frames.transpose(0, 1)}
            exec(text, variables)
            assert variables["prediction"].shape == (len(labels), 10)


def test_own_metrics(call, short, tmp_path, monkeypatch):
    before = dict(METRICS)
    run_page(call, tmp_path, "docs/own-metrics.md")
    plans = [BitPlan.load(path) for path in [*(tmp_path / "reports/pinned_chip").glob("plan-*.json")]]
    plans.append(BitPlan.load(tmp_path / "plan-3x.json"))
    assert len(plans) == 3
    for plan in plans:
        assert plan.layers["classifier"].weight_bits == 8
        assert plan.layers["conv3"].spike_bits == plan.layers["conv4"].spike_bits
        assert [outcome.metric for outcome in plan.budget if outcome.met] == ["multipliers"]
        assert plan.accuracy.validation is not None
    METRICS.clear()
    METRICS.update(before)


def test_sensitivity(call, short, tmp_path, monkeypatch):
    run_page(call, tmp_path, "docs/sensitivity.md")
    monkeypatch.chdir(tmp_path)
    text = next(text for language, text in blocks("docs/sensitivity.md") if language == "python")
    variables = {}
    exec(text, variables)
    assert len(variables["measured"].table()) == len(variables["measured"].widths)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_named(page):
    for language, text in blocks(page):
        assert language in ("sh", "python", "toml", "json"), language
        for line in lines(text) if language == "sh" else []:
            assert elsewhere(line) or line.startswith(("bitsearch ", ".venv/bin/bitsearch ", "make -C ")), line


def test_every_command_and_option_exists():
    commands = get_command(app).commands
    shown = [line for page in PAGES for language, text in blocks(page) if language == "sh" for line in lines(text)]
    found = [shlex.split(line.partition(" > ")[0]) for line in shown if line.startswith("bitsearch ")]
    assert len(found) >= 30
    for _, name, *arguments in found:
        command = commands[name]
        if hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("-")} <= options


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_explained(metric):
    assert f"| `{metric}` |" in (ROOT / "docs/running.md").read_text(encoding="utf-8")


def test_the_readme_is_read_in_five_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_every_file_linked_is_there(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        # Pages that the site generates: its build is strict, tests/report/test_site.py.
        assert ((ROOT / page).parent / target).exists() or re.match(r"reference/|glossary\.md$", target), target
