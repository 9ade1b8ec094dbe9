"""fastload measured beside its peers; see README.md. Not part of the installed package."""
