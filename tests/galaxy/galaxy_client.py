"""What a user of Galaxy can do through its programming interface."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from galaxy_server import PREFIX, Galaxy
from progress import step

PASSWORD = "only-for-these-tests"
FINISHED = ("ok", "error", "deleted", "failed", "discarded")  # a job that was stopped is ok once its results are there
Json = dict[str, Any]


@dataclass
class EntryPoint:
    """Where a running interactive tool is reached."""

    id: str
    job: str
    target: str

    @property
    def in_path(self) -> bool:
        return urlsplit(self.target).path.startswith(PREFIX)


@dataclass
class User:
    """Somebody with an account and a history."""

    galaxy: Galaxy
    name: str
    id: str
    key: str = field(repr=False)
    history: str = ""

    @property
    def email(self) -> str:
        return f"{self.name}@tests.example"

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request as this user."""
        headers = {"x-api-key": self.key}
        return httpx.request(method, f"{self.galaxy.url}/api/{path}", headers=headers, timeout=60, **options)

    def get(self, path: str, **query: Any) -> Any:
        return self._read(self.ask("GET", path, params=query))

    def post(self, path: str, body: Json) -> Any:
        return self._read(self.ask("POST", path, json=body))

    def _read(self, reply: httpx.Response) -> Any:
        assert reply.is_success, (
            f"{reply.request.url.path}: {reply.status_code} {reply.text[:2000]}\n{self.galaxy.log()}"
        )
        return reply.json()

    # --- data ---------------------------------------------------------------------------------------------------

    def upload(self, *files: Path) -> list[str]:
        """Put files into the history, in one go as each takes Galaxy long; their numbers there, once usable."""
        elements = [{"src": "files", "ext": each.suffix[1:], "name": each.name} for each in files]
        targets = [{"destination": {"type": "hdas"}, "elements": elements}]
        sent = {"history_id": self.history, "targets": json.dumps(targets), "auto_decompress": "true"}
        content = {f"files_{place}|file_data": (each.name, each.read_bytes()) for place, each in enumerate(files)}
        with step(f"uploading {', '.join(each.name for each in files)}"):
            reply = self.ask("POST", "tools/fetch", data=sent, files=content)
            found = [str(each["id"]) for each in self._read(reply)["outputs"]]
            for each in found:
                self.galaxy.wait(lambda: self.dataset(each)["state"] in FINISHED, "an upload", 180)  # noqa: B023
        states = [self.dataset(each)["state"] for each in found]
        assert states == ["ok"] * len(files), f"{states}\n{self.galaxy.log()}"
        return found

    def dataset(self, dataset: str) -> Json:
        found: Json = self.get(f"datasets/{dataset}")
        return found

    def read(self, dataset: str) -> bytes:
        """What a dataset holds."""
        reply = self.ask("GET", f"datasets/{dataset}/display", params={"raw": "true"})
        assert reply.is_success, f"{reply.status_code}: {reply.text[:500]}"
        return reply.content

    def contents(self) -> list[Json]:
        """The datasets of the history, in order."""
        found: list[Json] = self.get(f"histories/{self.history}/contents", deleted="false")
        return found

    # --- jobs ---------------------------------------------------------------------------------------------------

    def run(self, tool: str, **inputs: Any) -> str:
        """Start a tool on a dataset; its job."""
        body = {"history_id": self.history, "tool_id": tool, "inputs": inputs}
        return str(self.post("tools", body)["jobs"][0]["id"])

    def job(self, job: str) -> Json:
        """All about a job, what it said included."""
        found: Json = self.get(f"jobs/{job}", full="true")
        return found

    def wait_job(self, job: str, seconds: float = 60) -> Json:
        """How a job ended, once Galaxy has collected its results."""
        self.galaxy.wait(lambda: self.job(job)["state"] in FINISHED, f"the end of job {job}", seconds)
        return self.job(job)

    def outputs(self, job: str) -> dict[str, Json]:
        """The results of a job by their names in the tool, once they are collected."""
        named = {name: each["id"] for name, each in self.job(job)["outputs"].items()}
        for name, each in named.items():
            self.galaxy.wait(lambda: self.dataset(each)["state"] in (*FINISHED, "empty"), name, 60)  # noqa: B023
        return {name: self.dataset(each) for name, each in named.items()}

    def entry_points(self, job: str) -> list[Json]:
        found: list[Json] = self.get("entry_points", job_id=job)
        return found

    def entry_point(self, job: str, seconds: float = 60) -> EntryPoint:
        """Where an interactive tool is, as soon as Galaxy offers it."""

        def active() -> bool:
            found = self.entry_points(job)
            if not found:
                state = self.job(job)
                assert state["state"] not in FINISHED, f"{state}\n{self.galaxy.log()}"
            return bool(found and found[0]["active"])

        self.galaxy.wait(active, f"an entry point of job {job}", seconds)
        found = self.entry_points(job)[0]
        return EntryPoint(found["id"], job, self.get(f"entry_points/{found['id']}/access")["target"])

    def stop(self, entry_point: EntryPoint) -> None:
        """What the button Stop does."""
        self._stop(entry_point.id)

    def stop_all(self) -> None:
        """Stop every interactive tool that this user has running."""
        for each in self.get("entry_points", running="true"):
            self._stop(each["id"])

    def _stop(self, entry_point: str) -> None:
        reply = self.ask("DELETE", f"entry_points/{entry_point}")
        assert reply.is_success, reply.text

    def visit(self, entry_point: EntryPoint, path: str = "", **headers: str) -> httpx.Response:
        """Follow the link as a program that does not know domains below localhost."""
        parts = urlsplit(entry_point.target)
        place = parts._replace(path=parts.path + path, netloc=f"localhost:{parts.port}")
        return httpx.get(place.geturl(), headers={"Host": parts.netloc, **headers}, timeout=60)

    def answers(self, entry_point: EntryPoint) -> bool:
        """Whether an application is behind the link yet."""
        with contextlib.suppress(httpx.TransportError):
            return self.visit(entry_point).status_code < 500
        return False


def new_user(galaxy: Galaxy, name: str) -> User:
    """An account, its key and an empty history."""
    root = User(galaxy, "root", "", galaxy.key)
    made = root.post("users", {"username": name, "email": f"{name}@tests.example", "password": PASSWORD})
    reply = root.ask("POST", f"users/{made['id']}/api_key")
    assert reply.is_success, reply.text
    user = User(galaxy, name, made["id"], reply.json())
    user.history = user.post("histories", {"name": f"{name}'s history"})["id"]
    return user
