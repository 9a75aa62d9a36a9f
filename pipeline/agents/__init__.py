"""Agents: one prompt, one answer schema, tools by grant, and a budget."""
