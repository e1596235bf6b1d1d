"""Loading of images as NumPy arrays: published datasets, array files, IDX files, image folders."""
