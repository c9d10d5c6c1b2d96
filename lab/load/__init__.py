"""Making load on a server, and what is read from the server meanwhile."""
