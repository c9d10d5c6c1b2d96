"""What is counted and timed (slots, stages), and how it is shown: the admin process and its readings."""
