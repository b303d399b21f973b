"""The library of datasets that a user may open: folders, addresses, remote copies."""
