"""The harness of `make test-galaxy` itself, where it cannot even begin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_what_cannot_be_set_up_ends_the_run_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    own = {"CXG_GALAXY_CACHE": str(tmp_path / "cache"), "CXG_ARTEFACTS": str(tmp_path / "artefacts")}
    command = [sys.executable, "-m", "pytest", "--capture=no", "--tb=short", "-p", "no:cacheprovider", "tests/galaxy"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **own}, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert said.count("The tests cannot begin, because what Galaxy is made of cannot be set up: ") == 1, said
    assert str(tmp_path / "artefacts" / "cannot-begin.log") in said
    assert "Traceback" not in said
    assert not [line for line in said.splitlines() if line.startswith(("ERROR", "FAILED", "E  "))], said
    assert "FileExistsError" in (tmp_path / "artefacts" / "cannot-begin.log").read_text()
