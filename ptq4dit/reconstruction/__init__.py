"""Learn rounding and scales of a quantized model block by block, from a closed form start or from scratch."""
