"""What an ARM core would take, estimated on a machine that has none."""
