"""TensorRT on the device: `builder` makes engines of a bundle's graphs, `cache` keeps them, `runtime` runs them."""
