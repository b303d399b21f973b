"""What setup.cfg cannot say: the version of a build between two releases, and the README as a package index shows it.

`cxg_proxy/__init__.py` holds the version. While that is one of development, each build adds a digest of what it packs,
so that a gateway notices a viewer of another commit. This needs neither git nor tags: a tarball has none.
"""

import hashlib
import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGE = Path(__file__).resolve().parent / "cxg_proxy"
INIT = PACKAGE / "__init__.py"
ASSIGNED = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
NOT_PACKED = {"__pycache__", "labextension"}  # an image's build lacks the sources of JupyterLab's extension

REPOSITORY = "cxg-proxy/cxg_proxy"
PICTURE = re.compile(r"(!\[[^\]]*\]\()(?!https?:)")
LINK = re.compile(r"(\]\()(?!https?:|#)")


def version() -> str:
    """The version of this build."""
    found = ASSIGNED.search(INIT.read_text())
    if not found:
        raise SystemExit(f"{INIT} does not say its version")
    return f"{found[1]}+{digest()}" if ".dev" in found[1] else found[1]


def digest() -> str:
    """Ten letters that change with any file of the package."""
    files = {each.relative_to(PACKAGE): each for each in PACKAGE.rglob("*") if each.is_file()}
    packed = {name.as_posix(): file.read_bytes() for name, file in files.items() if not NOT_PACKED & {*name.parts}}
    lines = [f"{hashlib.sha256(packed[name]).hexdigest()} {name}\n" for name in sorted(packed)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:10]


def description() -> str:
    """The README with whole addresses: a package index has neither its pictures nor the files that it links to."""
    text = (PACKAGE.parent / "README.md").read_text()
    ref = "HEAD" if ".dev" in version() else f"v{version()}"
    text = PICTURE.sub(rf"\1https://raw.githubusercontent.com/{REPOSITORY}/{ref}/", text)
    return LINK.sub(rf"\1https://github.com/{REPOSITORY}/blob/{ref}/", text)


class BuildPy(build_py):
    """Packs the modules, of which the first says the version that the metadata have."""

    def run(self) -> None:
        """Pack them. An editable installation uses the sources as they are."""
        super().run()
        if not self.editable_mode:
            packed = Path(self.build_lib) / PACKAGE.name / INIT.name
            packed.write_text(ASSIGNED.sub(f'__version__ = "{version()}"', INIT.read_text()))


setup(
    version=version(),
    long_description=description(),
    long_description_content_type="text/markdown",
    cmdclass={"build_py": BuildPy},
)
