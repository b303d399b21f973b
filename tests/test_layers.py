"""The shape of the package: imports point one way, files and functions stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cxg_proxy

PACKAGE = Path(cxg_proxy.__file__).parent
# From the bottom to the top; a module may import only what stands before it.
ORDER = (
    "__init__ early errors words machine scratch whole lock validators thinning tables changes merging history about "
    "files annotations fitting commands progress disk preview library roots visits process worker limits forked parent "
    "preload forward safety outbox labelled timeline pages transfer copies remote summaries multipart children uploads "
    "recognition instance instances catalogue handlers alone unchanged addresses annotating uploading added view "
    "whereabouts routes listening options parts app galaxy jupyter preparing prepare __main__"
).split()
NOTEBOOK = {"notebook", "made", "shown"}  # run in the user's notebook only, with whatever is installed there
SHARED_WITH_THE_VIEWER = {"__init__", "errors", "progress", "annotations", "tables", "merging", "fitting", "validators"}
SHARED_WITH_THE_VIEWER |= {"whole", "lock"}  # of all who want a store of a dataset, one builds it
BELOW_ANNOTATIONS = {"thinning", "changes", "history", "about", "files"}
GATEWAY = sorted(module for module in PACKAGE.glob("*.py") if module.stem not in NOTEBOOK)
ERRORS = sorted((PACKAGE / "errors").glob("*.py"))
VIEWER = sorted((PACKAGE / "viewer").glob("*.py"))
ALL = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))
HEAVY = {"numba", "numpy", "h5py", "pandas", "anndata", "scipy", "server", "flask", "waitress", "yaml"}


def imported(module: Path) -> set[str]:
    """The dotted names a module imports; ours begin with a dot."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            names |= {start} if node.module else {start + name.name for name in node.names}
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
    return names


def ours(module: Path) -> set[str]:
    """The modules of the gateway that a module of the gateway imports."""
    names = {name[1:].partition(".")[0] for name in imported(module) if name.startswith(".")}
    return {name for name in names if (PACKAGE / f"{name}.py").exists() or name in {"errors", "viewer"}}


@pytest.mark.parametrize("module", GATEWAY, ids=lambda module: module.stem)
def test_imports_point_down(module: Path) -> None:
    for target in ours(module) - (NOTEBOOK if module.stem == "__init__" else set()):  # for type checkers alone
        assert ORDER.index(target) < ORDER.index(module.stem), f"{module.stem} imports {target}"


@pytest.mark.parametrize("module", ERRORS, ids=lambda module: module.stem)
def test_the_words_of_what_goes_wrong_need_nothing_of_ours(module: Path) -> None:
    assert not any(name.startswith(("..", "cxg_proxy")) for name in imported(module))


@pytest.mark.parametrize("module", GATEWAY, ids=lambda module: module.stem)
def test_the_gateway_imports_neither_the_viewer_nor_anything_heavy(module: Path) -> None:
    names = imported(module)
    assert not {name.lstrip(".").partition(".")[0] for name in names} & (HEAVY | {"viewer"})
    assert not any("cxg_proxy.viewer" in name for name in names)


def test_the_notebooks_functions_load_nothing_heavy_before_they_are_called() -> None:
    heavy = ", ".join(map(repr, sorted(HEAVY | {"tornado", "traitlets"})))
    program = f"import sys, cxg_proxy; cxg_proxy.annotate; assert not {{{heavy}}} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert {"annotate", "gene_sets", "labels"} <= set(dir(cxg_proxy))


@pytest.mark.parametrize("module", VIEWER, ids=lambda module: module.stem)
def test_the_viewer_shares_only_words_and_labels_with_the_gateway(module: Path) -> None:
    names = imported(module)
    up = {name[2:].partition(".")[0] for name in names if name.startswith("..")}
    up |= {name.split(".")[1] for name in names if name.startswith("cxg_proxy.")}
    assert up - {""} <= SHARED_WITH_THE_VIEWER | {"__version__"}
    assert not {name.partition(".")[0] for name in names} & {"tornado", "traitlets", "jupyter_core"}


@pytest.mark.parametrize("name", sorted(SHARED_WITH_THE_VIEWER | BELOW_ANNOTATIONS))
def test_what_both_sides_share_needs_the_standard_library_only(name: str) -> None:
    for module in ERRORS if name == "errors" else [PACKAGE / f"{name}.py"]:
        foreign = {each.partition(".")[0] for each in imported(module) if not each.startswith(".")}
        assert foreign <= sys.stdlib_module_names


@pytest.mark.parametrize("module", GATEWAY, ids=lambda module: module.stem)
def test_only_the_door_and_the_application_read_the_environment(module: Path) -> None:
    if module.stem not in {"app", "galaxy", "jupyter", "prepare"}:
        assert "os.environ" not in module.read_text()
        assert "getenv" not in module.read_text()


@pytest.mark.parametrize("module", ALL, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 45, node.name


@pytest.mark.parametrize("module", TESTS, ids=lambda module: module.stem)
def test_files_of_tests_stay_small_too(module: Path) -> None:
    assert module.read_text().count("\n") <= (150 if module.stem == "conftest" else 300)
