"""A dataset as its author wrote it: an .h5ad file and how to read it."""
