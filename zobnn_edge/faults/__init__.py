"""Fault models, sampling plans and statistics."""
