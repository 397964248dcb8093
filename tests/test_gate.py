"""The one gate: lint, format, types; imports that run one way; what the repository holds; README and pins agree."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import __main__ as steps

ROOT = Path(__file__).resolve().parents[1]
ENGINE, APP = sorted((ROOT / "ptq4dit").rglob("*.py")), sorted((ROOT / "app").rglob("*.py"))


def run(*command: str) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy", "ptq4dit", "app")],
    ids=["lint", "format", "types"],
)
def test_tools(command: tuple[str, ...]) -> None:
    run(*command)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Names of all modules that a file imports, at the top or inside functions; `TYPE_CHECKING` blocks apart."""
    tree = ast.parse(path.read_text())
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_any(path: Path, packages: set[str]) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in packages}


def test_nothing_that_is_for_tests_runs_in_the_product() -> None:
    for path in (*ENGINE, *APP):
        assert not imports_any(path, {"unittest", "pytest", "tests"}), path


def test_engine_knows_no_app_and_draws_nothing() -> None:
    for path in ENGINE:
        assert not imports_any(path, {"app", "gradio", "plotly", "matplotlib", "pandas"}), path


def test_paper_knows_tensors_and_the_layer_map_only() -> None:
    for path in (ROOT / "ptq4dit" / "paper").rglob("*.py"):
        inside = {name for name in imports(path) if name.startswith("ptq4dit.")}
        assert all(name.startswith(("ptq4dit.paper", "ptq4dit.model")) for name in inside), (path, inside)
        assert not imports_any(path, {"diffusers"}), path


def test_figures_know_arrays_only() -> None:
    for path in (ROOT / "app" / "figures").rglob("*.py"):
        assert not imports_any(path, {"torch", "diffusers", "gradio", "ptq4dit"}), path


def test_only_services_import_the_engine() -> None:
    for path in APP:
        if "services" not in path.parts:
            assert not imports_any(path, {"ptq4dit", "torch", "diffusers"}), path


def test_services_know_no_widgets() -> None:
    for path in (ROOT / "app" / "services").rglob("*.py"):
        assert not {n for n in imports(path) if n.startswith(("app.tabs", "app.components", "app.page"))}, path


@pytest.mark.parametrize("package", ["ptq4dit", "app"])
def test_imports_have_no_cycle(package: str) -> None:
    files = {module_name(path): path for path in (ROOT / package).rglob("*.py")}
    graph = {name: {i for i in imports(path) if i in files and i != name} for name, path in files.items()}
    graph.pop(package)  # the package's own file lists names, lazily
    done: set[str] = set()
    while graph.keys() - done:
        free = {name for name in graph.keys() - done if graph[name] - done - {package} <= _parents(name)}
        assert free, f"cycle among {sorted(graph.keys() - done)}"
        done |= free


def room(module: str) -> str:
    """The folder of the engine that a module stands in; a file at its top is a room of its own."""
    return module.split(".")[1]


def test_rooms_have_no_cycle() -> None:
    files = {module_name(path): path for path in ENGINE if path.parent != ROOT / "ptq4dit" or path.stem != "__init__"}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        reached = {room(i) for i in imports(path) if i in files}
        graph.setdefault(room(name), set()).update(reached - {room(name)})
    done: set[str] = set()
    while graph.keys() - done:
        free = {name for name in graph.keys() - done if graph[name] <= done}
        assert free, f"cycle among the rooms { ({name: graph[name] - done for name in graph.keys() - done}) }"
        done |= free


def _parents(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts))}


def test_importing_the_page_does_not_import_what_is_slow() -> None:
    code = "import sys, app.page; sys.exit(bool({'torch', 'diffusers', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def unencoded(path: Path) -> Iterator[int]:
    """Lines on which a text is read or written in whatever encoding the machine's locale has."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        called = ast.unparse(node.func)
        modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        bytes_only = ("Image.open", "os.open", "archive.open")
        binary = any(mode in ("rb", "wb", "ab", "r+b") for mode in modes) or called in bytes_only
        if called.rsplit(".", 1)[-1] in ("read_text", "write_text", "open") and not binary:
            yield node.lineno


def test_every_text_is_read_and_written_in_a_named_encoding() -> None:
    found = {path: lines for path in (*ENGINE, *APP, ROOT / "app.py") if (lines := list(unencoded(path)))}
    assert not found, found


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists()]


def test_repository_is_fit_for_a_space() -> None:
    sizes = {path: path.stat().st_size for path in tracked()}
    assert not [path for path, size in sizes.items() if size > 10_000_000]
    assert sum(size for path, size in sizes.items() if "assets" in path.parts) < 40_000_000
    visible = {path.relative_to(ROOT).parts[0] for path in sizes}
    assert {name for name in visible if not name.startswith(".")} == {
        *("app", "ptq4dit", "assets", "tests", "requirements.txt", "app.py", "README.md"),
        *("LICENSE", "pyproject.toml"),
    }


def test_no_absolute_path_of_a_machine_is_committed() -> None:
    machine = re.compile(r"(?<![\w.])/(?:root|home|work|tmp|Users)/\w")
    for path in tracked():
        if path.suffix in {".py", ".md", ".json", ".js", ".css", ".txt", ".html"}:
            assert not machine.search(path.read_text()), path


def test_readme_front_matter_matches_the_pins() -> None:
    front = (ROOT / "README.md").read_text().split("---")[1]
    settings = dict(line.split(": ", 1) for line in front.strip().splitlines() if ": " in line)
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    assert settings["sdk"] == "gradio"
    assert settings["sdk_version"] == pins["gradio"]
    assert settings["app_file"] == "app.py"
    assert {"title", "license", "short_description", "python_version"} <= settings.keys()
    assert len(settings["short_description"]) <= 60


@pytest.mark.parametrize(
    "readme", [path for path in tracked() if path.name == "README.md"], ids=lambda path: path.parent.name
)
def test_readmes_name_files_that_exist(readme: Path) -> None:
    text = readme.read_text()
    missing = [
        path for path in re.findall(r"`((?:ptq4dit|tests|assets|app)/[\w./-]*)`", text) if not (ROOT / path).exists()
    ]
    linked = [path for path in re.findall(r"\]\(([\w./-]+)\)", text) if not (readme.parent / path).exists()]
    assert not missing and not linked, (missing, linked)


def test_demo_pipeline_names_its_classes() -> None:
    index = json.loads((ROOT / "assets" / "demo" / "model_index.json").read_text())
    config = json.loads((ROOT / "assets" / "demo" / "transformer" / "config.json").read_text())
    assert len(index["id2label"]) == config["num_embeds_ada_norm"] >= 10


def test_every_test_is_in_a_step() -> None:
    """Those that are to run alone are looked for where they are, and what is quick is there."""
    found = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("test_*.py") if _runs_alone(p)}
    assert found == set(steps.ALONE)
    assert all((ROOT / path).exists() for path in steps.QUICK)
    assert not set(steps.QUICK) & found


def _runs_alone(path: Path) -> bool:
    return "pytest.mark." + "alone" in path.read_text()
