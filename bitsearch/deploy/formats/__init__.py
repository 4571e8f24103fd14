"""Files for others: ONNX, NIR, a folder to publish."""
