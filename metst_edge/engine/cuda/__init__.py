"""ME-TST and ME-TST+ on an NVIDIA GPU without TensorRT: `library` calls the fused step, `runtime` is the engine."""
