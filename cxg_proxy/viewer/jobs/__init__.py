"""What else a child of the gateway does: annotate, check, summarize, build a store."""
