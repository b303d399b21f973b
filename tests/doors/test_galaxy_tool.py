"""The Galaxy tool: what Galaxy's own code makes of it, and of forms that are filled in, also by somebody hostile."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from galaxy_tool import DATA, DOMAIN_TOOL, FOLDER, HOSTILE, TOOL, Galaxy, Refused, words
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

import cxg_proxy

pytest_plugins = ["galaxy_plugin"]
pytestmark = pytest.mark.timeout(300)  # the first test may have to install Galaxy
PLAIN = [
    *("cxg-proxy", "galaxy", "--config=cxg_proxy_options.json", "--ip=0.0.0.0", "--port=8888"),
    *("--labels-folder=annotations", "--cache-limit=0", "--shutdown-when-idle-seconds=7200"),
]
any_text = st.text(max_size=60) | st.sampled_from(
    [HOSTILE, "'", '"', "\\", "$(x)", "`x`", "#if 1", "${1}", "-x", "__sq__"]
)


# --- the tool's text


@pytest.mark.parametrize("tool", [TOOL, DOMAIN_TOOL], ids=["path", "domain"])
def test_the_tool_with_its_macros_expanded_fits_galaxys_schema(galaxy: Galaxy, tool: Path) -> None:
    assert galaxy.schema(tool) == []


def test_planemo_finds_nothing_to_mend_whether_or_not_it_knows_the_tool_as_interactive(
    galaxys_python: Path, tmp_path: Path
) -> None:
    # Only five of its linters look at a tool of the type interactive.
    plain = shutil.copytree(FOLDER, tmp_path / "plain")
    for tool in (TOOL, DOMAIN_TOOL):
        text = tool.read_text()
        assert ' tool_type="interactive"' in text
        (plain / tool.name).write_text(text.replace(' tool_type="interactive"', ""))
    tools = [folder / tool.name for folder in (FOLDER, plain) for tool in (TOOL, DOMAIN_TOOL)]
    # BioToolsValid asks a server; everything else is looked at here.
    command = [galaxys_python.with_name("planemo"), "--directory", tmp_path, "lint", "--skip", "BioToolsValid", *tools]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert not re.findall(r"^.*(?:WARNING|ERROR).*$", said.stdout, re.MULTILINE), said.stdout
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count("Linting tool") == len(tools)


def test_the_tool_has_the_packages_version_and_its_help_a_picture() -> None:
    macros = (FOLDER / "macros.xml").read_text()
    version = Version(cxg_proxy.__version__).public  # an image's tag cannot hold the digest of a build
    assert f'<token name="@TOOL_VERSION@">{version}</token>' in macros
    assert re.findall(r"--tag cxg-proxy:(\S+) ", (FOLDER / "Dockerfile").read_text()) == [version]
    assert re.findall(r"--tag cxg-proxy:(\S+) ", (FOLDER / "README.md").read_text()) == [version]
    (picture,) = re.findall(r"\$PATH_TO_IMAGES/(\S+)", macros)
    assert (FOLDER / "static" / "images" / picture).read_bytes().startswith(b"\x89PNG")


# --- the form


def test_galaxy_offers_the_columns_and_embeddings_that_the_dataset_has(galaxy: Galaxy) -> None:
    with pytest.raises(Refused) as refused:
        galaxy.job({"show": {"cell_names": "nope", "gene_names": "nope", "embeddings": ["nope"]}})
    offered = {
        name: set(re.findall(r"valid options: (.*)\)", why)[0].split(",")) for name, why in refused.value.fields.items()
    }
    assert offered["show|cell_names"] == {"index", "barcode", "bulk_labels", "phase", "n_genes", "percent_mito"}
    assert offered["show|gene_names"] == {"index", "gene_id", "n_counts"}
    assert offered["show|embeddings"] == {"X_umap", "X_pca"}


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"title": "x" * 201}, "title"),
        ({"show": {"layer": "x" * 201}}, "show|layer"),
        ({"use": {"idle_minutes": -1}}, "use|idle_minutes"),
        ({"use": {"idle_minutes": "1; id"}}, "use|idle_minutes"),
        ({"results": ["labels", "everything"]}, "results"),
        ({"results": None}, "results"),
        ({"results": ""}, "results"),
    ],
)
def test_galaxy_refuses_what_makes_no_sense(galaxy: Galaxy, form: dict[str, object], field: str) -> None:
    with pytest.raises(Refused) as refused:
        galaxy.job(form)
    assert list(refused.value.fields) == [field]


def test_an_untouched_form_asks_the_gateway_for_no_more_than_it_must(galaxy: Galaxy) -> None:
    job = galaxy.job(name="blood cells")
    assert job.options == {"title": "blood cells", "viewer_options": {}}
    assert words(job.command) == [*PLAIN, str(DATA / "pbmc.h5ad")]
    assert "cat " not in job.command
    assert job.outputs == ["labels", "gene_sets"]


def test_every_choice_reaches_the_gateway(galaxy: Galaxy) -> None:
    form = {
        "title": "Zellen",
        "show": {
            "cell_names": "barcode",
            "gene_names": "gene_id",
            "layer": "lognorm",
            "embeddings": ["X_pca", "X_umap"],
            "diffexp": False,
        },
        "use": {"read_only": True, "idle_minutes": 0},
        "results": ["h5ad"],
        "check": "true",
    }
    job = galaxy.job(form, labels=DATA / "cell-labels.csv", gene_sets=DATA / "gene-sets.csv")
    assert job.options == {
        "title": "Zellen",
        "viewer_options": {
            "obs_names": "barcode",
            "var_names": "gene_id",
            "layer": "lognorm",
            "embeddings": ["X_pca", "X_umap"],
            "disable_diffexp": True,
        },
    }
    more = {"--annotated=results/annotated.h5ad", "--read-only", "--shutdown-when-idle-seconds=0", "--check"}
    assert more < set(words(job.command))
    assert f"cat {DATA}/cell-labels.csv > annotations/cell-labels.csv" in job.command
    assert f"cat {DATA}/gene-sets.csv > annotations/gene-sets.csv" in job.command
    assert job.outputs == ["annotated"]


def test_every_job_has_a_token_of_its_own_in_its_address(galaxy: Galaxy) -> None:
    jobs = [galaxy.job(), galaxy.job(), galaxy.job(tool=DOMAIN_TOOL)]
    tokens = {re.fullmatch(r"\?token=([\w-]{32})", job.entry_point["url"]) for job in jobs}
    assert len({token[1] for token in tokens if token}) == len(jobs)
    for job in jobs:
        assert job.entry_point["port"] == "8888"
        path, _, query = job.environment["CXG_GALAXY_ENTRY_POINT"].partition("?")
        assert f"?{query}" == job.entry_point["url"]
        below = r"/" if job.tool == DOMAIN_TOOL else r"/interactivetool/ep/\w+/\w+/"
        assert re.fullmatch(below, path)
        assert job.entry_point["requires_domain"] is (job.tool == DOMAIN_TOOL)


def test_no_secret_is_on_the_command_line_or_in_the_options(galaxy: Galaxy) -> None:
    job = galaxy.job()
    secrets = [job.environment["CXG_GALAXY_API_KEY"], job.entry_point["url"].partition("=")[2]]
    assert all(len(secret) >= 32 for secret in secrets)
    for secret in secrets:
        assert secret not in job.command + str(job.options)
    assert job.environment["CXG_GALAXY_URL"] == "https://galaxy.example.org/"
    assert re.fullmatch(r"[0-9a-f]{16}", job.environment["CXG_GALAXY_HISTORY_ID"])


# --- hostile forms and names


@settings(max_examples=40, deadline=None)
@given(title=any_text, layer=any_text, name=any_text)
def test_whatever_is_typed_arrives_as_it_was_and_only_in_the_options(
    galaxy: Galaxy, title: str, layer: str, name: str
) -> None:
    job = galaxy.job({"title": title, "show": {"layer": layer}}, name=name)
    assert job.options["title"] == (title or name or "Unnamed dataset")  # Galaxy's own word
    assert job.options["viewer_options"] == ({"layer": layer} if layer else {})
    assert words(job.command) == [*PLAIN, str(DATA / "pbmc.h5ad")]


@settings(max_examples=15, deadline=None)
@given(check=any_text)
def test_the_hidden_field_says_nothing_but_true(galaxy: Galaxy, check: str) -> None:
    assert ("--check" in words(galaxy.job({"check": check}).command)) is (check == "true")
