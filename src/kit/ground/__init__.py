"""What everything stands on: errors, files, text, threads and pictures."""
