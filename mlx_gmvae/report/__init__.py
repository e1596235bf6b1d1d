"""Figures, tables and HTML pages of results; nothing here computes results."""
