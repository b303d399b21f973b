"""The column store of a dataset: its format, its cache, and how it is built."""
