"""A JupyterHub whose users look at single-cell datasets with cellxgene: a model to copy from. `make demo` runs it.

On a real hub, install `jupyterhub` and `configurable-http-proxy` for the hub, and into the environment of the users'
servers `jupyterlab` and `cxg-proxy[viewer]`; then run that environment's `python -m cxg_proxy.viewer compile`. The tile
shows without any further setting. What the datasets are, and everything else about the viewers, is set in
`cxg_proxy_config.py` beside this file, not here.

The Littlest JupyterHub has a configuration of its own and needs none of this file:
    sudo -E /opt/tljh/user/bin/python -m pip install 'cxg-proxy[viewer]'
    sudo -E /opt/tljh/user/bin/python -m cxg_proxy.viewer compile
    sudo install -D -m 644 cxg_proxy_config.py /opt/tljh/user/etc/jupyter/cxg_proxy_config.py
Servers that run already show the tile after their next start.
"""

import sys
from pathlib import Path

c = get_config()

# --- Who may log in: everybody with an account on this machine (PAM). Name some users instead where that is too many.
c.JupyterHub.authenticator_class = "pam"
c.Authenticator.allow_all = True
# c.Authenticator.allowed_users = {"ana", "ben"}

# --- Where the hub listens: behind a web server that adds HTTPS, only on this machine.
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
# Where users do not trust each other, give each a domain of their own (needs *.hub.example.org in the DNS and in the
# certificate): without it, the browser takes pages of all users for pages of one site.
# c.JupyterHub.subdomain_host = "https://hub.example.org"

# --- What each user gets: a server as their own unix account, so that file permissions decide what they may read.
c.JupyterHub.spawner_class = "localprocess"
c.Spawner.cmd = [str(Path(sys.executable).with_name("jupyterhub-singleuser"))]  # or the one of the users' environment
c.Spawner.default_url = "/lab"  # "/tree" for Notebook 7, "/cellxgene/" to come straight to the datasets
c.Spawner.start_timeout = 120  # seconds; a busy machine is slow
c.Spawner.http_timeout = 120
# The viewers are processes of the user's server: a limit of the server's memory is theirs too, and holds for cellxgene
# kept loaded (150 MB) and for what prepares a dataset (1.3 GB). The limit of a single viewer is
# `c.Gateway.memory_limit` in cxg_proxy_config.py. Containers need the datasets and the shared cache, read-only, at the
# paths where they were prepared, and a disk for ~/.cache that outlasts them.
# c.Spawner.mem_limit = "16G"  # heeded by systemdspawner, dockerspawner and kubespawner, not by localprocess

# --- Open cellxgene inside JupyterLab rather than in a browser tab of its own:
# c.Spawner.environment = {"CXG_PROXY_NEW_BROWSER_TAB": "0"}

# --- Stop servers that nobody has used for an hour (pip install jupyterhub-idle-culler). A viewer in a visible browser
# tab counts as use; one in a hidden tab does not, and opens again when it is wanted.
# c.JupyterHub.load_roles = [
#     {
#         "name": "idle-culler",
#         "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
#         "services": ["idle-culler"],
#     }
# ]
# c.JupyterHub.services = [
#     {"name": "idle-culler", "command": [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=3600"]}
# ]

# --- A server that runs only cellxgene, without JupyterLab and so without a terminal:
# c.Spawner.cmd = [
#     *("jupyter", "standaloneproxy", "--unix-socket=True", "--timeout=60", "--"),
#     *("cxg-proxy", "--socket={unix_socket}", "--share-prefix=/hub/user-redirect/"),
# ]
# It tells the hub every five minutes that it is in use, even when nobody looks. The culler above therefore never stops
# it; let it stop by its age instead: add "--cull-every=600" and "--max-age=43200" to the culler's command.
