"""What the README's table says of our tool and of plain cellxgene is what happens to them in the same Galaxy."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from anndata import read_h5ad
from comparison import ours_and_plain
from galaxy_client import FINISHED, EntryPoint, User, new_user
from galaxy_files import LIMIT_SECONDS, OURS, OURS_LIMITED, PLAIN, PLAIN_LIMITED, TOOLS, image_of_tool
from galaxy_server import Galaxy
from server.common.fbs.matrix import encode_matrix_fbs

pytestmark = [
    pytest.mark.timeout(900, func_only=True),
    # cellxgene's encoder calls flatbuffers as its version 2.0 wished
    pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning"),
]
DATA = TOOLS / "test-data"
WHOLE_AND_BROKEN = ("pbmc.h5ad", "not_anndata.h5ad", "no_embedding.h5ad")
SAVE = "api/v0.2/annotations/obs?annotation-collection-name=mine"
GENE_SETS = [{"geneset_name": "my markers", "geneset_description": "", "genes": [{"gene_symbol": "CD79A"}]}]
# Of files that cannot be shown, by our tool and by plain cellxgene.
SAID = {
    "not_anndata.h5ad": ("this is not an AnnData file (.h5ad)", "File not found or is inaccessible"),
    "no_embedding.h5ad": ("this file has no 2-D embedding, so there is nothing to draw", "No valid layout data"),
}
BINARY = {"Content-Type": "application/octet-stream", "Sec-Fetch-Site": "same-origin"}


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
        sets = {"genesets": GENE_SETS, "tid": 1}
        reply = self.ask("PUT", "api/v0.2/genesets", json=sets, headers={"Sec-Fetch-Site": "same-origin"})
        assert reply.status_code == 200, reply.text


@pytest.fixture(scope="module")
def session(dan: User, pbmc_of_dan: dict[str, str]) -> Iterator[Viewer]:
    """A viewer in path mode that shows its page."""
    _, place = opened(dan, OURS, pbmc_of_dan)
    yield Viewer(dan, place).ready()
    dan.stop(place)


def opened(user: User, tool: str, infile: dict[str, str], **inputs: Any) -> tuple[str, EntryPoint]:
    job = user.run(tool, infile=infile, **inputs)
    return job, user.entry_point(job)


def came_back(user: User, job: str) -> str:
    """Which of what was saved is in the tables that the job has returned."""
    found = user.job(job)
    results = [each["id"] for each in found["outputs"].values()]
    for each in found.get("output_collections", {}).values():
        elements = user.get(f"dataset_collections/{each['id']}")["elements"]
        results += [element["object"]["id"] for element in elements]
    found = [user.dataset(each) for each in results]
    tables = [user.read(each["id"]) for each in found if (each["state"], each["extension"]) == ("ok", "csv")]
    kinds = {"labels": b"T cell", "gene sets": b"my markers"}
    there = [kind for kind, words in kinds.items() if any(words in table for table in tables)]
    return f"{' and '.join(there)} in the history" if there else "nothing"


def container_of(user: User, before: set[str]) -> dict[str, Any]:
    """The container that has come since."""
    (mine,) = [each for each in user.galaxy.engine.containers() if each["Id"] not in before]
    return mine


def containers(user: User) -> set[str]:
    return {str(each["Id"]) for each in user.galaxy.engine.containers()}


def test_results_after_stop(dan: User, pbmc_of_dan: dict[str, str], tmp_path: Path) -> None:
    jobs, copy = {}, tmp_path / "annotated.h5ad"

    def observe(tool: str) -> str:
        before, wanted = containers(dan), {"results": ["labels", "gene_sets", "h5ad"]} if tool == OURS else {}
        jobs[tool], place = opened(dan, tool, pbmc_of_dan, **wanted)
        Viewer(dan, place).ready().save()
        if tool == OURS:
            look = ("exec", container_of(dan, before)["Id"], "ls", "results")
            dan.galaxy.wait(lambda: copy.name in dan.galaxy.engine(*look).split(), "the renewed copy", 60)
        dan.stop(place)
        dan.wait_job(jobs[tool])
        return came_back(dan, jobs[tool])

    ours_and_plain("results after *Stop*", observe)
    annotated = dan.outputs(jobs[OURS])["annotated"]
    assert (annotated["state"], annotated["extension"]) == ("ok", "h5ad")
    copy.write_bytes(dan.read(annotated["id"]))
    held = read_h5ad(copy)
    assert set(held.obs["mine"]) == {"T cell"}
    assert "my markers" in set(held.uns["gene_sets"]["gene_set_name"])


def test_results_at_the_time_limit(dan: User, pbmc_of_dan: dict[str, str]) -> None:
    jobs = {}
    for tool, limited in ((OURS, OURS_LIMITED), (PLAIN, PLAIN_LIMITED)):
        jobs[tool], place = opened(dan, limited, pbmc_of_dan)
        Viewer(dan, place).ready().save()

    def observe(tool: str) -> str:
        dan.wait_job(jobs[tool], LIMIT_SECONDS + 90)
        return came_back(dan, jobs[tool])

    ours_and_plain("results at the time limit", observe)


def page_says(user: User, job: str, words: tuple[str, ...]) -> bool:
    """Whether the page behind the link says one of these while the job runs, which is then stopped."""
    seen: list[EntryPoint] = []

    def looked() -> bool:
        for each in user.entry_points(job):
            reply = user.ask("GET", f"entry_points/{each['id']}/access") if each["active"] else None
            if reply is not None and reply.is_success:  # the job may end in this moment
                place = EntryPoint(each["id"], job, reply.json()["target"])
                viewer = Viewer(user, place)
                with viewer.web, contextlib.suppress(httpx.TransportError):
                    page = viewer.ask("GET", "", headers={"Accept": "text/html"}).text
                    seen.extend(place for said in words if said in page)
        return bool(seen) or user.job(job)["state"] in FINISHED

    user.galaxy.wait(looked, "a page or the end of the job", 120)
    for place in seen:
        user.stop(place)
    return bool(seen)


@pytest.mark.parametrize(
    ("file", "row"), [("not_anndata.h5ad", "not an h5ad file"), ("no_embedding.h5ad", "no embedding")]
)
def test_a_dataset_that_cannot_be_shown(file: str, row: str, dan: User, files: dict[str, dict[str, str]]) -> None:
    def observe(tool: str) -> str:
        job = dan.run(tool, infile=files[file])
        page = "a page says why" if page_says(dan, job, SAID[file]) else "no page"
        error = dan.wait_job(job, 120)["stderr"]
        said = " ".join(f"*{words}*" for words in SAID[file] if words in error)
        return f"{page}; in the job: {said}"

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
        before = containers(dan)
        _, place = opened(dan, tool, pbmc_of_dan)
        Viewer(dan, place).ready()
        mine = container_of(dan, before)
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
