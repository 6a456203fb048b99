"""Kernels of misa-prof from Python, both ways: our indexers on tensors (Indexer), and functions of Python as kernels of
the program (misa.host)."""

from .indexer import Indexer
from .windows import PagedKeys, Windows

__all__ = ["Indexer", "PagedKeys", "Windows"]
