"""The five functions for notebooks."""
