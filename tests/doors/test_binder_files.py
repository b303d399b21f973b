"""The files from which a Binder is made: accepted by repo2docker, pinned like all else, and true to their links."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from binder_links import CHECKOUT, DOCUMENT, NOTEBOOK, VIEWER, links, urlpath

BINDER = CHECKOUT / "binder"
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)( ; .*?)? \\$", re.MULTILINE)
BADGE = re.compile(r"\[!\[[^]]+\]\((?:binder/)?badge\.png\)\]\(([^)]+)\)")
DOCUMENTS = sorted([CHECKOUT / "README.md", DOCUMENT, *CHECKOUT.glob("docs/**/*.md")])


def pins(lock: Path) -> set[tuple[str, ...]]:
    return {(name, version) for name, version, _ in PIN.findall(lock.read_text())}


def test_repo2docker_accepts_the_files_and_uses_each(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("jupyter-repo2docker"))
    command = [program, "--no-build", "--debug", "--user-name=jovyan", "--user-id=1000", str(CHECKOUT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for line in (
        "COPY --chown=1000:1000 src/binder/requirements.txt ${REPO_DIR}/binder/requirements.txt",
        'RUN ${KERNEL_PYTHON_PREFIX}/bin/pip install --no-cache-dir -r "binder/requirements.txt"',
        "RUN ./binder/postBuild",
        'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"',
    ):
        assert re.sub(r"\s+", " ", line) in re.sub(r"\s+", " ", said), line
    assert "Building conda environment for python=3.11" in said  # as runtime.txt says
    assert "Python version unspecified" not in said


def test_every_requirement_is_pinned_by_hash_to_the_version_that_is_tested() -> None:
    text = (BINDER / "requirements.txt").read_text()
    found = pins(BINDER / "requirements.txt")
    assert {"cellxgene", "jupyterlab", "notebook", "jupyter-server-proxy", "scanpy", "setuptools"} <= dict(found).keys()
    assert found <= pins(CHECKOUT / "requirements" / "lock.txt")
    assert text.count("--hash=sha256:") >= len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(PIN.findall(text))
    assert "://" not in text
    assert not re.findall(r"^--", text, re.MULTILINE)


def test_start_sets_the_environment_and_becomes_the_server(tmp_path: Path) -> None:
    said = "import json, os, sys; print(json.dumps([os.getpid(), sys.argv[1:], dict(os.environ)])); sys.exit(7)"
    words = ["a b", "*", "$HOME", ""]
    environment = {"PATH": "/usr/bin:/bin", "JUPYTER_CONFIG_PATH": "/before"}
    command = [str(BINDER / "start"), sys.executable, "-c", said, *words]
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    output, _ = server.communicate(timeout=20)
    pid, arguments, found = json.loads(output)
    assert (pid, arguments, server.returncode) == (server.pid, words, 7)
    assert found["JUPYTER_CONFIG_PATH"] == f"{BINDER}/config:/before"
    assert found["NUMBA_CPU_NAME"] == "generic"
    assert not [*tmp_path.iterdir()]


def test_the_links_lead_to_what_the_files_make() -> None:
    assert VIEWER == "cellxgene/view/demo/pbmc68k_reduced.h5ad/"
    assert "library/pbmc68k_reduced.h5ad" in (BINDER / "postBuild").read_text()
    assert '"demo"' in (BINDER / "config" / "cxg_proxy_config.py").read_text()
    assert NOTEBOOK.startswith("lab/tree/")
    assert (BINDER / NOTEBOOK.removeprefix("lab/tree/")).is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: str(each.relative_to(CHECKOUT)))
def test_every_document_links_to_the_same_binder(document: Path) -> None:
    (where,) = {urlsplit(link).path for link in links(DOCUMENT)}
    for link in links(document):
        assert urlsplit(link).path == where
        assert urlpath(link) in {VIEWER, NOTEBOOK}


@pytest.mark.parametrize(
    "document", [CHECKOUT / "README.md", DOCUMENT], ids=lambda each: str(each.relative_to(CHECKOUT))
)
def test_the_badge_opens_the_viewer_and_a_second_link_the_notebook(document: Path) -> None:
    (badge,) = BADGE.findall(document.read_text())
    assert urlpath(badge) == VIEWER
    assert NOTEBOOK in map(urlpath, links(document))


def test_the_notebook_is_kept_without_results_and_reads_the_dataset_of_the_link() -> None:
    cells = json.loads((BINDER / "demo.ipynb").read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    source = "".join(line for cell in cells for line in cell["source"])
    assert '"library/pbmc68k_reduced.h5ad"' in source
    assert "cxg_proxy.show(dataset, height=700)" in source


def test_what_is_made_is_not_committed() -> None:
    ignored = (CHECKOUT / ".gitignore").read_text().split()
    assert {"/binder/library/", "/binder/.prepared/"} <= set(ignored)
