"""Devices, BLAS, CPU streams, distributed training and random state.

This package does not import MLX by itself, because a fast BLAS must be loaded first.
"""
