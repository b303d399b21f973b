"""The pages of the gateway: plain data in, HTML out."""
