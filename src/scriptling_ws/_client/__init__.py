"""The client: from a URL to an open connection."""
