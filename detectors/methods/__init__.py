"""One module a method; the registry imports them all."""
