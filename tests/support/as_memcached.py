"""This lab's server behind memcached's command line, for memcached's own tests.

They start `memcached-debug -p PORT -U PORT -u root -m 64 ...` and look into its help for what it can do: one that
does not speak of sockets of the file system gets a TCP port. Options that the lab has no equal for are ignored.
"""

import os
import sys

HELP = "memcached 1.6: the lab's server, for memcached's own tests"


def port_in(options):
    """The argument of -p."""
    return options[options.index("-p") + 1]


def main():
    """Print the help, or become the server."""
    options = sys.argv[1:]
    if "-h" in options:
        print(HELP)
        return
    arguments = ["memcached", "--protocol", "memcache", "--port", port_in(options), "--admin-port", "0"]
    os.execv(sys.executable, [sys.executable, "-m", "services", *arguments, "--metrics", "off"])


if __name__ == "__main__":
    main()
