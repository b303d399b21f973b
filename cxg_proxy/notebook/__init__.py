"""The notebook functions: `labels`, `gene_sets`, `annotate`, `save_labels` and `show`."""
