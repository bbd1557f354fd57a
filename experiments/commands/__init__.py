"""The commands: options, one call of the library, what is printed. Nothing imports from here."""
