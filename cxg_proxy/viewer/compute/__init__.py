"""The statistics of gene expression."""
