"""Custom parts: the shared controls and the HTML parts with their own template, style and script."""
