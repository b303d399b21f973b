"""What the README's table says of our tool and of plain cellxgene is what happens to them in the same Galaxy."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pandas as pd
import pytest
from galaxy_client import EntryPoint, User, new_user
from galaxy_files import LIMIT_SECONDS, OURS, OURS_LIMITED, PLAIN, PLAIN_LIMITED, TOOLS, image_of_tool
from galaxy_server import Galaxy
from progress import say, step
from server.common.fbs.matrix import encode_matrix_fbs

pytestmark = [
    pytest.mark.timeout(900),
    # cellxgene's encoder calls flatbuffers as its version 2.0 wished
    pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning"),
]
DATA = TOOLS / "test-data"
WHOLE_AND_BROKEN = ("pbmc.h5ad", "not_anndata.h5ad", "no_embedding.h5ad")
README = (TOOLS / "README.md").read_text()
SAVE = "api/v0.2/annotations/obs?annotation-collection-name=mine"
BINARY = {"Content-Type": "application/octet-stream", "Sec-Fetch-Site": "same-origin"}


def ours_and_plain(row: str, observe: Callable[[str], str]) -> None:
    """Observe both, and find what was seen in the README's table."""
    with step(f"observing: {row}"):
        seen = [observe(tool) for tool in (OURS, PLAIN)]
    line = f"| {row} | {' | '.join(seen)} |"
    say(line)
    assert line in README


@pytest.fixture(scope="module")
def dan(galaxy: Galaxy) -> User:
    return new_user(galaxy, "dan")


@pytest.fixture(scope="module")
def files(dan: User) -> dict[str, dict[str, str]]:
    """Datasets of dan's, by name, as the input of a tool."""
    uploaded = dan.upload(*(DATA / name for name in WHOLE_AND_BROKEN))
    return {name: {"src": "hda", "id": number} for name, number in zip(WHOLE_AND_BROKEN, uploaded, strict=True)}


@pytest.fixture(scope="module")
def pbmc_of_dan(files: dict[str, dict[str, str]]) -> dict[str, str]:
    return files["pbmc.h5ad"]


class Viewer:
    """The viewer behind a link, used by a program with a cookie jar."""

    def __init__(self, user: User, place: EntryPoint) -> None:
        self._user, self._place = user, place
        self.web = httpx.Client(timeout=60, follow_redirects=True)

    def ready(self) -> Viewer:
        def answers() -> bool:
            try:
                return self.ask("GET", "api/v0.2/schema").status_code == 200
            except httpx.TransportError:
                return False

        self._user.galaxy.wait(answers, "the viewer", 120)
        return self

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        if not self._place.in_path:  # a domain below localhost, which no program but a browser finds
            url = httpx.URL(self._place.target)
            headers = {"Host": url.netloc.decode(), **more.pop("headers", {})}
            return self.web.request(method, url.copy_with(host="localhost").join(path), headers=headers, **more)
        start = self.web.get(self._place.target, headers={"Accept": "text/html"})
        return self.web.request(method, start.url.join(path), **more)

    def save(self) -> None:
        table = pd.DataFrame({"mine": pd.Categorical(["T cell"] * 150)})
        content = zlib.compress(bytes(encode_matrix_fbs(table, col_idx=table.columns)))
        reply = self.ask("PUT", SAVE, content=content, headers=BINARY)
        assert reply.status_code == 200, reply.text


@pytest.fixture(scope="module")
def session(dan: User, pbmc_of_dan: dict[str, str]) -> Iterator[Viewer]:
    """A viewer in path mode that shows its page."""
    _, place = opened(dan, OURS, pbmc_of_dan)
    yield Viewer(dan, place).ready()
    dan.stop(place)


def opened(user: User, tool: str, infile: dict[str, str]) -> tuple[str, EntryPoint]:
    job = user.run(tool, infile=infile)
    return job, user.entry_point(job)


def came_back(user: User, job: str) -> str:
    """Whether the label that was saved is in a result of the job."""
    found = user.job(job)
    results = [each["id"] for each in found["outputs"].values()]
    for each in found.get("output_collections", {}).values():
        elements = user.get(f"dataset_collections/{each['id']}")["elements"]
        results += [element["object"]["id"] for element in elements]
    there = any(b"T cell" in user.read(each) for each in results if user.dataset(each)["state"] == "ok")
    return "labels in the history" if there else "nothing"


