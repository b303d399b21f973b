"""The house: which package holds what, and who may import whom, in five sentences."""

import ast
import re
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
READING = re.compile(r"os\.environ|getenv")
UPSTAIRS = {"__init__", "__main__", "gateway.__init__", "viewer.__init__"}  # they lead to the rooms
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
    return [room for room in rooms if f"{name}.".startswith(f"{room}.")]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    rows = [(row, room) for row in ROWS for room in inside(module, row[1])]
    assert rows or module in UPSTAIRS, f"{module} has no room."
    for (sentence, rooms, beside), room in rows:
        allowed = [*rooms[: rooms.index(room) + 1], *beside, "__version__"]
        for name in imported(module):
            ours = name.removeprefix("cxg_proxy.") if name.startswith("cxg_proxy.") else ""
            assert not ours or inside(ours, allowed), f"{sentence} {module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_each_side_loads_only_what_its_environment_has(module: str) -> None:
    foreign = {name.partition(".")[0] for name in imported(module)} - {"cxg_proxy"}
    ground, cellxgene = inside(module, GROUND), inside(module, ["viewer.cellxgene"]) or module in READS_SERVER
    assert not foreign & FOREIGN.get(module.partition(".")[0], set()), f"{module} runs where these may be missing."
    assert not ground or foreign <= sys.stdlib_module_names, f"The ground needs the standard library only: {module}"
    assert cellxgene or "server" not in foreign, f"Only viewer/cellxgene imports cellxgene, not {module}."
    environment = module.startswith(READS_ENVIRONMENT) or not READING.search(MODULES[module].read_text())
    assert environment, f"Only doors, gateway/app and commands/prepare read the environment, not {module}."


def test_the_notebooks_functions_load_nothing_heavy_before_they_are_called() -> None:
    heavy = ", ".join(map(repr, sorted(HEAVY | {"tornado", "traitlets"})))
    program = f"import sys, cxg_proxy; cxg_proxy.annotate; assert not {{{heavy}}} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert {"annotate", "gene_sets", "labels"} <= set(dir(cxg_proxy))
