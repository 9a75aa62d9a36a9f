"""What is done to a document: one file a stage, each readable alone."""