def test_results_after_stop(dan: User, pbmc_of_dan: dict[str, str]) -> None:
    def observe(tool: str) -> str:
        job, place = opened(dan, tool, pbmc_of_dan)
        Viewer(dan, place).ready().save()
        dan.stop(place)
        dan.wait_job(job)
        return came_back(dan, job)

    ours_and_plain("results after *Stop*", observe)


def test_results_at_the_time_limit(dan: User, pbmc_of_dan: dict[str, str]) -> None:
    jobs = {}
    for tool, limited in ((OURS, OURS_LIMITED), (PLAIN, PLAIN_LIMITED)):
        jobs[tool], place = opened(dan, limited, pbmc_of_dan)
        Viewer(dan, place).ready().save()

    def observe(tool: str) -> str:
        dan.wait_job(jobs[tool], LIMIT_SECONDS + 90)
        return came_back(dan, jobs[tool])

    ours_and_plain("results at the time limit", observe)


@pytest.mark.parametrize(
    ("file", "row"), [("not_anndata.h5ad", "not an h5ad file"), ("no_embedding.h5ad", "no embedding")]
)
def test_a_dataset_that_cannot_be_shown(file: str, row: str, dan: User, files: dict[str, dict[str, str]]) -> None:
    words = {"not_anndata.h5ad": "this is not an AnnData file", "no_embedding.h5ad": "no 2-D embedding"}[file]

    def observe(tool: str) -> str:
        job = dan.run(tool, infile=files[file])
        page = "no page"
        if tool == OURS:
            place = dan.entry_point(job)
            viewer = Viewer(dan, place)
            dan.galaxy.wait(lambda: words in viewer.ask("GET", "", headers={"Accept": "text/html"}).text, row, 60)
            page = "a page says why"
            dan.stop(place)
        ended = dan.wait_job(job, 120)
        said = "its reason in the job" if words in ended["stderr"] else f"exit status {ended['exit_code']}, no reason"
        return f"{page}, {said}"

    ours_and_plain(row, observe)


@pytest.mark.parametrize("foreign", [{"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_another_site_changes_nothing_although_the_proxy_welcomes_any(
    foreign: dict[str, str], session: Viewer
) -> None:
    headers = {"Content-Type": "application/octet-stream", **foreign}
    reply = session.ask("PUT", SAVE, content=b"x", headers=headers)
    assert reply.status_code == 403
    assert "it came from" in reply.json()["problem"]["sentence"]
    assert "frame-ancestors 'self'" in session.ask("GET", "").headers["Content-Security-Policy"]


def test_the_port_and_the_copy(dan: User, pbmc_of_dan: dict[str, str]) -> None:
    engine, seen = dan.galaxy.engine, {}
    for tool in (OURS, PLAIN):
        before = {each["Id"] for each in engine.containers()}
        _, place = opened(dan, tool, pbmc_of_dan)
        Viewer(dan, place).ready()
        (mine,) = [each for each in engine.containers() if each["Id"] not in before]
        status = httpx.get(f"http://127.0.0.1:{mine['Ports'][0]['host_port']}/").status_code
        if tool == OURS:
            (image,) = json.loads(engine("image", "inspect", image_of_tool()))
            healthy = image["Healthcheck"]["Test"]
            assert healthy[0] == "CMD"
            engine("exec", mine["Id"], *healthy[1:])  # raises unless its status is 0
        # -xdev: not in what Galaxy mounts from its machine, which may lie below /tmp, too
        found = engine("exec", mine["Id"], "find", "/tmp", ".", "-xdev", "-name", "*.h5ad", "-type", "f")
        seen[tool] = ("yes" if status == 403 else f"no (status {status})", "one" if found else "none")
        dan.stop(place)
    ours_and_plain("asks for a token at its port", lambda tool: seen[tool][0])
    ours_and_plain("copy of the input", lambda tool: seen[tool][1])
