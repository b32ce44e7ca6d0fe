"""Peers side by side: run each file by itself."""
