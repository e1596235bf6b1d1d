"""Images in, as NumPy arrays: published sets, array files, folders of IDX files."""
