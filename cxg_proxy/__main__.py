"""`cxg-proxy`, and `python -m cxg_proxy`."""

from __future__ import annotations

import sys

from cxg_proxy.doors import early_socket

from . import __version__

# Each way loads what it needs. Galaxy asks for the version before it starts its tool, while it shows the tool's link
# already: of the two, neither waits for anything to be loaded.


def main(argv: list[str] | None = None) -> None:
    """Run the gateway, also as `galaxy` wants it; or what `annotations` or `prepare` asks for."""
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
        from cxg_proxy.gateway.app import Gateway  # noqa: PLC0415 - see above

        Gateway.launch_instance(arguments)


if __name__ == "__main__":
    main()
