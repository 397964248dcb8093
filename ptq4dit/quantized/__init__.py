"""Quantized linear layers and the conversion of a float DiT."""
