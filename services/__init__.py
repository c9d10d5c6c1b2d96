"""Five ways to accept a connection, serving one application. See README.md in this folder."""
