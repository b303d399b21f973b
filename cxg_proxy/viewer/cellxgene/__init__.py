"""cellxgene's Flask application on top of a dataset."""
