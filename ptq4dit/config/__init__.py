"""What a calibration, a quantization and a reconstruction are asked to do."""
