"""A dataset as the viewer holds it: its metadata and expression, from a store or from the file."""
