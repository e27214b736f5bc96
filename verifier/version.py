"""The version, in one place (the build reads it from here; asking the installer's records costs 30 ms)."""

VERSION = "0.1.0"
