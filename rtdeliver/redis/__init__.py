"""Redis: what its URL says, how it is reached, and how keys are spread over several."""
