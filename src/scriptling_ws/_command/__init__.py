"""The command line, `scriptling-ws`: a server from a setup script, and what else it can do."""
