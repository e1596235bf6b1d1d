"""Command line of the four scripts: flags, loading, output and errors."""
