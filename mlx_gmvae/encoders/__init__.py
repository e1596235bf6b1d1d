"""Pretrained image encoders, loaded from disk or from the Hugging Face Hub and run in MLX."""
