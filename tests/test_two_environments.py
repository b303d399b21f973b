"""The gateway and the viewer in environments of their own, neither of which has what the other needs."""

import site
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import cxg_proxy
from datasets import write_dataset
from gateways import Worker, running_gateway
from waiting import until_now

pytestmark = pytest.mark.timeout(120)
GATEWAY_NEEDS = ["tornado", "traitlets", "jupyter_core", "platformdirs", "multipart", "cxg-proxy"]


def environment(folder: Path) -> tuple[Path, Path]:
    """A new virtual environment: its Python and its folder of packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    return folder / "bin" / "python", packages


def link(packages: Path, *distributions: str) -> None:
    """Put distributions of this environment into another one."""
    for name in distributions:
        for file in metadata.files(name) or []:
            top = file.parts[0]
            source = Path(str(metadata.distribution(name).locate_file(top)))
            if top != ".." and not (packages / top).exists() and source.exists():
                (packages / top).symlink_to(source)
        if name == "cxg-proxy" and not (packages / "cxg_proxy").exists():  # an editable install
            (packages / "cxg_proxy").symlink_to(Path(cxg_proxy.__file__).parent)


@pytest.fixture(scope="module")
def gateway_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    python, packages = environment(tmp_path_factory.mktemp("gateway") / "env")
    link(packages, *GATEWAY_NEEDS)
    return str(python)


@pytest.fixture(scope="module")
def viewer_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    python, packages = environment(tmp_path_factory.mktemp("viewer") / "env")
    (packages / "all.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path) + "\n")
    (packages / "cxg_proxy").symlink_to(Path(cxg_proxy.__file__).parent)
    return str(python)


def has(python: str, module: str) -> bool:
    """Whether an environment can import a module."""
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False, cwd="/").returncode == 0


@pytest.mark.hazard(25)
def test_the_viewer_may_live_in_an_environment_of_its_own(
    gateway_python: str, viewer_python: str, tmp_path: Path
) -> None:
    assert not has(gateway_python, "server")
    assert not has(gateway_python, "numpy")
    assert has(viewer_python, "server")
    write_dataset(tmp_path / "data" / "pbmc.h5ad")
    with running_gateway(tmp_path, python=viewer_python, by=gateway_python) as gateway:
        address = gateway.open("data/pbmc.h5ad")
        assert gateway.get(address + "api/v0.2/schema").json["schema"]["dataframe"]["nObs"] == 30
        (worker,) = [each for each in gateway.workers() if "serve" in each.cmdline()]
        assert worker.ppid() != gateway.process.pid  # forked by the parent, in the viewer's environment
        assert f"{viewer_python} -m cxg_proxy.viewer preload" in " ".join(Worker(worker.ppid()).cmdline())
        until_now(lambda: gateway.get("/api/datasets").json["datasets"][0]["cells"] == 30)


def test_a_gateway_without_any_viewer_says_how_to_install_one(gateway_python: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "pbmc.h5ad")
    with running_gateway(tmp_path, python=gateway_python, by=gateway_python) as gateway:
        gateway.get("/view/data/pbmc.h5ad/", Accept="text/html")
        until_now(lambda: gateway.phase("data/pbmc.h5ad") == "failed", seconds=30)
        page = gateway.get("/view/data/pbmc.h5ad/", Accept="text/html")
        assert page.status == 503
        assert "The viewer is not installed" in page.text
        assert f"{gateway_python} -m pip install" in page.text


def test_another_version_in_the_viewers_environment_is_said_plainly(
    viewer_python: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    python, packages = environment(tmp_path_factory.mktemp("older") / "env")
    source = Path(cxg_proxy.__file__).parent
    (packages / "cxg_proxy").mkdir()
    for each in source.iterdir():
        if each.name != "__init__.py":
            (packages / "cxg_proxy" / each.name).symlink_to(each)
    (packages / "cxg_proxy" / "__init__.py").write_text('__version__ = "0.0.9"\n')
    (packages / "all.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    write_dataset(tmp_path / "data" / "pbmc.h5ad")
    with running_gateway(tmp_path, python=str(python)) as gateway:
        gateway.get("/view/data/pbmc.h5ad/", Accept="text/html")
        until_now(lambda: gateway.phase("data/pbmc.h5ad") == "failed", seconds=30)
        assert f"0.0.9 there, {cxg_proxy.__version__} here" in gateway.get("/view/data/pbmc.h5ad/").text
