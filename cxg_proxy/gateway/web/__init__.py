"""HTTP: handlers by noun, routes, security, forwarding."""
