"""The ``rtdeliver`` command: settings, tokens, and a first session without curl."""
