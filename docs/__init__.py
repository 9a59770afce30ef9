"""The pages of this folder, and what generates their parts from the code."""
