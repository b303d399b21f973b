"""What `cxg-proxy` does beside running the gateway: `annotations` and `prepare`."""
