"""How loaders are run, measured and checked; knows no peer by name."""
