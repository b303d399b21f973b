"""What the page of labels knows: timeline, recognition, uploads, outbox."""
