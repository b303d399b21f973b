"""A dataset as its author wrote it: an .h5ad file."""
