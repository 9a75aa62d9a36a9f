"""What a person touches: the command line, settings, and the composition root."""

__version__ = "0.1.0"
