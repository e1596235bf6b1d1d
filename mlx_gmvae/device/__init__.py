"""Where the arithmetic runs: BLAS, cores, processes, random state.

Imports nothing of MLX by itself, since a fast BLAS must be loaded first.
"""
