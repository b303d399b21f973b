"""A dataset as the viewer holds it: metadata and expression, from a store or from the file."""
