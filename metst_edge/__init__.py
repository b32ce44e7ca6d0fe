"""Micro-expression spotting and recognition on edge devices."""
