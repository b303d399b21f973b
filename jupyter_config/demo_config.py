"""What the demo's hub does differently from the model: invented accounts, a folder of its own, ports beside each other.

`demo.py` starts it. Both accounts run as the same unix user, so this is no model for a hub of people.
"""

import os
from pathlib import Path

c = get_config()
load_subconfig("jupyterhub_config.py", str(Path(__file__).parent))

folder = Path(os.environ["DEMO_FOLDER"])
port = int(os.environ["PORT"])

c.JupyterHub.bind_url = f"http://127.0.0.1:{port}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{port + 1}"
c.JupyterHub.hub_port = port + 2

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["PASSWORD"]
c.Authenticator.allow_all = False
c.Authenticator.allowed_users = {"ana", "ben"}

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = (
    str(folder / "homes").replace("{", "{{").replace("}", "}}") + "/{username}"
)
# The servers find cxg_proxy_config.py there.
c.Spawner.environment = {"JUPYTER_CONFIG_PATH": str(folder / "etc")}
