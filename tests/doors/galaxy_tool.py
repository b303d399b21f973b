"""Galaxy's own code at work on our tool, in a process of its own, and jobs run as it would run them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("galaxy_program.py")
FOLDER = CHECKOUT / "galaxy_ie"
DATA = FOLDER / "test-data"
TOOL = FOLDER / "interactivetool_cxg_proxy.xml"
DOMAIN_TOOL = FOLDER / "interactivetool_cxg_proxy_domain.xml"
OPTIONS = "cxg_proxy_options.json"
HOSTILE = '-- it\'s "$(touch pwned)" `touch pwned`; touch pwned\n#set $x = 1\r\n${__class__} $__app__ é 🧬 <b>&amp;'


class Refused(Exception):
    """Galaxy does not take the form; `fields` says why, by the names of the fields."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(str(fields))
        self.fields = fields


@dataclass(frozen=True)
class Job:
    """What Galaxy would run, and the folder it has prepared for it."""

    folder: Path
    tool: Path
    command: str
    version_command: str
    environment: dict[str, str]
    entry_point: dict[str, Any]
    outputs: list[str]

    @property
    def working(self) -> Path:
        return self.folder / "working"

    @property
    def options(self) -> dict[str, Any]:
        """What the form became for the gateway."""
        found: dict[str, Any] = json.loads((self.working / OPTIONS).read_text())
        return found["Gateway"]

    def start(self, command: str | None = None) -> subprocess.Popen[str]:
        """Run it in bash, in a clean environment as Galaxy's, with the cxg-proxy beside this Python."""
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        return subprocess.Popen(
            ["bash", "-c", command or self.command],
            cwd=self.working,
            env={"PATH": path, "LANG": "C", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, seconds: float = 50) -> tuple[int, str, str]:
        """Run it to its end: its exit status, standard output and standard error."""
        with self.start() as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.terminate()
                out, err = process.communicate(timeout=20)
                raise AssertionError(f"it did not end: {out} {err}") from None
        return process.returncode, out, err


class Galaxy:
    """Galaxy's own code, asked over a pipe."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder, self._count = process, folder, itertools.count()

    def _ask(self, verb: str, **arguments: Any) -> Any:
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0] is not None
        assert pipes[1] is not None
        pipes[0].write(json.dumps({verb: arguments}) + "\n")
        pipes[0].flush()
        answer = json.loads(pipes[1].readline() or '{"failed": "Galaxy\'s program has ended"}')
        assert "failed" not in answer, answer["failed"]
        return answer["answer"]

    def job(
        self,
        form: Mapping[str, Any] | None = None,
        infile: Path = DATA / "pbmc.h5ad",
        *,
        name: str = "pbmc.h5ad",
        tool: Path = TOOL,
        **more: Path,
    ) -> Job:
        """The job for a filled-in form; `more` names further datasets by input. Raises Refused."""
        folder = self._folder / str(next(self._count))
        datasets = {"infile": {"path": str(infile), "name": name, "extension": "h5ad"}}
        for each, file in more.items():
            datasets[f"start|{each}"] = {"path": str(file), "name": file.name, "extension": "csv"}
        filled = json.loads(json.dumps({"results": ["labels", "gene_sets"], **(form or {})}))
        found = self._ask("evaluate", tool=str(tool), folder=str(folder), form=filled, datasets=datasets)
        if "refused" in found:
            raise Refused(found["refused"])
        return Job(folder=folder, tool=tool, **found)

    def collect(self, job: Job) -> dict[str, list[list[str]]]:
        """What of the job's files would come into the history, by output: path and extension."""
        found: dict[str, list[list[str]]] = self._ask("collect", tool=str(job.tool), folder=str(job.folder))
        return found

    def schema(self, tool: Path) -> list[str]:
        """What Galaxy's schema says against the tool with its macros expanded."""
        found: list[str] = self._ask("schema", tool=str(tool))
        return found


def words(command: str) -> list[str]:
    """The words of the last command, which replaces the shell."""
    return shlex.split(command.rpartition("&& exec ")[2])


def galaxy_python() -> Path:
    """The Python of Galaxy's environment, which is made if it is not there yet."""
    made = subprocess.run(
        [CHECKOUT / "requirements" / "galaxy"], stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    return Path(made.stdout.strip())


@contextlib.contextmanager
def galaxys_code(python: Path, folder: Path) -> Iterator[Galaxy]:
    """Galaxy's own code for as long as the block lasts."""
    log = folder / "galaxy.log"
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [python, PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**clean, "TMPDIR": str(folder)},
            cwd=folder,
        )
    with process:
        yield Galaxy(process, folder)
    assert process.returncode == 0, log.read_text()
