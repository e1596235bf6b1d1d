"""What the four scripts share: flags, what is made of them, how they behave."""
