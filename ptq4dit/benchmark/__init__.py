"""Every method on the same noise: what is measured, how it runs, and the table of it."""
