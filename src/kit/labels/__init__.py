"""Images with class labels: pictures, prediction files and the exported module."""
