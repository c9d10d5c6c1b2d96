"""The lab around the servers: bring them up, load them, watch them, measure them."""
