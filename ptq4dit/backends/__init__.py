"""What executes a quantized DiT: floats that were rounded (simulated), or integer matrix products on CPU and CUDA."""
