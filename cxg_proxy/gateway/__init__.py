"""The gateway, the supervisor of one user: it lists datasets, starts their viewers and forwards requests to them."""
