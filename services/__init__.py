"""Five ways to accept a connection, serving one application. See README.md beside this file."""
