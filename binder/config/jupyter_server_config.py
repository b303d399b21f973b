"""What the demo's JupyterLab shows: the notebook and its dataset rather than the sources of this project."""

from pathlib import Path

c = get_config()

c.ServerApp.root_dir = str(Path(__file__).resolve().parent.parent)
