"""A model to quantize: loading it, its layer map, its identity."""
