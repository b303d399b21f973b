"""The web interface of the gateway: HTTP handlers by noun, routes, security, forwarding."""
