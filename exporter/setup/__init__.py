"""The command `setup`: an account added to the configuration by answering questions."""
