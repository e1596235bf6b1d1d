"""Clustering: neighbours, augmentation, the pair loss, heads, sub-clusters and their merge."""
