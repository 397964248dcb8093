"""The charts of the Learn tab: arrays in, a Plotly figure out."""
