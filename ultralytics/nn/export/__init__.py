"""Networks written in other forms: ONNX, TorchScript, OpenVINO, plain tensors; `engine.export` checks them."""
