"""The Jupyter door: it describes this user's gateway and its launcher tile to jupyter-server-proxy."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from importlib import resources
from typing import Any

from cxg_proxy.errors import CannotListen
from cxg_proxy.gateway.sockets import private_folder

START_SECONDS = 60.0  # the gateway answers in less than one, but a busy node's cold disk may need far longer
# Not `-m`, which looks for modules in the current folder first: that is the user's, and may hold a `json.py`.
RUN = "import sys; sys.path[:] = filter(None, sys.path); from cxg_proxy.__main__ import main; sys.exit(main())"
# Addresses that a page polls by itself. If they counted as use, an open tab would keep an idle server alive forever.
POLLED = ("api/find", "api/health", "api/instances", "api/progress/", "metrics")


def setup() -> dict[str, Any]:
    """Describe the server `cellxgene`; an exception here would make its tile disappear without a word."""
    return {
        "command": command,
        "unix_socket": _socket(),
        "timeout": START_SECONDS,
        "new_browser_tab": os.environ.get("CXG_PROXY_NEW_BROWSER_TAB", "1").lower() not in ("0", "false", "no"),
        "mappath": escape_path,
        "update_last_activity": is_activity,
        "launcher_entry": {
            "title": "cellxgene",
            "category": "Notebook",
            "icon_path": str(resources.files("cxg_proxy.gateway.pages") / "static" / "icon.svg"),
        },
    }


def command(unix_socket: str) -> list[str]:
    """Return the gateway's command line; the Jupyter server calls this at the first request."""
    words = [
        *(sys.executable, "-c", RUN),
        f"--socket={unix_socket}",
        f"--root={_root()}",
        "--shutdown-when-idle-seconds=0",  # jupyter-server-proxy never restarts a process that ended with status 0
    ]
    if prefix := share_prefix():
        words.append(f"--share-prefix={prefix}")
    if os.environ.get("BINDER_LAUNCH_HOST"):  # where every home is a copy of one repository
        words.append("--Gateway.share_home=True")
    return [_literal(word) for word in words]


def share_prefix() -> str:
    """Return the address at which a Binder or a hub sends each visitor to their own server; "" if there is neither."""
    if binder := os.environ.get("BINDER_LAUNCH_HOST"):  # its hub refuses visitors who come directly
        launch = os.environ.get("BINDER_PERSISTENT_REQUEST") or os.environ.get("BINDER_REQUEST")
        return f"{binder.rstrip('/')}/{launch}?urlpath=cellxgene/" if launch else ""
    base = os.environ.get("JUPYTERHUB_BASE_URL", "")
    # A hub that gives each user a domain has its own domain in JUPYTERHUB_HOST.
    return f"{os.environ.get('JUPYTERHUB_HOST', '')}{base}hub/user-redirect/cellxgene/" if base else ""


def escape_path(path: str) -> str:
    """Escape `?` and `#` in a path: jupyter-server-proxy decodes a path but leaves these two bare, which cuts it."""
    return path.replace("?", "~3F").replace("#", "~23")


def is_activity(handler: Any) -> bool:
    """Whether a request shows that a person is active; a server without activity is culled."""
    path = str(handler.path_args[0]).lstrip("/")
    return handler.request.method not in ("GET", "HEAD") or not path.startswith(POLLED)


def _literal(word: str) -> str:
    """Escape braces: jupyter-server-proxy runs `str.format` over every word, and a folder may be called `{x}`."""
    return word.replace("{", "{{").replace("}", "}}")


def _root() -> str:
    from jupyter_server.serverapp import ServerApp  # noqa: PLC0415 - heavy, and already loaded where this runs

    return str(ServerApp.instance().root_dir) if ServerApp.initialized() else os.getcwd()


def _socket() -> str | bool:
    """Return a socket in a private folder that is removed with this server.

    A socket that jupyter-server-proxy makes would stay behind. Return True, to let it make one, if this fails.
    """
    block = contextlib.ExitStack()
    try:
        folder = block.enter_context(private_folder())
    except (CannotListen, OSError):
        return True  # jupyter-server-proxy makes one, or reports why it cannot
    atexit.register(block.close)
    return str(folder / "gateway")
