"""Kernels of the CPU engine: arrays in, ``out`` written; they import numpy, numba and llvmlite alone."""
