"""zobnn-edge: binary neural networks on microcontrollers, hardened against memory bit flips and measured."""

from __future__ import annotations

__version__ = "0.1.0"
