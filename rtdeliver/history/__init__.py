"""The events of some topics, kept in one order for each topic."""
