"""What fastload does for a GPU: images into its memory beside other loaders, and training beside synthetic data."""
