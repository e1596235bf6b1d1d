"""Models and encoders on the Hugging Face Hub."""
