"""The machine and the process: BLAS, cores, other processes, random state, signals.

Imports nothing of MLX by itself, since a fast BLAS must be loaded first.
"""
