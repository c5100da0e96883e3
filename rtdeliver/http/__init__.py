"""HTTP: how requests are served and made here, whatever they are about."""
