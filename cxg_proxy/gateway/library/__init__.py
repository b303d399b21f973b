"""The datasets a user may open: folders, addresses, remote copies."""
