"""The quantization methods, one recipe a file, behind one registry: `METHODS` and `quantize`."""
