"""cellxgene's own application on top of a dataset; the only package that imports `server`."""
