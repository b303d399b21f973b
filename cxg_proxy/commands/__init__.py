"""The commands of `cxg-proxy` that do not run the gateway: `annotations` and `prepare`."""
