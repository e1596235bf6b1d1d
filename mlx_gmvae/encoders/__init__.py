"""Pretrained image encoders: found on disk or on the Hugging Face Hub, and run in MLX."""
