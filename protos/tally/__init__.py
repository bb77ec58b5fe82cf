"""Generated packages by version; see the .proto files."""
