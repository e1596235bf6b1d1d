"""Runs on disk: models, training states, run folders."""
