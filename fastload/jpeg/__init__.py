"""JPEG files: headers, seek index and partial decoding. Knows bytes, knows nothing of data sets."""
