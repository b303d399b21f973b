"""What a Galaxy reads when it starts: its settings, where jobs run, and which tools there are."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = CHECKOUT / "galaxy_ie"
ARTEFACTS = CHECKOUT / "build" / "artefacts" / "galaxy"
OURS, OURS_DOMAIN, OURS_LIMITED = (f"interactive_tool_cxg_proxy{suffix}" for suffix in ("", "_domain", "_limited"))
ALL_OURS = (OURS, OURS_DOMAIN, OURS_LIMITED)
PLAIN, PLAIN_LIMITED = (f"interactive_tool_plain_cellxgene{suffix}" for suffix in ("", "_limited"))
ADMINISTRATOR = "root@tests.example"
ANYBODY = 54321  # containers run as a user that neither Galaxy nor the image knows
SUBNET = "10.88.0"
LIMIT_SECONDS = 75  # what a time limit of a cluster does, a tool may ask of Galaxy for itself

# Plain cellxgene as Galaxy's own tool starts it (version 1.1.1 of 26.1): on a copy with an end to its name that
# cellxgene knows, on a domain, with what it writes collected as a list.
PLAIN_TOOL = """\
<tool id="{id}" name="plain cellxgene" tool_type="interactive" version="1" profile="25.1">
    <requirements><container type="docker">{image}</container></requirements>
    <entry_points>
        <entry_point name="plain cellxgene" requires_domain="true"><port>8080</port></entry_point>
    </entry_points>
    <command><![CDATA[
        cp '$infile' /tmp/copy.h5ad && mkdir annotation_files &&
        cellxgene launch --host 0.0.0.0 --port 8080 --user-generated-data-dir annotation_files /tmp/copy.h5ad
    ]]></command>
    <environment_variables>
        <environment_variable name="https_proxy">http://127.0.0.1:9</environment_variable>
        <environment_variable name="NUMBA_CACHE_DIR">/tmp</environment_variable>
    </environment_variables>
    <inputs><param name="infile" type="data" format="h5ad"/></inputs>
    <outputs>
        <data name="out" format="txt"/>
        <collection name="labels" type="list">
            <discover_datasets pattern="__name_and_ext__" directory="annotation_files"/>
        </collection>
    </outputs>
</tool>
"""


@dataclass(frozen=True)
class Ports:
    """Where Galaxy and the proxy of its interactive tools listen."""

    galaxy: int
    proxy: int


def image_of_tool() -> str:
    """The image that the tool names."""
    tree = ET.parse(TOOLS / "macros.xml")  # noqa: S314 - our own file
    tokens = {each.get("name", ""): each.text or "" for each in tree.iter("token")}
    container = tree.find(".//container")
    assert container is not None
    image = container.text or ""
    while found := re.search("@[A-Z_]+@", image):
        image = image.replace(found[0], tokens[found[0]])
    return image


def write_tools(folder: Path) -> Path:
    """The project's tools as they are, one with a time limit, and plain cellxgene; Galaxy's list of them."""
    folder.mkdir()
    limited = folder / "limited"
    shutil.copytree(TOOLS, limited)
    replace_in(limited / "interactivetool_cxg_proxy.xml", f'id="{OURS}"', f'id="{OURS_LIMITED}"')
    limit = f'<resource type="timelimit">{LIMIT_SECONDS}</resource></requirements>'
    replace_in(limited / "macros.xml", "</requirements>", limit)
    tools = [*sorted(TOOLS.glob("interactivetool_*.xml")), limited / "interactivetool_cxg_proxy.xml"]
    for tool, requirements in ((PLAIN, "</requirements>"), (PLAIN_LIMITED, limit)):
        tools.append(folder / f"{tool}.xml")
        tools[-1].write_text(PLAIN_TOOL.format(id=tool, image=image_of_tool()).replace("</requirements>", requirements))
    listed = "".join(f'<tool file="{file}"/>' for file in tools)
    toolbox = folder / "tool_conf.xml"
    toolbox.write_text(f'<toolbox><section id="interactive" name="Interactive tools">{listed}</section></toolbox>')
    return toolbox


def replace_in(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file} holds {old} {text.count(old)} times"
    file.write_text(text.replace(old, new))


def write_settings(folder: Path, ports: Ports, key: str, docker: Path, monitor: Path) -> Path:
    """The whole of galaxy.yml; what is JSON is YAML too."""
    settings = {
        "data_dir": str(folder / "data"),
        "database_connection": f"sqlite:///{folder}/galaxy.sqlite?isolation_level=IMMEDIATE",
        "tool_config_file": str(write_tools(folder / "tools")),
        "job_config": jobs(docker, monitor),
        "container_resolvers": [{"type": "explicit"}],
        "enable_celery_tasks": False,
        "outputs_to_working_directory": True,
        "galaxy_infrastructure_url": f"http://{SUBNET}.1:{ports.galaxy}",  # as jobs in containers see it
        "interactivetools_enable": True,
        "interactivetools_map": str(folder / "map.sqlite"),
        "interactivetools_upstream_proxy": False,
        "interactivetools_proxy_host": f"localhost:{ports.proxy}",
        "bootstrap_admin_api_key": key,
        "admin_users": ADMINISTRATOR,
        "id_secret": key[::-1],
        "enable_sse_updates": True,  # Galaxy's pages show the link when it is there, not some ten seconds later
        "watch_tools": False,
        "check_upload_content": False,
    }
    file = folder / "galaxy.yml"
    file.write_text(json.dumps({"galaxy": settings}, indent=2))
    file.chmod(0o600)
    return file


def jobs(docker: Path, monitor: Path) -> dict[str, Any]:
    """Where jobs run: interactive tools in a container, as anybody, with nothing writable but the job's own folder."""
    container = {
        "runner": "local",
        "docker_enabled": True,
        "docker_cmd": str(docker),
        "docker_net": "bridge",
        "docker_set_user": f"{ANYBODY}:{ANYBODY}",
        # podman leaves health checks to systemd, which need not be there
        "docker_run_extra_arguments": "--read-only --tmpfs /tmp:rw,mode=1777 --pull=never --no-healthcheck",
        "require_container": True,
        "container_monitor_get_ip_method": "command:echo 127.0.0.1",
        "container_monitor_command": str(monitor),
    }
    return {
        "runners": {"local": {"load": "galaxy.jobs.runners.local:LocalJobRunner", "workers": 8}},
        "execution": {"default": "local", "environments": {"local": {"runner": "local"}, "container": container}},
        "tools": [{"id": each, "environment": "container"} for each in (*ALL_OURS, PLAIN, PLAIN_LIMITED)],
    }
