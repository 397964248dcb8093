"""Who runs: one file for each runtime."""
