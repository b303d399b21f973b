"""A host's words become options of the gateway."""
