"""Durable files on disks that may hang: written atomically, locked and private."""
