"""What end_to_end.py measures: whole clips, the start of a process, its memory."""
