"""What roi_flow.py measures: patches of a crop, and the features of a frame."""
