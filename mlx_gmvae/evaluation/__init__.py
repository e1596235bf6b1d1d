"""Evaluation: scores of trained models, and their outputs for sets of images."""
