"""The Jupyter door: tells jupyter-server-proxy how to start this user's gateway and what its tile looks like."""

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
# Not `-m`: that looks for modules in the current folder first, which is the user's and may hold a `json.py`.
RUN = "import sys; sys.path[:] = filter(None, sys.path); from cxg_proxy.__main__ import main; sys.exit(main())"
# What a page asks for by itself. Counted as use, an open tab would keep an idle server alive for ever.
POLLED = ("api/find", "api/health", "api/instances", "api/progress/", "metrics")


def setup() -> dict[str, Any]:
    """Describe the server `cellxgene`; an exception here would make its tile disappear without a word."""
    return {
        "command": command,
        "unix_socket": _socket(),
        "timeout": START_SECONDS,
        "new_browser_tab": os.environ.get("CXG_PROXY_NEW_BROWSER_TAB", "1").lower() not in ("0", "false", "no"),
        "mappath": whole,
        "update_last_activity": is_activity,
        "launcher_entry": {
            "title": "cellxgene",
            "category": "Notebook",
            "icon_path": str(resources.files("cxg_proxy.gateway.pages") / "static" / "icon.svg"),
        },
    }


def command(unix_socket: str) -> list[str]:
    """The gateway's command line; asked for in the Jupyter server itself, when the first request comes."""
    words = [
        *(sys.executable, "-c", RUN),
        f"--socket={unix_socket}",
        f"--root={_root()}",
        "--shutdown-when-idle-seconds=0",  # jupyter-server-proxy never starts again what has ended well
    ]
    if prefix := share_prefix():
        words.append(f"--share-prefix={prefix}")
    if os.environ.get("BINDER_LAUNCH_HOST"):  # where every home is a copy of one repository
        words.append("--Gateway.share_home=True")
    return [_literal(word) for word in words]


def share_prefix() -> str:
    """Where a Binder or a hub sends each visitor to a server of their own; "" when there is neither."""
    if binder := os.environ.get("BINDER_LAUNCH_HOST"):  # its hub lets nobody in who comes directly
        launch = os.environ.get("BINDER_PERSISTENT_REQUEST") or os.environ.get("BINDER_REQUEST")
        return f"{binder.rstrip('/')}/{launch}?urlpath=cellxgene/" if launch else ""
    base = os.environ.get("JUPYTERHUB_BASE_URL", "")
    # A hub that gives each user a domain has a domain of its own, named in JUPYTERHUB_HOST.
    return f"{os.environ.get('JUPYTERHUB_HOST', '')}{base}hub/user-redirect/cellxgene/" if base else ""


def whole(path: str) -> str:
    """Keep `?` and `#` in a name: jupyter-server-proxy decodes a path and leaves these two bare, which cuts it."""
    return path.replace("?", "~3F").replace("#", "~23")


def is_activity(handler: Any) -> bool:
    """Whether a request shows that somebody is there; a server without activity is culled."""
    asked = str(handler.path_args[0]).lstrip("/")
    return handler.request.method not in ("GET", "HEAD") or not asked.startswith(POLLED)


def _literal(word: str) -> str:
    """jupyter-server-proxy runs `str.format` over every word, and a folder may be called `{x}`."""
    return word.replace("{", "{{").replace("}", "}}")


def _root() -> str:
    from jupyter_server.serverapp import ServerApp  # noqa: PLC0415 - heavy, and loaded already where this runs

    return str(ServerApp.instance().root_dir) if ServerApp.initialized() else os.getcwd()


def _socket() -> str | bool:
    """A socket in a private folder that goes with this server; jupyter-server-proxy's own would stay behind."""
    block = contextlib.ExitStack()
    try:
        folder = block.enter_context(private_folder())
    except (CannotListen, OSError):
        return True  # jupyter-server-proxy makes one, or says why it cannot
    atexit.register(block.close)
    return str(folder / "gateway")
