"""Listens before anything else is loaded: where a host shows a link at once, whoever follows it must not be refused.

Who connects meanwhile waits in the kernel until the gateway answers.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

WAITING = 128  # connections that may wait


def listening(arguments: Sequence[str]) -> list[socket.socket]:
    """Sockets on --ip and --port as a command line says them; none where it names no port, or one that is taken."""
    said = dict(word[2:].partition("=")[::2] for word in arguments if word.startswith(("--ip=", "--port=")))
    port = said.get("port", "")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        return []
    try:
        listens = socket.create_server((said.get("ip", "127.0.0.1"), int(port)), backlog=WAITING)
    except OSError:  # which the gateway says better
        return []
    listens.setblocking(False)
    return [listens]
