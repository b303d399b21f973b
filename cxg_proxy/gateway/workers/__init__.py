"""The processes that work for the gateway: the fork server, one worker per dataset, side jobs."""
