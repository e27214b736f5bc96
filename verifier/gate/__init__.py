"""The gate: requirements that a repository states about its networks, decided as a build status."""
