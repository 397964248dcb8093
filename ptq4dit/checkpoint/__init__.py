"""Quantized models as files: packed folders, their manifest, the hub."""
