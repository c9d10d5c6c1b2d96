"""Sockets: listening, waiting, reading and writing. Knows no model, no application and no protocol."""
