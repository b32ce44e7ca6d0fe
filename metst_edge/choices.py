"""What a user chooses among, by name, in the API and on the command line. Imports nothing: help comes at once."""

DECODERS = ("fixed", "adaptive")
"""How a peak of the spotting curve becomes an interval."""

ENGINES = ("native", "onnxruntime", "tensorrt", "cuda")
"""What runs the network; "auto" picks one."""

FACES = ("opencv", "mediapipe")
"""What finds the face; the second is an extra."""

FLOWS = ("auto", "cpu", "cuda")
"""Where optical flow is measured."""

LOG_LEVELS = ("debug", "info", "warning", "error")
"""How much of what the package logs is shown, from all to least."""

MODEL = "demo_plus"
"""The shipped model that is taken where none is named."""

MOST_THREADS = 1024
"""For a frame's flow, which has a dozen patches: more can only be a slip."""

LOWEST_RATE, HIGHEST_RATE = 1e-3, 1e5
"""Frames per second; nothing that sees a face takes more or less."""

PLOTS = (".png", ".pdf", ".svg")
"""Endings of what a score curve is drawn as."""

PRECISIONS = ("fp32", "fp16")
"""Of the network between float32 features and scores."""

SYNERGIES = ("spotting_mainly", "recognition_mainly", "none")
"""How spotting and recognition settle a disagreement (result-level synergy of ME-TST+, arXiv 2508.08082)."""
