"""The supervisor of one user: it lists datasets, runs their viewers and passes requests on."""
