"""Redis: where one is, how it is reached, and how keys are spread over several."""
