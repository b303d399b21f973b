"""The jobs of other child processes: annotate, check, summarize, build a store."""
