"""The charts of one layer: its channels, its timesteps, its quantization error."""
