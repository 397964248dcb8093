"""Plain arrays in, a figure out; one plot a file. No torch, no gradio, no numbers worked out here."""
