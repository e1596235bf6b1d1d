"""Training: the objective, the compiled step, the loop and the defaults."""
