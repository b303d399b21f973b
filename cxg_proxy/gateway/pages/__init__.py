"""Plain data in, HTML out."""
