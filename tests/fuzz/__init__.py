"""Fuzz targets under libFuzzer with sanitizers, and their corpus."""
