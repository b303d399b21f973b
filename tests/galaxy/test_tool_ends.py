"""How a session ends, and what of it comes back: idleness, a time limit, a killed container, a file nobody can show."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from anndata import read_h5ad
from browser_fixtures import Person, shot
from comparison import ours_and_plain
from galaxy_client import EntryPoint, User
from galaxy_files import CHECKOUT, LIMIT_SECONDS, OURS, OURS_LIMITED, PLAIN, TOOLS
from people import go, save_to_history
from progress import step

pytestmark = pytest.mark.timeout(600, func_only=True)  # what is installed first has limits of its own
DATA = TOOLS / "test-data"
LABELS = (DATA / "cell-labels.csv").read_bytes()
GENE_SETS = (DATA / "gene-sets.csv").read_bytes()
STARTS = {"labels": "cell-labels", "gene_sets": "gene-sets"}
BROKEN = {
    "not_anndata.h5ad": "this is not an AnnData file (.h5ad)",
    "no_embedding.h5ad": "this file has no 2-D embedding, so there is nothing to draw",
}


def dataset(number: str) -> dict[str, str]:
    return {"src": "hda", "id": number}


@pytest.fixture(scope="module")
def uploaded(cay: User) -> dict[str, dict[str, str]]:
    """What cay has in her history, by name."""
    names = ("pbmc.h5ad", "cell-labels.csv", "gene-sets.csv", *BROKEN)
    return dict(zip(names, map(dataset, cay.upload(*(DATA / name for name in names))), strict=True))


@pytest.fixture(scope="module")
def inputs(uploaded: dict[str, dict[str, str]]) -> dict[str, Any]:
    """A dataset, and labels and gene sets to start from, so that there is something to return."""
    starts = {f"start|{name}": uploaded[f"{file}.csv"] for name, file in STARTS.items()}
    return {"infile": uploaded["pbmc.h5ad"], **starts}


@pytest.fixture(scope="module")
def left_alone(cay: User, inputs: dict[str, Any], uploaded: dict[str, dict[str, str]]) -> dict[str, str]:
    """Sessions that nobody uses: one of ours, one that shows nothing, one of plain cellxgene. Other tests run then."""
    idle = {"use|idle_minutes": 1}
    return {
        "ours": cay.run(OURS, **inputs, **idle, results=["labels", "gene_sets", "h5ad"]),
        "broken": cay.run(OURS, infile=uploaded["no_embedding.h5ad"], **idle),
        "plain": cay.run(PLAIN, infile=uploaded["pbmc.h5ad"]),
    }


@pytest.fixture(scope="module")
def planemo() -> Path:
    """As the other tests of the tool have it."""
    made = subprocess.run([CHECKOUT / "requirements" / "galaxy"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(made.stdout.strip()).parent / "planemo"


def started(user: User, tool: str, **inputs: Any) -> tuple[str, EntryPoint]:
    """A session whose first page answers."""
    job = user.run(tool, **inputs)
    place = user.entry_point(job)
    user.galaxy.wait(lambda: user.answers(place), "the tool's first page", 60)
    return job, place


def rows(table: bytes) -> list[bytes]:
    """What a table holds below its head."""
    return table.splitlines()[1:]


def test_after_the_time_limit_what_was_pushed_is_there(
    left_alone: dict[str, str], cay: User, inputs: dict[str, Any], profile: Person
) -> None:
    job, place = started(cay, OURS_LIMITED, **inputs)
    before = {each["id"] for each in cay.contents()}
    page = profile()
    go(page, place.target)
    save_to_history(page)
    with step("waiting for the time limit of the job"):
        ended = cay.wait_job(job, LIMIT_SECONDS + 60)
    assert ended["state"] == "error"
    assert {each["state"] for each in cay.outputs(job).values()} == {"error"}
    new = [each for each in cay.contents() if each["id"] not in before]
    pushed = [cay.read(each["id"]) for each in new if (each["state"], each["extension"]) == ("ok", "csv")]
    for saved in (LABELS, GENE_SETS):
        assert any(rows(table) == rows(saved) for table in pushed)


def test_a_session_that_nobody_uses_ends_well_with_its_results(
    left_alone: dict[str, str], cay: User, tmp_path: Path
) -> None:
    with step("waiting for the end of an idle session"):
        ended = cay.wait_job(left_alone["ours"], 180)
    assert (ended["state"], ended["exit_code"]) == ("ok", 0)
    results = cay.outputs(left_alone["ours"])
    assert rows(cay.read(results["labels"]["id"])) == rows(LABELS)
    assert rows(cay.read(results["gene_sets"]["id"])) == rows(GENE_SETS)
    assert results["annotated"]["extension"] == "h5ad"
    (tmp_path / "annotated.h5ad").write_bytes(cay.read(results["annotated"]["id"]))
    category = LABELS.splitlines()[0].decode().split(",")[1]
    held = read_h5ad(tmp_path / "annotated.h5ad")
    assert category in held.obs
    assert "B cell markers" in set(held.uns["gene_sets"]["gene_set_name"])
    plain = cay.job(left_alone["plain"])["state"]  # as old, and nobody has used it either
    seen = {OURS: "labels and gene sets in the history", PLAIN: "none: it runs on" if plain == "running" else plain}
    ours_and_plain("results after idle minutes", seen.__getitem__)
    cay.stop(cay.entry_point(left_alone["plain"]))


def test_a_session_that_can_show_nothing_fails_by_itself_with_the_reason(left_alone: dict[str, str], cay: User) -> None:
    with step("waiting for the end of a session that shows nothing"):
        ended = cay.wait_job(left_alone["broken"], 180)
    assert (ended["state"], ended["exit_code"]) == ("error", 1)
    assert BROKEN["no_embedding.h5ad"] in ended["stderr"].splitlines()[-1]


def test_a_killed_container_is_an_error_and_leaves_no_link(cay: User, inputs: dict[str, Any]) -> None:
    engine = cay.galaxy.engine
    before = {each["Id"] for each in engine.containers()}
    job, place = started(cay, OURS, **inputs)
    (mine,) = [each["Id"] for each in engine.containers() if each["Id"] not in before]
    engine.kill(mine)
    ended = cay.wait_job(job)
    assert (ended["state"], ended["exit_code"]) == ("error", 137)
    assert place.id not in {each["id"] for each in cay.get("entry_points", running="true")}
    assert mine not in {each["Id"] for each in engine.containers()}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_shown_is_told_on_the_page_and_in_the_job(
    name: str, cay: User, uploaded: dict[str, dict[str, str]], profile: Person
) -> None:
    job, place = started(cay, OURS, infile=uploaded[name])
    page = profile()
    go(page, place.target)
    page.get_by_text(BROKEN[name]).first.wait_for()
    shot(page, f"cannot-be-shown-{Path(name).stem}")
    cay.stop(place)
    assert BROKEN[name] in cay.wait_job(job)["stderr"]


def test_the_tools_own_tests_pass_in_this_galaxy(planemo: Path, cay: User, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [planemo, "--directory", tmp_path, "test", "--engine", "external_galaxy"]
    command += ["--galaxy_url", cay.galaxy.url, "--galaxy_user_key", cay.key, "--galaxy_admin_key", cay.galaxy.key]
    command += ["--test_output", tmp_path / "report.html", "--test_output_json", report]
    with step("planemo test --engine external_galaxy"):
        done = subprocess.run(
            [*command, TOOLS / "interactivetool_cxg_proxy.xml"],
            cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
            env={"PATH": f"{planemo.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        )  # fmt: skip
    assert report.exists(), f"{done.stdout[-6000:]}{done.stderr[-2000:]}"
    results = [each["data"] for each in json.loads(report.read_text())["tests"]]
    wrong = [each for each in results if each["status"] != "success"]
    assert not wrong, f"{json.dumps(wrong, indent=1)[:6000]}\n{cay.galaxy.log()}"
    assert (done.returncode, len(results)) == (0, 4)
