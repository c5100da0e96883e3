"""Which topics have viewers: told when they get their first one and lose their last one."""
