"""Doors, one for each host: a door turns the settings of its host into options of the gateway."""
