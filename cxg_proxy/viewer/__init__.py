"""The worker: cellxgene, unchanged in appearance, served to one user for one dataset on a unix socket."""
