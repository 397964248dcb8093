"""Load a model, know its family and its layers."""
