"""The labels as their page shows them: timeline, recognition, uploads, outbox."""
