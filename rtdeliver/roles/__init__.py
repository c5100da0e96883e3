"""How each role is put together: one module for each, and the parts that all have."""
