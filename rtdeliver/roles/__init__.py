"""How each role is put together: a module for each, and what they have in common."""
