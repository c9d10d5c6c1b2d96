"""`lab advise`: one's own application behind each model, under one load; what differs, at which price, and why."""
