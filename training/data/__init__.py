"""Training windows: from the synthetic generator, or from a labelled folder of video."""
