"""What is observed of a model while it samples."""
