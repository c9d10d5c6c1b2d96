"""Workers, of either kind, and the main process that starts and watches them."""
