"""Settings: what can be set, how it is read, and which values go together."""
