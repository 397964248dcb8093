"""Charts of the Methods tab."""
