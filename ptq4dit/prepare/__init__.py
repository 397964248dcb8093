"""All that the explorer shows of a model, made once: one stage a file, each resumable."""
