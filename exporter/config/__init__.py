"""The configuration file: loading, validation, secrets and its JSON Schema."""
