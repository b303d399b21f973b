"""The house: which package holds what, and who may import whom, in five sentences."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cxg_proxy

PACKAGE = Path(cxg_proxy.__file__).parent
GROUND = "errors status_codes steps etags formatting files annotations worker_options".split()
GATEWAY = "library workers labels pages options sockets catalogue services web standalone app".split()
VIEWER = "child options progress numba_cache source store dataset compute cellxgene jobs".split()
VIEWER += "serve fork_server precompile __main__".split()
HEAVY = {"numba", "numpy", "h5py", "pandas", "anndata", "scipy", "server", "flask", "waitress", "yaml"}
FOREIGN = {"gateway": HEAVY, "doors": HEAVY, "commands": HEAVY, "viewer": {"tornado", "traitlets", "jupyter_core"}}
# A table of colours and a list of names: they are read, and nothing of cellxgene's is called.
READS_SERVER = {"viewer.jobs.thumbnail", "viewer.source.metadata"}
READS_ENVIRONMENT = ("doors.", "gateway.app", "commands.prepare", "viewer.")

# What a row's rooms may import: the rooms that stand before them in the row, and whatever the third column names.
ROWS = [
    ("The ground knows nobody.", GROUND, []),
    ("In the gateway imports point from app down to library.", [f"gateway.{room}" for room in GATEWAY], GROUND),
    ("In the viewer imports point from __main__ down to source.", [f"viewer.{room}" for room in VIEWER], GROUND),
    ("A door imports the gateway and the ground.", ["doors"], [*GROUND, "gateway"]),
    ("A command imports the gateway and the ground.", ["commands"], [*GROUND, "gateway"]),
    ("The notebook imports annotations alone.", ["notebook"], ["annotations"]),
]
MODULES = {".".join(file.relative_to(PACKAGE).with_suffix("").parts): file for file in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str) -> set[str]:
    """The dotted names that a module imports; ours begin with cxg_proxy."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ["cxg_proxy", *module.split(".")][: -node.level] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{start}.{each.name}" for each in node.names}
    return names


def inside(name: str, rooms: list[str]) -> list[str]:
    """The rooms of a list in which a name of ours lies."""
    return [room for room in rooms if f"{name}.".startswith(f"{room}.")]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    for sentence, rooms, beside in ROWS:
        for room in inside(module, rooms):
            allowed = [*rooms[: rooms.index(room) + 1], *beside, "__version__"]
            for name in imported(module):
                ours = name.removeprefix("cxg_proxy.") if name.startswith("cxg_proxy.") else ""
                assert not ours or inside(ours, allowed), f"{sentence} {module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_each_side_loads_only_what_its_environment_has(module: str) -> None:
    foreign = {name.partition(".")[0] for name in imported(module)} - {"cxg_proxy"}
    assert not foreign & FOREIGN.get(module.partition(".")[0], set())
    assert not inside(module, GROUND) or foreign <= sys.stdlib_module_names, (
        "The ground needs the standard library only."
    )
    only = "Only viewer/cellxgene imports cellxgene."
    assert "server" not in foreign or module in READS_SERVER or inside(module, ["viewer.cellxgene"]), only


@pytest.mark.parametrize("module", MODULES)
def test_only_doors_the_application_and_one_command_read_the_environment(module: str) -> None:
    text = MODULES[module].read_text()
    assert module.startswith(READS_ENVIRONMENT) or not ("os.environ" in text or "getenv" in text)


def test_the_notebooks_functions_load_nothing_heavy_before_they_are_called() -> None:
    heavy = ", ".join(map(repr, sorted(HEAVY | {"tornado", "traitlets"})))
    program = f"import sys, cxg_proxy; cxg_proxy.annotate; assert not {{{heavy}}} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert {"annotate", "gene_sets", "labels"} <= set(dir(cxg_proxy))
