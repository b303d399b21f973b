"""Processes: one child as a block, the fork server, one instance per dataset, side jobs."""
