"""Runs with Galaxy's own Python: treats our tool as a Galaxy would, for requests read as JSON lines, one answer each.

`evaluate` says what would run for a filled-in form, `collect` what would come back into the history, and `schema` what
is wrong with the tool's XML once its macros are expanded.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

import galaxy.config  # noqa: E402 - Galaxy's imports warn and log
import galaxy.tool_util  # noqa: E402
from galaxy.app_unittest_utils.galaxy_mock import MockApp  # noqa: E402
from galaxy.app_unittest_utils.tools_support import UsesTools  # noqa: E402
from galaxy.job_execution.compute_environment import SimpleComputeEnvironment  # noqa: E402
from galaxy.job_execution.output_collect import dataset_collector, discover_files  # noqa: E402
from galaxy.managers.interactivetool import InteractiveToolManager  # noqa: E402
from galaxy.model import (  # noqa: E402
    Dataset,
    History,
    HistoryDatasetAssociation,
    Job,
    JobParameter,
    JobToInputDatasetAssociation,
    User,
)
from galaxy.structured_app import MinimalManagerApp  # noqa: E402
from galaxy.tool_util.loader import load_tool  # noqa: E402
from galaxy.tool_util.provided_metadata import NullToolProvidedMetadata  # noqa: E402
from galaxy.tools.evaluation import ToolEvaluator  # noqa: E402
from galaxy.tools.parameters import params_to_strings  # noqa: E402
from galaxy.work.context import WorkRequestContext  # noqa: E402
from lxml import etree  # noqa: E402

SCHEMA = Path(galaxy.tool_util.__file__).parent / "xsd" / "galaxy.xsd"
CONFIG = Path(galaxy.config.__file__).parent
GALAXY_URL = "https://galaxy.example.org/"


class Surroundings(SimpleComputeEnvironment):
    """Where a job of Galaxy's local runner lies."""

    def __init__(self, folder: Path, tool: Path) -> None:
        self.folder, self.tool = folder, tool

    def working_directory(self) -> str:
        return str(self.folder / "working")

    def config_directory(self) -> str:
        return str(self.folder / "configs")

    def env_config_directory(self) -> str:
        return str(self.folder)

    def home_directory(self) -> str:
        return str(self.folder / "home")

    def tmp_directory(self) -> str | None:
        return None

    def new_file_path(self) -> str:
        return str(self.folder)

    def tool_directory(self) -> str:
        return str(self.tool.parent)

    def version_path(self) -> str:
        return str(self.folder / "version")

    def galaxy_url(self) -> str:
        return GALAXY_URL

    def get_file_sources_dict(self) -> dict[str, Any]:
        return {}

    def _as_it_is(self, *_: object) -> None:
        """No path is rewritten."""

    input_path_rewrite = output_path_rewrite = input_metadata_rewrite = unstructured_path_rewrite = _as_it_is


