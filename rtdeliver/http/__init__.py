"""How HTTP requests are served and made, whatever they are about."""
