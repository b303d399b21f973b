"""The hub of the tests: the model configuration with throw-away accounts, on free ports."""

import json
import os
from pathlib import Path

c = get_config()
said = json.loads(os.environ["HUB_TEST"])
load_subconfig("jupyterhub_config.py", str(Path(said["model"]).parent))

public, api, hub = said["ports"]
c.JupyterHub.bind_url = f"http://127.0.0.1:{public}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{api}"
c.JupyterHub.hub_port = hub

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = said["password"]
c.Authenticator.allow_all = False
c.Authenticator.allowed_users = set(said["users"])

if not said["unix_users"]:
    c.JupyterHub.spawner_class = "simple"
    c.SimpleLocalProcessSpawner.home_dir_template = said["homes"] + "/{username}"
c.Spawner.environment = said["environment"]


def only_the_viewer(spawner):
    """One account gets the model's server without JupyterLab."""
    if spawner.user.name == said["alone"]:
        spawner.cmd = said["alone_command"]
        spawner.default_url = ""


c.Spawner.pre_spawn_hook = only_the_viewer

c.JupyterHub.services = [{"name": "tests", "api_token": said["token"]}]
scopes = ["admin:users", "admin:servers", "tokens"]
c.JupyterHub.load_roles = [{"name": "tests", "services": ["tests"], "scopes": scopes}]