class Server(UsesTools):
    """Galaxy's application as its own unit tests make it, with one user and one history."""

    def __init__(self) -> None:
        self.setup_app()
        # Galaxy makes entry points only for what it takes for its whole application.
        self.app.__class__ = type("App", (MockApp, MinimalManagerApp), {})
        config = self.app.config
        config.interactivetools_enable = True
        config.interactivetools_prefix, config.interactivetools_base_path = "interactivetool", "/"
        config.interactivetoolsproxy_map, config.interactivetools_map = None, "sqlite://"
        self.app.datatypes_registry.load_datatypes(
            CONFIG,
            CONFIG / "sample" / "datatypes_conf.xml.sample",
            use_converters=False,
            use_display_applications=False,
            use_build_sites=False,
        )
        self.session = self.app.model.session
        self.user = User(email="ana@example.org", password="not a password")
        self.history = History(user=self.user)
        self._keep(self.user, self.history)
        self.app.interactivetool_manager = InteractiveToolManager(self.app)
        self.tools: dict[str, Any] = {}

    def _keep(self, *each: Any) -> None:
        self.session.add_all(each)
        self.session.commit()

    def _tool(self, path: str) -> Any:
        if path not in self.tools:
            self.tools[path] = self._init_tool_for_path(path)
        return self.tools[path]

    def _dataset(self, *, name: str, extension: str, path: str) -> HistoryDatasetAssociation:
        """A dataset of the history, with the metadata that Galaxy finds in it."""
        found = HistoryDatasetAssociation(
            name=name, extension=extension, history=self.history, create_dataset=True, sa_session=self.session
        )
        found.dataset.external_filename = path
        found.dataset.state = Dataset.states.OK
        self._keep(found)
        with contextlib.suppress(OSError):  # no HDF5: Galaxy marks the dataset, and lets people use it
            found.set_meta()
        self._keep(found)
        return found

    def evaluate(self, *, tool: str, folder: str, form: dict[str, Any], datasets: dict[str, Any]) -> dict[str, Any]:
        """What Galaxy would run for a form, and where it would lead the user; or why it refuses the form."""
        ours, place = self._tool(tool), Path(folder)
        for name in ("working", "configs", "home"):
            (place / name).mkdir(parents=True)
        chosen = {name: self._dataset(**record) for name, record in datasets.items()}
        for name, each in chosen.items():
            *sections, last = name.split("|")
            inner = form
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[last] = {"src": "hda", "id": self.app.security.encode_id(each.id)}
        context = WorkRequestContext(app=self.app, user=self.user, history=self.history)
        (params,), (errors,), *_ = ours.expand_incoming(context, form, input_format="21.01")
        if errors:
            return {"refused": flat(errors)}
        evaluator = ToolEvaluator(self.app, ours, self._job(ours, params, chosen), folder)
        evaluator.set_compute_environment(Surroundings(place, Path(tool)))
        command, version, _, environment, (entry_point,) = evaluator.build()
        outputs = [name for name, each in ours.outputs.items() if all(wanted(f, params) for f in each.filters)]
        return {
            "command": command,
            "version_command": version,
            "environment": {each["name"]: value(each) for each in environment},
            "entry_point": entry_point,
            "outputs": outputs,
        }

    def _job(self, tool: Any, params: Any, datasets: dict[str, HistoryDatasetAssociation]) -> Job:
        job = Job()
        job.history, job.user, job.tool_id = self.history, self.user, tool.id
        texts = params_to_strings(tool.inputs, params, self.app)
        job.parameters = [JobParameter(name=name, value=text) for name, text in texts.items()]
        job.input_datasets = [JobToInputDatasetAssociation(name=name, dataset=each) for name, each in datasets.items()]
        self._keep(job)
        return job

    def collect(self, *, tool: str, folder: str) -> dict[str, Any]:
        """The files that would become outputs, each with the extension it would get."""
        found = {}
        for name, output in self._tool(tool).outputs.items():
            collectors = [dataset_collector(each) for each in output.dataset_collector_descriptions]
            files = discover_files(name, NullToolProvidedMetadata(), collectors, f"{folder}/working", None)
            found[name] = [(os.path.relpath(each.path, f"{folder}/working"), each.match.ext) for each in files]
        return found

    def schema(self, *, tool: str) -> list[str]:
        """What Galaxy's schema says against the tool."""
        schema = etree.XMLSchema(etree.parse(SCHEMA))
        schema.validate(load_tool(tool))
        return [str(each) for each in schema.error_log]


def value(variable: dict[str, str]) -> str:
    """What the shell will find in an environment variable."""
    file = variable.get("job_directory_path")
    return Path(file).read_text() if file else variable["value"].strip('"')


def wanted(condition: Any, params: dict[str, Any]) -> bool:
    """Whether an output is made, by the filter beside it."""
    return bool(eval(condition.text.strip(), {}, dict(params)))  # noqa: S307 - as Galaxy does


def flat(errors: dict[str, Any], before: str = "") -> dict[str, str]:
    """The errors of a form by the names of its fields."""
    found: dict[str, str] = {}
    for name, why in errors.items():
        found |= flat(why, f"{before}{name}|") if isinstance(why, dict) else {before + name: str(why)}
    return found


def main() -> None:
    """Answer until the input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # Galaxy prints at times
        server = Server()
        for line in sys.stdin:
            (verb, arguments), *_ = json.loads(line).items()
            try:
                answer = {"answer": getattr(server, verb)(**arguments)}
            except Exception:  # noqa: BLE001 - told to the test, which fails
                answer = {"failed": traceback.format_exc()}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
        server.tear_down_app()
    os._exit(0)  # Galaxy's own way out takes seconds


if __name__ == "__main__":
    main()
