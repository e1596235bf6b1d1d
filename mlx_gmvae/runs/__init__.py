"""Files of a run: models, states, folders."""
