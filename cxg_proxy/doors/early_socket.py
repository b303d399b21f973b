"""An early socket, which listens before anything else is loaded.

A host may show its link at once, and a user who follows it must not be refused. Until the gateway answers, connections
wait in the kernel.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

WAITING = 128  # connections that may wait


def listening(arguments: Sequence[str]) -> list[socket.socket]:
    """Listen on the --ip and --port of a command line; returns no socket if it names no port, or one that is taken."""
    options = dict(word[2:].partition("=")[::2] for word in arguments if word.startswith(("--ip=", "--port=")))
    port = options.get("port", "")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        return []
    try:
        listens = socket.create_server((options.get("ip", "127.0.0.1"), int(port)), backlog=WAITING)
    except OSError:  # the gateway reports it better
        return []
    listens.setblocking(False)
    return [listens]
