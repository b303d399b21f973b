"""The Galaxy of these tests is a real one, and shows what a tool will meet there."""

from __future__ import annotations

from pathlib import Path

import pytest
from galaxy_client import User
from galaxy_files import ANYBODY, OURS, OURS_DOMAIN, PLAIN, image_of_tool
from galaxy_server import Galaxy
from podman import Podman, place_of_run

pytestmark = pytest.mark.timeout(600, func_only=True)  # what is installed first has limits of its own
CHOSEN = {"title": "Blood"}


def running(user: User) -> set[str]:
    """The containers of this Galaxy."""
    return {str(each["Id"]) for each in user.galaxy.engine.containers()}


def test_galaxy_answers_and_offers_the_tools(galaxy: Galaxy, ana: User) -> None:
    assert ana.get("version")["version_major"] == "26.1"
    for tool in (OURS, OURS_DOMAIN, PLAIN):
        assert ana.get(f"tools/{tool}")["model_class"] == "InteractiveTool"


def test_a_run_of_podman_has_a_short_place_of_its_own_however_long_the_caches_path_is() -> None:
    long = Path("/home", *("somebody-with-a-long-name" for _ in range(10)))
    assert len(str(place_of_run(long) / "run")) <= 50
    assert place_of_run(long) != place_of_run(long / "other")


def test_a_container_runs_as_anybody_and_can_write_nowhere(engine: Podman) -> None:
    run = ("run", "--rm", f"--user={ANYBODY}", "--read-only", "--network=none", image_of_tool(), "sh", "-c")
    assert engine(*run, "id -u") == str(ANYBODY)
    assert engine(*run, "touch /etc/here /usr/here 2>&1 || true").count("Read-only file system") == 2


def test_the_image_holds_no_pip_and_no_compiler(engine: Podman) -> None:
    run = ("run", "--rm", "--network=none", image_of_tool(), "sh", "-c")
    programs = "pip pip3 easy_install cc gcc g++ c++ clang tcc ld as make"
    assert engine(*run, f"for each in {programs}; do command -v $each; done; true") == ""
    for python in ("/usr/local/bin/python", "/opt/cxg-proxy/bin/python"):
        assert engine(*run, f"{python} -c 'import pip' 2>&1 || true").endswith("No module named 'pip'")
    named = r"\( -path '*/bin/pip*' -o -path '*-packages/pip' -o -name 'pip-*.whl' \)"
    assert engine(*run, f"find / -xdev {named} 2>/dev/null || true") == ""


def test_the_image_holds_the_byte_code_of_what_it_runs(engine: Podman) -> None:
    program = (
        "import importlib.util as found, pathlib\n"
        "for name in ('cxg_proxy', 'server', 'anndata', 'tornado', 'flask', 'scipy'):\n"
        "    folder = pathlib.Path(found.find_spec(name).origin).parent\n"
        "    files = list(folder.rglob('*.py'))\n"
        "    print(name, all(pathlib.Path(found.cache_from_source(str(each))).exists() for each in files), bool(files))"
    )
    said = engine("run", "--rm", "--network=none", image_of_tool(), "python", "-c", program)
    assert [line.split()[1:] for line in said.splitlines()] == [["True", "True"]] * 6, said


def test_an_upload_arrives(ana: User, pbmc: str) -> None:
    found = ana.dataset(pbmc)
    assert (found["extension"], found["name"]) == ("h5ad", "pbmc.h5ad")
    assert ana.read(pbmc).startswith(b"\x89HDF")


@pytest.mark.parametrize("tool", [OURS, OURS_DOMAIN])
def test_a_tool_is_reached_by_its_user_alone_and_ends_at_stop(tool: str, ana: User, ben: User, pbmc: str) -> None:
    before = running(ana)
    job = ana.run(tool, infile={"src": "hda", "id": pbmc}, **CHOSEN)
    place = ana.entry_point(job)
    assert place.in_path == (tool == OURS)
    ana.galaxy.wait(lambda: ana.answers(place), "the tool's first page", 30)
    assert ben.ask("GET", "entry_points", params={"job_id": job}).status_code == 403
    assert ben.ask("GET", f"entry_points/{place.id}/access").status_code == 403
    assert ben.get("entry_points", running="true") == []
    assert len(running(ana) - before) == 1
    ana.stop(place)
    assert ana.wait_job(job)["state"] == "ok"
    ana.galaxy.wait(lambda: running(ana) <= before, "the container's end", 20)
