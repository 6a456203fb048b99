"""Kernels of misa-prof from Python, both ways."""
