"""The whole way of a Galaxy user in a real Chromium: form, Run, link, viewer, label, Save to history, Stop, results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from statistics import median

import pytest
from anndata import read_h5ad
from browser_fixtures import Person, shot
from galaxy_client import User
from galaxy_files import ARTEFACTS, OURS, OURS_DOMAIN, PLAIN, TOOLS
from galaxy_server import PREFIX
from people import Waits, fill_form, label_cells, log_in, press_stop, run_and_follow, save_to_history
from playwright.sync_api import Page
from progress import say, step

from cxg_proxy.annotations.tables import UNASSIGNED, read_labels

pytestmark = pytest.mark.timeout(600, func_only=True)  # what is installed first has limits of its own
ROUNDS = 3


@pytest.fixture(scope="module")
def clicked() -> dict[str, str]:
    """The label that each cell gets."""
    phases = read_h5ad(TOOLS / "test-data" / "pbmc.h5ad").obs["phase"]
    return {cell: "dividing" if phase == "S" else UNASSIGNED for cell, phase in phases.items()}


@pytest.fixture
def person(profile: Person, ana: User, pbmc: str) -> Iterator[Page]:
    """Ana, logged in; whatever she leaves running is stopped, so that a failure is not the next test's too."""
    page = profile()
    log_in(page, ana)
    yield page
    ana.stop_all()


def labels_of(content: bytes) -> dict[str, dict[str, str]]:
    """What a table says: category → cell → label."""
    table = read_labels(content)
    return {name: dict(zip(table.cells, labels, strict=True)) for name, labels in table.columns.items()}


@pytest.mark.parametrize("tool", [OURS, OURS_DOMAIN])
def test_from_the_form_to_the_clicked_labels_in_the_history(
    tool: str, person: Page, ana: User, clicked: dict[str, str]
) -> None:
    before = {each["id"] for each in ana.contents()}
    fill_form(person, ana, tool, title="Blood of Ana")
    shot(person, f"{tool}-1-form")
    with step(f"running {tool} until its viewer is drawn"):
        viewer, waits = run_and_follow(person)
    assert waits.missing == 0, f"the link must work at once\n{ana.galaxy.log(200)}"
    assert (PREFIX in viewer.url) == (tool == OURS)
    assert "token=" not in viewer.url
    shot(viewer, f"{tool}-2-viewer")
    label_cells(viewer, "phase", "S", "cycle", "dividing")
    shot(viewer, f"{tool}-3-labelled")
    save_to_history(viewer)
    shot(viewer, f"{tool}-4-saved")

    def pushed() -> bool:
        new = [each for each in ana.contents() if each["id"] not in before and each["state"] == "ok"]
        return any(
            labels_of(ana.read(each["id"])).get("cycle") == clicked for each in new if each["extension"] == "csv"
        )

    ana.galaxy.wait(pushed, "what was saved to the history while the tool runs", 90)
    (job,) = [each["id"] for each in ana.get("jobs", tool_id=tool, state="running")]
    press_stop(person, ana)
    assert ana.wait_job(job)["state"] == "ok"
    result = ana.outputs(job)["labels"]
    assert (result["state"], result["extension"]) == ("ok", "csv")
    assert labels_of(ana.read(result["id"])) == {"cycle": clicked}


def test_how_long_it_takes_beside_plain_cellxgene(person: Page, ana: User) -> None:
    tools = (OURS, OURS_DOMAIN, PLAIN)
    waited: dict[str, list[Waits]] = {tool: [] for tool in tools}
    with step(f"running each of {', '.join(tools)} {ROUNDS} times"):
        for tool in tools * ROUNDS:  # in turn: whoever comes later finds more in the machine's memory
            fill_form(person, ana, tool)
            viewer, waits = run_and_follow(person)
            viewer.close()
            waited[tool].append(waits)
            press_stop(person, ana)
    middle = {tool: Waits(*map(median, zip(*map(astuple, each), strict=True))) for tool, each in waited.items()}
    rows = [f"{'median of seconds after Run':36} {'link':>6} {'first page':>11} {'drawn':>6} {'proxy errors':>13}"]
    rows += [
        f"{tool:36} {each.link:6.1f} {each.first_page:11.1f} {each.drawn:6.1f} {each.missing:13.0f}"
        for tool, each in middle.items()
    ]
    (ARTEFACTS / "times.txt").write_text("\n".join(rows) + "\n")
    say("\n".join(["how long a person waits", *rows]))
    for tool in (OURS, OURS_DOMAIN):
        assert not any(each.missing for each in waited[tool]), ana.galaxy.log(200)
        assert middle[tool].wait_behind_link < middle[PLAIN].wait_behind_link
