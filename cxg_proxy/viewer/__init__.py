"""The worker: cellxgene itself, unchanged in looks, hosted for one user and one dataset on a unix socket."""
