"""What of this room runs in the jail: the composition root lets it."""

from stages.abstracts import reading, sheet

ABSTRACTING = (reading, sheet)
