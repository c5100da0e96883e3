"""Settings: what can be set, how settings are read, and which values fit together."""
