"""A quantized DiT for other runtimes: an OpenVINO folder, or ONNX in its quantize-dequantize form."""
