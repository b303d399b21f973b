"""The entry point of `cxg-proxy` and of `python -m cxg_proxy`."""

from __future__ import annotations

import sys

from cxg_proxy.doors import early_socket

from . import __version__

# Each branch imports only what it needs. Galaxy asks for the version before it starts its tool, and by then it already
# shows the tool's link. So neither the version nor the listening socket may wait for an import.


def main(argv: list[str] | None = None) -> None:
    """Run the gateway (for `galaxy`, with the options of that door), or the command `annotations` or `prepare`."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments == ["--version"]:
        sys.stdout.write(f"{__version__}\n")
        return
    if arguments[:1] == ["annotations"]:
        from cxg_proxy.commands import annotations  # noqa: PLC0415 - see above

        sys.exit(annotations.main(arguments[1:]))
    if arguments[:1] == ["prepare"]:
        from cxg_proxy.commands import prepare  # noqa: PLC0415 - see above

        sys.exit(prepare.main(arguments[1:]))
    if arguments[:1] == ["galaxy"]:
        sockets = early_socket.listening(arguments[1:])
        from cxg_proxy.doors import galaxy  # noqa: PLC0415 - see above

        galaxy.main(arguments[1:], sockets)
    else:
        from cxg_proxy.gateway.app import launch  # noqa: PLC0415 - see above

        launch(arguments)


if __name__ == "__main__":
    main()
