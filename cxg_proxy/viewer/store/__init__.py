"""The column store of a dataset: its format, its cache and its build."""
