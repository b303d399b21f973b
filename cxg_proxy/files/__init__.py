"""Durable files: whole at every instant, locked and private; and calls to a disk that may hang."""
